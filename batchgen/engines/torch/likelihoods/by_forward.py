"""Log-probabilities of given continuations by the model's own forward, for every model and length.

Rows of equal length share a forward without padding or mask, which is correct for recurrent states, rotary switches and
encoders too. A context is computed once for each of its continuations with more than one token; `by_steps.py` computes it
only once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch

from batchgen.engines.torch.answer_logprob import last_logits
from batchgen.engines.torch.generate.call import group_by
from batchgen.engines.torch.likelihoods.branches import Branch, ContextReader, group_by_context
from batchgen.engines.torch.memory import out_of_memory, release_memory
from batchgen.engines.torch.model import LoadedModel
from batchgen.records import Continuation, Failure, Likelihood

_STEP_TOKENS = 4096
"""Most tokens of a forward of several rows: more is not faster, and the activations need memory."""
_LOGITS = 2**26
"""Most logits of a forward of several rows, in numbers: a quarter of a gigabyte in float32."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of a forward.

    Attributes:
        context: token ids.
        answer: the continuation without its last token; may be empty.
        branch: the branch of its tokens; and
        single: branches of one token, which the same logits contain.
    """

    context: Sequence[int]
    answer: Sequence[int]
    branch: Branch
    single: tuple[Branch, ...] = ()

    @property
    def branches(self) -> tuple[Branch, ...]:
        """All branches that this row completes."""
        return (self.branch, *self.single)


class ForwardLikelihoods:
    """Likelihoods by plain forwards."""

    def __init__(self, loaded: LoadedModel, should_stop: Callable[[], bool], window: int) -> None:
        """`window`: continuations that are pulled together; `should_stop`: checked between forwards."""
        self._loaded = loaded
        self._should_stop = should_stop
        self._window = window

    def likelihoods(self, asked: Iterable[Continuation]) -> Iterator[Likelihood]:
        """See `Engine.likelihoods`."""
        source = iter(asked)
        while window := list(islice(source, self._window)):
            lines = [line for item in group_by_context(window).items() for line in _lines(*item)]
            for group in group_by(lines, lambda line: (len(line.context), len(line.answer))):
                yield from self._answer(group)
                if self._should_stop():
                    return

    def _answer(self, group: list[_Line]) -> Iterator[Likelihood]:
        """Answer rows of equal length, as many at a time as fit."""
        waiting = [group]
        while waiting and not self._should_stop():
            lines = waiting.pop()
            most = self._most(lines[0])
            if len(lines) > most:
                waiting += [lines[most:], lines[:most]]
            elif self._read(lines):
                for branch in chain.from_iterable(line.branches for line in lines):
                    yield from branch.likelihoods()
            elif len(lines) > 1:
                middle = len(lines) // 2
                waiting += [lines[middle:], lines[:middle]]
            else:
                failure = _does_not_fit(lines[0], self._loaded.device)
                for branch in lines[0].branches:
                    yield from branch.failed(failure)

    def _most(self, line: _Line) -> int:
        """Most rows of this length in a forward."""
        length = len(line.context) + len(line.answer)
        logits = self._loaded.vocab_size * len(line.branch.token_ids)
        return max(1, min(_STEP_TOKENS // length, _LOGITS // logits))

    def _read(self, lines: Sequence[_Line]) -> bool:
        """Compute the rows and fill their branches; returns False if memory ran out."""
        places = len(lines[0].branch.token_ids)
        try:
            logits = last_logits(
                self._loaded, [li.context for li in lines], [li.answer for li in lines], places
            )
            reader = ContextReader()
            for line in lines:
                reader.read(line.branches, 0)
                for place in range(1, places):
                    reader.read([line.branch], place)
            reader.look(logits.flatten(0, 1))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        else:
            return True
        # Outside of the handler: the error references the frames, and with them the tensors.
        release_memory(self._loaded.device)
        return False


def _lines(context: Sequence[int], group: Sequence[Branch]) -> Iterator[_Line]:
    """The rows for a context: one for each continuation of several tokens, or one for all of one token."""
    first, *others = group
    single = tuple(branch for branch in others if len(branch.token_ids) == 1)
    yield _Line(context, first.token_ids[:-1], first, single)
    for branch in others:
        if len(branch.token_ids) > 1:
            yield _Line(context, branch.token_ids[:-1], branch)


def _does_not_fit(line: _Line, device: torch.device) -> Failure:
    return Failure(
        "out_of_memory",
        f"a context of {len(line.context):,} tokens and a continuation of {len(line.branch.token_ids):,} "
        f"do not fit in the memory of {device} even alone",
    )
