"""Follows the answers of rows through their grammars.

    grammar ──compiled once──> prototype ──copied──> matcher of a row ──> mask of the tokens that may come next

A matcher is brought up to the tokens of its row when the row samples, at no other time: a row that was preempted, or
whose step ran out of memory, has fewer tokens, and its matcher is made anew. Before the mark of `after`, all tokens may come
but those that end the answer: an answer that ended there would not have the form.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchgen.decoding_settings import AnswerGrammar, ResolvedDecoding
from batchgen.errors import ModelError
from batchgen.records import AnswerDecoder
from batchgen.structured.compile_grammar import library_grammar, require_llguidance

Outcome = Literal["open", "complete", "stuck"]
"""Of a row after a token: the answer continues, its grammar is complete, or no token continues it."""
_PROTOTYPES = 4096
"""Compiled grammars that are kept."""


@dataclass(frozen=True, slots=True)
class GrammarRow:
    """A row with a grammar that samples a token.

    Attributes:
        place: in the batch.
        key: of the row, the same at each of its tokens.
        tokens: the new ones so far.
    """

    place: int
    key: Hashable
    decoding: ResolvedDecoding
    tokens: Sequence[int]


@dataclass(slots=True)
class _Followed:
    """`seen`: tokens of the row that the matcher has consumed or that came before its grammar began. `waits`: for `after`."""

    matcher: Any
    tokenizer: Any
    seen: int
    waits: bool


class RowMatchers:
    """The matchers of the rows of one engine."""

    def __init__(self, decode: AnswerDecoder) -> None:
        self._decode = decode
        self._tokenizers: dict[tuple[frozenset[int], int], Any] = {}
        self._prototypes: dict[tuple[AnswerGrammar, frozenset[int], int], Any] = {}
        self._rows: dict[Hashable, _Followed] = {}

    def masks(self, rows: Sequence[GrammarRow], width: int) -> NDArray[np.int32]:
        """Bits [rows, width / 32] of the tokens that may come next; `width`: of the logits."""
        masks = np.full((len(rows), -(-width // 32)), -1, dtype=np.int32)
        for row, mask in zip(rows, masks, strict=True):
            followed = self._follow(row, width)
            if followed.waits:
                _exclude(mask, row.decoding.end_token_ids)
            elif followed.matcher.is_error():
                mask[:] = 0
            else:
                followed.matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        return masks

    def accept(self, row: GrammarRow, token: int) -> Outcome:
        """Consume the token that the row has sampled. The matcher of a row that ends is dropped."""
        followed = self._rows[row.key]
        self._advance(followed, row.decoding, [*row.tokens, token])
        complete = not followed.waits and followed.matcher.is_stopped()
        if complete or self._ends(row, token):
            del self._rows[row.key]
        if complete and followed.matcher.is_error():
            return "stuck"
        return "complete" if complete else "open"

    def drop(self, row: GrammarRow) -> None:
        """Forget a row that failed."""
        self._rows.pop(row.key, None)

    def _ends(self, row: GrammarRow, token: int) -> bool:
        ended = token in row.decoding.end_token_ids
        return ended or len(row.tokens) + 1 >= row.decoding.max_new_tokens

    def _follow(self, row: GrammarRow, width: int) -> _Followed:
        grammar = row.decoding.grammar
        if grammar is None:
            raise ValueError("the row has no grammar")
        followed = self._rows.get(row.key)
        if followed is None or followed.seen > len(row.tokens):
            ends = row.decoding.end_token_ids
            matcher = self._prototype(grammar, ends, width).deep_copy()
            tokenizer = self._tokenizer(ends, width)
            followed = _Followed(matcher, tokenizer, seen=0, waits=bool(grammar.after))
            self._rows[row.key] = followed
        self._advance(followed, row.decoding, row.tokens)
        return followed

    def _advance(
        self, followed: _Followed, decoding: ResolvedDecoding, tokens: Sequence[int]
    ) -> None:
        while followed.waits and followed.seen < len(tokens):
            followed.seen += 1
            self._begin_after(followed, decoding, tokens[: followed.seen])
        if followed.seen < len(tokens):
            followed.matcher.consume_tokens(list(tokens[followed.seen :]))
            followed.seen = len(tokens)

    def _begin_after(
        self, followed: _Followed, decoding: ResolvedDecoding, tokens: Sequence[int]
    ) -> None:
        """Begin the grammar if the last token completes the mark; text behind the mark in the same token belongs to it."""
        mark = decoding.grammar.after if decoding.grammar else ""
        window = tokens[-len(mark.encode()) - 4 :]
        _, found, rest = self._decode(window, special=True).partition(mark)
        if found:
            followed.waits = False
            if rest.strip():
                followed.matcher.consume_tokens(followed.tokenizer.tokenize_str(rest.lstrip()))

    def _prototype(self, grammar: AnswerGrammar, ends: frozenset[int], width: int) -> Any:  # noqa: ANN401 - llguidance's matcher
        key = (grammar, ends, width)
        if key not in self._prototypes:
            if len(self._prototypes) >= _PROTOTYPES:
                del self._prototypes[next(iter(self._prototypes))]
            tokenizer = self._tokenizer(ends, width)
            matcher = require_llguidance().LLMatcher
            self._prototypes[key] = matcher(tokenizer, library_grammar(grammar), log_level=0)
        return self._prototypes[key]

    def _tokenizer(self, ends: frozenset[int], width: int) -> Any:  # noqa: ANN401 - llguidance's tokenizer
        if (ends, width) not in self._tokenizers:
            text = self._decode.tokenizer_json()
            if text is None:
                raise ModelError(
                    "decoding.response_format needs the tokenizer in the format of tokenizer.json",
                    hint="Set model.tokenizer to a folder that contains tokenizer.json.",
                )
            make = require_llguidance().LLTokenizer
            self._tokenizers[ends, width] = make(text, n_vocab=width, eos_token=sorted(ends))
        return self._tokenizers[ends, width]


def _exclude(mask: NDArray[np.int32], tokens: Iterable[int]) -> None:
    """Clear the bits of these tokens."""
    words = mask.view(np.uint32)
    for token in tokens:
        words[token // 32] &= np.uint32(~(1 << token % 32) & 0xFFFFFFFF)
