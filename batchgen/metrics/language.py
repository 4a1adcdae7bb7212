"""Whether the response is in the expected language: by script, or by py3langid.

The script distinguishes Chinese, Japanese, Korean, Russian, Arabic and the like from each other and from English, but
not languages that share a script (English and French, Russian and Bulgarian).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import regex
from pydantic import model_validator

from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, unscored
from batchgen.metrics.language_names import Language, find_language, fold_code
from batchgen.metrics.optional import require_package
from batchgen.metrics.text import split_tokens
from batchgen.records import Score
from batchgen.section import NonEmptyText


class LanguageOptions(MetricOptions):
    """The response is in the expected language. A response without letters is not scored."""

    type: Literal["language"] = "language"
    expect: NonEmptyText | None = None
    """The language: a code, such as `zh`, `zho` or `zh-CN`, or a name, such as `Chinese` or `中文`."""
    column: NonEmptyText | None = None
    """Column with the code or name of each row's language, instead of `expect`. A row with another text is not scored."""
    detector: Literal["script", "py3langid"] = "script"
    """script distinguishes Chinese from English, not French from English. py3langid does; it needs the extra `metrics`."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.expect is None) == (self.column is None):
            raise ValueError("give expect or column: which language is right")
        if self.expect is not None and find_language(self.expect) is None:
            raise ValueError(
                f"expect: unknown language {self.expect!r}; give a code such as zh, or a name such as Chinese"
            )
        return self


_SCRIPTS = [
    *("Latin", "Han", "Hiragana", "Katakana", "Hangul", "Cyrillic", "Arabic", "Hebrew", "Greek"),
    *("Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Tamil", "Telugu", "Kannada", "Malayalam"),
    *(
        "Oriya",
        "Tibetan",
        "Thaana",
        "Sinhala",
        "Thai",
        "Lao",
        "Khmer",
        "Myanmar",
        "Georgian",
        "Armenian",
        "Ethiopic",
    ),
]
_SCRIPT = regex.compile("|".join(rf"(?P<{name}>\p{{{name}}})" for name in _SCRIPTS))
_JAPANESE = ("Han", "Hiragana", "Katakana")
_KANA_SHARE = 0.1
"""Japanese contains kana; Chinese does only in names."""


def main_script(text: str) -> str | None:
    """The script that most tokens of a text are in, `Japanese` for Han with kana; None for a text without letters."""
    counts: Counter[str] = Counter()
    for token in split_tokens(text):
        match = _SCRIPT.search(token)
        if match is not None and match.lastgroup is not None:
            counts[match.lastgroup] += 1
    kana = counts["Hiragana"] + counts["Katakana"]
    if kana and kana >= _KANA_SHARE * (kana + counts["Han"]):
        counts["Japanese"] = sum(counts.pop(script, 0) for script in _JAPANESE)
    return counts.most_common(1)[0][0] if counts.total() else None


LanguageDetector = Callable[[str], str | None]
"""From a text to the code of its language, or to its script; None for a text without letters."""


@dataclass(frozen=True, slots=True)
class LanguageMatch:
    """1 if the response is in the expected language.

    Attributes:
        expected: None to read it from a column.
        form: from a language to what `detect` returns for it; None for a language that `detect` cannot find.
    """

    spec: Spec
    expected: str | None
    column: str
    detect: LanguageDetector
    form: Callable[[Language], str | None]

    def score(self, answer: Answer) -> Score:
        """Score an answer. `answer` of the score is the detected language or script."""
        expected = self.expected or answer.fields.get(self.column)
        if expected is None or expected == "":
            return unscored(self.spec, "no_reference")
        language = find_language(expected) if isinstance(expected, str) else None
        wanted = self.form(language) if language else None
        if wanted is None:
            return unscored(self.spec, "unparsed", "reference")
        if not answer.text.strip():
            return unscored(self.spec, "empty")
        found = self.detect(answer.text)
        if found is None:
            return unscored(self.spec, "no_answer")
        return Score(self.spec.name, float(found == wanted), "ok", found)


def trained_detector() -> LanguageDetector:
    """Text to the code of its language by py3langid, whose model is in its package.

    Raises:
        DataError: if py3langid is not installed.
    """
    classify = require_package("py3langid", "metrics").classify

    def detect(text: str) -> str | None:
        return fold_code(str(classify(_in_lower_case(text))[0])) if _has_letters(text) else None

    return detect


_SURE = 0.99
"""Least probability of another language. Of 6 words of English, 1 % are another language to py3langid at 0.9."""


def english_test() -> Callable[[str], bool]:
    """A function that returns false for a text without letters, and where py3langid is sure of another language.

    Raises:
        DataError: if py3langid is not installed.
    """
    rank = require_package("py3langid", "metrics").rank

    def is_english(text: str) -> bool:
        if main_script(text) != "Latin":
            return False
        ranked = rank(_in_lower_case(text))
        scores = np.array([score for _, score in ranked], np.float64)
        return ranked[0][0] == "en" or float(1 / np.exp(scores - scores.max()).sum()) < _SURE

    return is_english


def _in_lower_case(text: str) -> str:
    return text.lower() if text.isupper() else text


def _has_letters(text: str) -> bool:
    return any(c.isalpha() for c in text)


def _language(spec: Spec, options: LanguageOptions) -> LanguageMatch:
    column = options.column or ""
    if options.detector == "script":
        return LanguageMatch(spec, options.expect, column, main_script, lambda one: one.script)
    ranked = require_package("py3langid", "metrics").rank("")
    known = {fold_code(str(label)) for label, _ in ranked}
    return LanguageMatch(
        spec,
        options.expect,
        column,
        trained_detector(),
        lambda one: one.code if one.code in known else None,
    )


LANGUAGE = MetricType(LanguageOptions, _language, version=2)
