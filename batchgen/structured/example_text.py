"""Searches a short text that a grammar admits: to reject grammars that admit none, and as the answer of `engine: echo`.

    matcher over bytes ──allowed bytes──> the byte that most likely leads to an end ──> ... ──> the grammar accepts

A byte that was chosen often where the same bytes were allowed comes later, so that `a*b` does not become a row of `a`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random
from typing import Any

import numpy as np

from batchgen.decoding_settings import AnswerGrammar, GrammarKind
from batchgen.structured.compile_grammar import library_grammar, require_llguidance

LONGEST = 4096
"""Bytes of the longest text that is searched; a grammar that forces more counts as one without an end."""
_STEPS = 2_000
_TRIALS = 4
"""Searches after the first one, in which the order of bytes is partly random."""
_END = 256


@dataclass(frozen=True, slots=True)
class Example:
    """A result of `example_text`.

    Attributes:
        text: empty if none was found.
        complete: whether the search was complete, so that without a text there is none.
    """

    text: str
    complete: bool


def example_text(grammar: AnswerGrammar) -> Example:
    """A text that the grammar admits and that is not empty; not always the shortest one. It must compile."""
    found = _search(grammar)
    for trial in range(1, 1 + _TRIALS):
        if found.text or found.complete:
            break
        found = _search(grammar, trial)
    return found


def admits_text(grammar: AnswerGrammar) -> bool:
    """Whether the grammar admits a text that is not empty, as far as one search shows. It must compile."""
    found = _search(grammar)
    return bool(found.text) or not found.complete


def is_example(grammar: AnswerGrammar, text: str) -> bool:
    """Whether the grammar, which must compile, admits the text."""
    matcher, content = _matcher(grammar), list(text.encode(errors="replace"))
    consumed: int = matcher.try_consume_tokens(content)
    return consumed == len(content) and bool(matcher.is_accepting())


@lru_cache(4096)
def _search(grammar: AnswerGrammar, trial: int = 0) -> Example:
    return _Search(_matcher(grammar), grammar.kind, trial).run()


def _matcher(grammar: AnswerGrammar) -> Any:  # noqa: ANN401 - llguidance's matcher
    make = require_llguidance().LLMatcher
    return make(_byte_tokenizer(), library_grammar(grammar), log_level=0)


class _Search:
    """One search, depth first."""

    def __init__(self, matcher: Any, kind: GrammarKind, trial: int) -> None:  # noqa: ANN401 - llguidance's matcher
        self._matcher = matcher
        self._is_json = kind in ("json_schema", "json_object")
        self._random = Random(trial) if trial else None
        self._chosen: Counter[tuple[bytes, int]] = Counter()

    def run(self) -> Example:
        chosen: list[bytes] = []
        untried, is_cut = [self._next()], False
        for _ in range(_STEPS):
            if untried[-1] and sum(map(len, chosen)) < LONGEST:
                chosen.append(untried[-1].pop())
                self._matcher.consume_tokens(list(chosen[-1]))
                if self._matcher.is_accepting():
                    text = b"".join(chosen).decode(errors="replace")
                    return Example(text, complete=True)
                untried.append(self._next())
                continue
            is_cut |= bool(untried.pop())
            if not untried:
                return Example("", complete=not is_cut)
            self._matcher.rollback(len(chosen.pop()))
        return Example("", complete=False)

    def _next(self) -> list[bytes]:
        """What may come next, the best one last: a byte, or all bytes that are forced. Nothing where these have no end."""
        if forced := self._matcher.compute_ff_bytes():
            return [forced] if len(forced) < LONGEST else []
        # The library marks a matcher without a next byte as failed; the copy keeps this one usable.
        matcher = self._matcher.deep_copy()
        mask = np.zeros(9, dtype=np.int32)
        matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if matcher.is_error():
            return []
        bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[:_END]
        allowed: list[int] = np.flatnonzero(bits).tolist()
        key = mask.tobytes()
        ranks = _RANKS
        if self._is_json:
            ranks = _STRING_RANKS if {_Q, _Z} <= set(allowed) else _JSON_RANKS
        order = sorted(allowed, key=lambda byte: (-self._cost(ranks, key, byte), -byte))
        if order:
            self._chosen[key, order[-1]] += 1
        return [bytes([byte]) for byte in order]

    def _cost(self, ranks: Sequence[int], key: bytes, byte: int) -> float:
        cost = ranks[byte] + self._chosen[key, byte]
        return cost + self._random.random() * 4 if self._random else cost


def _ranks(groups: Sequence[str]) -> list[int]:
    """The rank of each byte: the number of its group; a high one for the others."""
    ranks = [50] * _END
    for rank, letters in enumerate(groups):
        for letter in letters:
            ranks[ord(letter)] = rank
    return ranks


_LOWER, _MORE = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_OTHER, _BRACKETS = " ,:;.-_+*/!?=@#$%&'|~^`", '"{}[]()<>'
_RANKS = _ranks([_LOWER, _MORE, _OTHER, _BRACKETS, "\\"])
_JSON_RANKS = _ranks(["]}", '"', "," + _LOWER, _MORE, _OTHER, "[{"])
"""An object, a list or a number ends as soon as possible."""
_STRING_RANKS = _ranks(['"', _LOWER, _MORE, _OTHER, _BRACKETS[1:], "\\"])
_Q, _Z = b"qz"
"""Both are allowed only in the strings of JSON."""


class _Bytes:
    """A vocabulary in which each token is a byte, as llguidance reads it."""

    eos_token_id = _END
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(_END)), b"<end>")

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@cache
def _byte_tokenizer() -> Any:  # noqa: ANN401 - llguidance's tokenizer
    library = require_llguidance()
    return library.LLTokenizer(library.TokenizerWrapper(_Bytes()), n_vocab=_END + 1)
