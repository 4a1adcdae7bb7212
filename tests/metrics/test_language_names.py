"""Languages by code and by name."""

import pytest

from batchgen.metrics.language import main_script
from batchgen.metrics.language_names import find_language, fold_code

NAMES: list[tuple[str, str, str]] = [
    ("en", "en", "Latin"),
    ("eng_Latn", "en", "Latin"),
    ("en-US", "en", "Latin"),
    ("en_US.UTF-8", "en", "Latin"),
    ("American English", "en", "Latin"),
    ("英语", "en", "Latin"),
    ("英文", "en", "Latin"),
    ("Français", "fr", "Latin"),
    ("francais", "fr", "Latin"),
    ("法文", "fr", "Latin"),
    ("ger", "de", "Latin"),
    ("Deutsch", "de", "Latin"),
    ("Brazilian Portuguese", "pt", "Latin"),
    ("Spanish language", "es", "Latin"),
    ("日本語", "ja", "Japanese"),
    ("日文", "ja", "Japanese"),
    ("jp", "ja", "Japanese"),
    ("한국어", "ko", "Hangul"),
    ("韓文", "ko", "Hangul"),
    ("Русский", "ru", "Cyrillic"),
    ("sr-Latn", "sr", "Latin"),
    ("sr", "sr", "Cyrillic"),
    ("Farsi", "fa", "Arabic"),
    ("العربية", "ar", "Arabic"),
    ("arb", "ar", "Arabic"),
    ("हिन्दी", "hi", "Devanagari"),
    ("nb", "no", "Latin"),
    ("Filipino", "tl", "Latin"),
    ("iw", "he", "Hebrew"),
    ("Odia", "or", "Oriya"),
    ("Māori", "mi", "Latin"),
    ("Haitian Creole", "ht", "Latin"),
    ("is", "is", "Latin"),
]


@pytest.mark.parametrize(("name", "code", "script"), NAMES)
def test_a_language_is_found(name: str, code: str, script: str) -> None:
    found = find_language(name)
    assert found is not None
    assert (found.code, found.script) == (code, script)


@pytest.mark.parametrize(
    "name",
    ["", " ", "xx", "qqq", "Klingon", "None", "n/a", "not English", "non-English", "非英语", "zh/en", "中英文", "the"],
)  # fmt: skip
def test_other_texts_are_no_language(name: str) -> None:
    assert find_language(name) is None


def test_detected_codes_are_folded() -> None:
    codes = ["yue", "wuu", "nn", "arz", "fr", "gcf"]
    assert [fold_code(code) for code in codes] == ["zh", "zh", "no", "ar", "fr", "gcf"]


@pytest.mark.parametrize(("text", "script"), [("ଓଡ଼ିଆ ଭାଷା", "Oriya"), ("བོད་སྐད་", "Tibetan")])
def test_each_script_of_a_language_is_found_in_texts(text: str, script: str) -> None:
    assert main_script(text) == script
