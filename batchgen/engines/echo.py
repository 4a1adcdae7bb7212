"""The engine `echo`: answers without a model, by repeating the tokens of the prompt.

A prompt that does not have the form of `decoding.response_format` is answered by a text that has it; of the labels of a
`choice`, the answer is the likeliest one under the artificial distribution of `likelihoods`.

Deterministic and instant; token limits, stop strings and counts are those of a real engine, so tests and dry runs need no
mocks. Also the example of an engine: this file and a line in `engine_registry.py`.
"""

import importlib
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import cast

from batchgen.decoding.stopping import Stopper
from batchgen.decoding_settings import AnswerGrammar
from batchgen.engines.contract import OPTIONS, EngineEntry, EngineInfo
from batchgen.engines.label_answer import label_answer, scored_tokens
from batchgen.records import (
    AnswerDecoder,
    Completion,
    Continuation,
    Failure,
    FinishReason,
    InFlight,
    Likelihood,
    Request,
    TokenLogprobs,
)
from batchgen.structured.example_text import example_text, is_example

INFO = EngineInfo(
    name="echo",
    summary="repeats the prompt without a model, to try out a job; with response_format, a text of that form where the prompt is none",
    needs="nothing",
    # A stand-in for any engine: a job can be tried as it is, whatever it will run on.
    options=OPTIONS,
    seeds=True,
    likelihoods=True,
    batch_invariant=True,
    batch_invariant_reason="each prompt is repeated alone",
    token_exact=True,
)
_EXPECTED = -math.log(2)
_OTHER = -math.log(2 * 65_536)


class EchoEngine:
    """Repeats each prompt up to a limit, a stop string or its end."""

    name = INFO.name

    def __init__(self, decode: AnswerDecoder) -> None:
        self._decode = decode
        self._rows = 0
        self._encode: Callable[[str], Sequence[int]] | None = None

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            self._rows += 1
            yield self._answer(request)

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
        """Likelihoods in the order of the continuations, under an artificial distribution.

        The expected continuation of a context is the context itself, first token to last: each expected token has
        probability 1/2, and the other half is spread evenly over a vocabulary of 65,536 tokens.
        """
        for one in continuations:
            self._rows += 1
            yield _likelihood(one)

    def in_flight(self) -> InFlight:
        """None: each answer is complete at once."""
        return InFlight()

    def facts(self) -> Mapping[str, object]:
        return {"requests": self._rows}

    def close(self) -> None:
        """Do nothing."""

    def _answer(self, request: Request) -> Completion:
        grammar = request.decoding.grammar
        if request.label_tokens:
            labels = [Continuation(0, request.token_ids, one) for one in scored_tokens(request)]
            return label_answer(request, [_likelihood(one) for one in labels])
        if grammar is not None and not self._has_form(request.token_ids, grammar):
            return self._formed(request, grammar)
        if not request.decoding.stop_strings:
            # The common case, and what the pipeline benchmark measures: no token-by-token work.
            tokens = request.token_ids[: request.decoding.max_new_tokens]
            whole = len(tokens) == len(request.token_ids)
            text = self._decode(tokens) if whole else self._decode.decode_complete(tokens)
            reason: FinishReason = "stop" if whole else "length"
            return self._completion(request, tokens, text, reason)
        stopper = Stopper(request.decoding, self._decode)
        for count, token in enumerate(request.token_ids, start=1):
            if (ended := stopper.push(token)) is not None:
                tokens, reason = request.token_ids[:count], ended
                break
        else:
            tokens, reason = request.token_ids, "stop"
        return self._completion(request, tokens, stopper.finish(), reason)

    def _has_form(self, token_ids: Sequence[int], grammar: AnswerGrammar) -> bool:
        """Whether a prompt is an answer of this form: what it is tried out with may be answers of a model."""
        return not grammar.after and is_example(grammar, self._decode(token_ids))

    def _formed(self, request: Request, grammar: AnswerGrammar) -> Completion:
        """A text that the grammar admits."""
        example = example_text(grammar).text
        if not example:
            return Completion(request.index, request.sample, (), "", "error", failure=_NO_EXAMPLE)
        whole = self._tokens(grammar.after + example)
        tokens = whole[: request.decoding.max_new_tokens]
        if len(tokens) == len(whole):
            return self._completion(request, tokens, grammar.after + example, "stop")
        text = self._decode.decode_complete(tokens, request.token_ids)
        return self._completion(request, tokens, text, "length")

    def _tokens(self, text: str) -> Sequence[int]:
        if self._encode is None:
            self._encode = _text_encoder(self._decode.tokenizer_json())
        return self._encode(text)

    @staticmethod
    def _completion(
        request: Request, tokens: Sequence[int], text: str, reason: FinishReason
    ) -> Completion:
        """The completion, each of whose tokens has probability 1."""
        decoding, recorded = request.decoding, None
        if decoding.top_logprobs is not None:
            width = 1 + min(decoding.top_logprobs, 1)
            ids = array("i", [token for token in tokens for _ in range(width)])
            recorded = TokenLogprobs(width, array("f", bytes(4 * len(ids))), ids)
        mean = 0.0 if decoding.logprobs else None
        key = request.index, request.sample
        return Completion(*key, tokens, text, reason, mean, token_logprobs=recorded)


def _likelihood(one: Continuation) -> Likelihood:
    pairs = zip_longest(one.token_ids, one.context[: len(one.token_ids)])
    hits = [token == expected for token, expected in pairs]
    logprobs = tuple(_EXPECTED if hit else _OTHER for hit in hits)
    return Likelihood(one.index, logprobs, greedy=all(hits))


_NO_EXAMPLE = Failure(
    "grammar_unsupported",
    "engine echo found no short text of decoding.response_format; a model may find one",
)


def _text_encoder(tokenizer_json: str | None) -> Callable[[str], Sequence[int]]:
    """Text to token ids: UTF-8 bytes without a tokenizer."""
    if tokenizer_json is None:
        return lambda text: list(text.encode())
    tokenizer = importlib.import_module("tokenizers").Tokenizer.from_str(tokenizer_json)
    return lambda text: cast("Sequence[int]", tokenizer.encode(text, add_special_tokens=False).ids)


def _open(_model: object, *, decode: AnswerDecoder, **_options: object) -> EchoEngine:
    return EchoEngine(decode)


ECHO = EngineEntry(INFO, _open)
