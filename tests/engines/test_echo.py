"""The engine without a model: its artificial distribution is the documented one."""

import math

from batchgen.engines.echo import EchoEngine
from batchgen.records import Continuation
from tests.plain_decoder import PlainDecoder


def test_the_repeated_prompt_is_likely_and_everything_else_is_not() -> None:
    context = [7, 8, 9]
    endings = ([7], [7, 8], [7, 9], [5], [7, 8, 9, 7])
    continuations = [Continuation(10 + n, context, ending) for n, ending in enumerate(endings)]
    found = list(EchoEngine(PlainDecoder(str)).likelihoods(continuations))
    assert [one.index for one in found] == [10, 11, 12, 13, 14]
    assert [one.greedy for one in found] == [True, True, False, False, False]
    half, other = math.log(1 / 2), math.log(1 / 2 / 65_536)
    assert [one.logprobs for one in found] == [
        (half,),
        (half, half),
        (half, other),
        (other,),
        (half, half, half, other),
    ]
    # One half, and equal shares of the rest for each token of the vocabulary, sum to 1.
    assert math.isclose(math.exp(half) + 65_536 * math.exp(other), 1)
