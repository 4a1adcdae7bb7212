"""Whether the response is in the expected language: by script, or by py3langid.

The script distinguishes Chinese, Japanese, Korean, Russian, Arabic and the like from each other and from English, but
not languages that share a script (English and French, Russian and Bulgarian).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import regex
from pydantic import model_validator

from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, unscored
from batchgen.metrics.optional import require_package
from batchgen.metrics.text import split_tokens
from batchgen.records import Score
from batchgen.section import NonEmptyText


class LanguageOptions(MetricOptions):
    """The response is in the expected language. A response without letters is not scored."""

    type: Literal["language"] = "language"
    expect: NonEmptyText | None = None
    """Code of the language, such as `zh` or `en`."""
    column: NonEmptyText | None = None
    """Column with the code of each row, instead of `expect`."""
    detector: Literal["script", "py3langid"] = "script"
    """script distinguishes Chinese from English, not French from English. py3langid does; it needs the extra `metrics`."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.expect is None) == (self.column is None):
            raise ValueError("give expect or column: which language is right")
        return self


_SCRIPTS = [
    *("Latin", "Han", "Hiragana", "Katakana", "Hangul", "Cyrillic", "Arabic", "Hebrew", "Greek"),
    *("Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Tamil", "Telugu", "Kannada", "Malayalam"),
    *("Sinhala", "Thai", "Lao", "Khmer", "Myanmar", "Georgian", "Armenian", "Ethiopic"),
]
_SCRIPT = regex.compile("|".join(rf"(?P<{name}>\p{{{name}}})" for name in _SCRIPTS))
_OTHER_SCRIPTS: Mapping[str, str] = {
    language: script
    for script, languages in {
        "Han": "zh", "Japanese": "ja", "Hangul": "ko", "Cyrillic": "ru uk bg sr mk be kk ky mn tg",
        "Arabic": "ar fa ur ps ckb ug sd", "Hebrew": "he yi", "Greek": "el",
        "Devanagari": "hi mr ne sa", "Bengali": "bn as", "Gurmukhi": "pa", "Gujarati": "gu",
        "Tamil": "ta", "Telugu": "te", "Kannada": "kn", "Malayalam": "ml", "Sinhala": "si",
        "Thai": "th", "Lao": "lo", "Khmer": "km", "Myanmar": "my", "Georgian": "ka",
        "Armenian": "hy", "Ethiopic": "am ti",
    }.items()
    for language in languages.split()
}  # fmt: skip
_JAPANESE = ("Han", "Hiragana", "Katakana")
_KANA_SHARE = 0.1
"""Japanese contains kana; Chinese does only in names."""


def primary_code(language: str) -> str:
    """The language of a code with a region: `en` of `en-GB`. Cantonese and Mandarin are both `zh`."""
    code = language.lower().replace("_", "-").partition("-")[0]
    return "zh" if code == "yue" else code


def script_of(language: str) -> str:
    """The script of a language, by its ISO 639 code: `zh`, `zh-CN`, `en`. Unknown codes are Latin."""
    return _OTHER_SCRIPTS.get(primary_code(language), "Latin")


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
    """1 if the response is in the expected language, which `form` converts to what `detect` returns for it."""

    spec: Spec
    options: LanguageOptions
    detect: LanguageDetector
    form: Callable[[str], str]

    def score(self, answer: Answer) -> Score:
        """Score an answer. `answer` of the score is the detected language or script."""
        expected = self.options.expect or answer.fields.get(self.options.column or "")
        if not isinstance(expected, str) or not expected:
            return unscored(self.spec, "no_reference")
        if not answer.text.strip():
            return unscored(self.spec, "empty")
        found = self.detect(answer.text)
        if found is None:
            return unscored(self.spec, "no_answer")
        return Score(self.spec.name, float(found == self.form(expected)), "ok", found)


def trained_detector() -> LanguageDetector:
    """Text to ISO 639-1 code by py3langid, whose model is in its package.

    Raises:
        DataError: if py3langid is not installed.
    """
    classify = require_package("py3langid", "metrics").classify

    def detect(text: str) -> str | None:
        return primary_code(str(classify(text)[0])) if any(c.isalpha() for c in text) else None

    return detect


def _language(spec: Spec, options: LanguageOptions) -> LanguageMatch:
    detect, form = (
        (main_script, script_of)
        if options.detector == "script"
        else (trained_detector(), primary_code)
    )
    return LanguageMatch(spec, options, detect, form)


LANGUAGE = MetricType(LanguageOptions, _language)
