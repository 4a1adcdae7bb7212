"""Grammars over a tokenizer whose tokens are single bytes: what is accepted, and random answers."""

import json
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from batchgen.decoding_settings import AnswerGrammar, ResolvedDecoding
from batchgen.structured.compile_grammar import library_grammar, require_llguidance
from batchgen.structured.row_matchers import GrammarRow, RowMatchers
from tests.plain_decoder import PlainDecoder

END = 256
WIDTH = 257
_SPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
_LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())


def schema_grammar(schema: Any) -> AnswerGrammar:
    return AnswerGrammar("json_schema", json.dumps(schema, ensure_ascii=False))


def encode(text: str) -> list[int]:
    return [_LETTERS.index(letter) for part, _ in _SPLIT.pre_tokenize_str(text) for letter in part]


def decode(token_ids: Sequence[int]) -> str:
    text: str = decoders.ByteLevel().decode([_LETTERS[i] for i in token_ids if i < END])
    return text


class ByteDecoder(PlainDecoder):
    """Decodes answers from bytes."""

    def __init__(self) -> None:
        super().__init__(decode)

    def tokenizer_json(self) -> str:  # type: ignore[override]  # the base has none
        return _tokenizer()


@cache
def _tokenizer() -> str:
    vocabulary = {letter: n for n, letter in enumerate(_LETTERS)} | {"</s>": END}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = _SPLIT
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["</s>"])
    return str(tokenizer.to_str())


@cache
def _library_tokenizer() -> Any:
    return require_llguidance().LLTokenizer(_tokenizer(), n_vocab=WIDTH, eos_token=[END])


class Acceptor:
    """Whether whole texts have the form of a grammar."""

    def __init__(self, grammar: AnswerGrammar) -> None:
        make = require_llguidance().LLMatcher
        self._first = make(_library_tokenizer(), library_grammar(grammar), log_level=0)
        assert not self._first.is_error(), self._first.get_error()

    def accepts(self, text: str) -> bool:
        matcher, tokens = self._first.deep_copy(), encode(text)
        accepted: bool = matcher.try_consume_tokens(tokens) == len(tokens)
        return accepted and bool(matcher.is_accepting())


def random_answer(
    matchers: RowMatchers, grammar: AnswerGrammar, random: Random, most: int = 400
) -> str | None:
    """A random answer; None if it is unfinished after `most` tokens. It often ends where it may."""
    decoding = ResolvedDecoding(
        max_new_tokens=most + 1, end_token_ids=frozenset({END}), grammar=grammar
    )
    tokens: list[int] = []
    key = random.random()
    while len(tokens) < most:
        row = GrammarRow(0, key, decoding, tokens)
        bits = np.unpackbits(matchers.masks([row], WIDTH).view(np.uint8), bitorder="little")
        allowed = np.flatnonzero(bits[:WIDTH]).tolist()
        # Quotes, brackets and the end more often than other characters, so that answers become whole.
        closing = [t for t in allowed if t == END or (t < END and _LETTERS[t] in '"]}')]
        token = random.choice(closing if closing and random.random() < 0.4 else allowed)
        outcome = matchers.accept(row, token)
        if outcome == "complete" or token == END:
            return decode([*tokens, token])
        assert outcome == "open"
        tokens = [*tokens, token]
    return None
