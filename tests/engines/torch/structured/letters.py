"""A tokenizer of the tiny models' vocabulary: token 2 ends an answer, 3 to 96 are the ASCII characters from `!` on."""

from collections.abc import Sequence
from functools import cache

from tokenizers import Tokenizer, decoders, models

from batchgen.decoding_settings import AnswerGrammar, ResolvedDecoding
from tests.engines.torch.tiny_models import VOCABULARY
from tests.plain_decoder import PlainDecoder

END = 2
_FIRST = 3


def letters(token_ids: Sequence[int]) -> str:
    """The text of an answer, without its end token."""
    return "".join(chr(ord("!") + token - _FIRST) for token in token_ids if token >= _FIRST)


def tokens(text: str) -> list[int]:
    return [ord(letter) - ord("!") + _FIRST for letter in text]


class LetterDecoder(PlainDecoder):
    """Decodes answers to letters."""

    def __init__(self) -> None:
        super().__init__(letters)

    def tokenizer_json(self) -> str:  # type: ignore[override]  # the base has none
        return _tokenizer()


@cache
def _tokenizer() -> str:
    names = ["<pad>", "<s>", "</s>", *(chr(ord("!") + n) for n in range(VOCABULARY - _FIRST))]
    tokenizer = Tokenizer(models.BPE({name: n for n, name in enumerate(names)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(names[:_FIRST])
    return str(tokenizer.to_str())


def formed(kind: str, text: str, after: str = "", **settings: object) -> ResolvedDecoding:
    """Decoding settings with a grammar."""
    grammar = AnswerGrammar(kind, text, after)  # type: ignore[arg-type]
    ends = frozenset({END})
    return ResolvedDecoding(grammar=grammar, end_token_ids=ends, **settings)  # type: ignore[arg-type]
