"""Text as metrics compare it: normal form, tokens, words. Chinese is written without spaces: a character is a token."""

import re
import unicodedata
from functools import lru_cache

import regex

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"
"""Scripts without spaces between words, as the content of a character class of `regex`: each character is a token."""

_ASCII_TOKEN = re.compile(r"[a-z0-9]+")
_TOKEN = regex.compile(
    rf"[{UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{N}}]--[{UNSPACED}]][[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}]]*",
    regex.V1,
)
_WORD = regex.compile(
    rf"[{UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{N}}]--[{UNSPACED}]]"
    rf"(?:[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}]]|['’.,_-](?=[[\p{{L}}\p{{N}}]--[{UNSPACED}]]))*",
    regex.V1,
)
_ASCII_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|['.,_-](?=[A-Za-z0-9]))*")
# Numbers keep their decimal point and sign, so that 3.5 differs from 35. Characters that make another word (C++, C#) stay.
_NORMAL = re.compile(r"(?<![^\W_])-?\d+(?:[.,]\d+)*|[^\W_]+|[#%&@$€£¥+<=>^|~°]+")
_NEXT_TO_UNSPACED = regex.compile(rf"(?<=[{UNSPACED}]) | (?=[{UNSPACED}])")
_WORD_CHARACTER = regex.compile(rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}]]", regex.V1)
_UNSPACED = regex.compile(rf"[{UNSPACED}]")
_ARTICLES = frozenset(("a", "an", "the"))


def fold_case(text: str) -> str:
    """The text in NFKC (full-width digits become ASCII), without case."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


@lru_cache(maxsize=8)
def split_tokens(text: str) -> tuple[str, ...]:
    """Tokens for overlap: runs of letters and digits, and single characters of scripts without spaces.

    For English these are the tokens of Google's rouge-score, without stemming.
    """
    plain = fold_case(text)
    return tuple(_ASCII_TOKEN.findall(plain) if plain.isascii() else _TOKEN.findall(plain))


def tokens_without_articles(text: str) -> tuple[str, ...]:
    """Tokens except `a`, `an` and `the`."""
    return tuple(token for token in split_tokens(text) if token not in _ARTICLES)


def split_words(text: str) -> list[str]:
    """Words as people count them: `don't`, `3.14` and `well-known` are one, a Chinese character is one."""
    return _ASCII_WORD.findall(text) if text.isascii() else _WORD.findall(text)


@lru_cache(maxsize=8)
def normalize(text: str) -> str:
    """The text without case, width, punctuation and redundant spaces.

    `Well-known!` and `well known` are the same, `3.5` and `35`, `-5` and `5`, `C++` and `C` are not.
    """
    plain = fold_case(text).replace("'", "").replace("’", "")
    joined = " ".join(_NORMAL.findall(plain))
    return joined if joined.isascii() else _NEXT_TO_UNSPACED.sub("", joined)


def normalize_without_articles(text: str) -> str:
    """`normalize`, without the English articles."""
    return " ".join(word for word in normalize(text).split(" ") if word not in _ARTICLES)


def contains_words(text: str, wanted: str) -> bool:
    """Whether a text is in another as whole words: `no` is not in `know`; Chinese has no such boundaries."""
    starts, ends = bool(_WORD_CHARACTER.match(wanted)), bool(_WORD_CHARACTER.match(wanted[-1:]))
    at = text.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        cut = (starts and at > 0 and _WORD_CHARACTER.match(text, at - 1)) or (
            ends and _WORD_CHARACTER.match(text, end)
        )
        if not cut:
            return True
        at = text.find(wanted, at + 1)
    return False


def is_unspaced(token: str) -> bool:
    """Whether a token is of a script without spaces between words."""
    return _UNSPACED.match(token) is not None
