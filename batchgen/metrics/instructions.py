r"""Does a text follow an instruction of IFEval (Zhou et al. 2023): one function for each of the 25 published ids.

They follow the reference implementation, but also hold for Chinese: a character is a word, `，` is a comma, `“”` are
quotation marks, and words need no spaces around them. Sentences and words in capitals are found without NLTK; languages
by script where it tells them apart, else by py3langid.
"""

import json
import re
from collections.abc import Callable, Mapping

import regex

from batchgen.metrics.language import main_script, primary_code, script_of
from batchgen.metrics.texts import (
    UNSPACED,
    contains_words,
    fold_case,
    is_unspaced,
    split_sentences,
    split_words,
)

Kwargs = Mapping[str, object]
"""The keywords of one instruction, with their values."""
InstructionCheck = Callable[[str, Kwargs], bool]
LanguageDetector = Callable[[str], str | None]

_WORD = regex.compile(rf"[{UNSPACED}]|[\w--[{UNSPACED}]]+", regex.V1)
_QUOTES = (('"', '"'), ("“", "”"), ("「", "」"), ("『", "』"), ("«", "»"), ("„", "“"))
_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


class MissingArgumentError(ValueError):
    """An instruction whose keywords are not what it needs; the argument is the keyword."""


def make_instruction_checks(detect: LanguageDetector) -> Mapping[str, InstructionCheck]:
    """The functions by id. `detect`: text to language code, for languages that share a script."""
    return {**_CHECKS, "language:response_language": lambda text, told: _language(text, told, detect)}  # fmt: skip


def _number(told: Kwargs, keyword: str) -> float:
    value = told.get(keyword)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MissingArgumentError(keyword)
    return value


def _text(told: Kwargs, keyword: str) -> str:
    value = told.get(keyword)
    if not isinstance(value, str) or not value:
        raise MissingArgumentError(keyword)
    return value


def _texts(told: Kwargs, keyword: str) -> list[str]:
    value = told.get(keyword)
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise MissingArgumentError(keyword)
    return [*value]


def _holds(count: int, told: Kwargs, relation: str, bound: str) -> bool:
    word = _text(told, relation)
    if word not in ("at least", "less than"):
        raise MissingArgumentError(relation)
    least = _number(told, bound)
    return count >= least if word == "at least" else count < least


def _existence(text: str, told: Kwargs) -> bool:
    seen = fold_case(text)
    return all(fold_case(word) in seen for word in _texts(told, "keywords"))


def _frequency(text: str, told: Kwargs) -> bool:
    count = fold_case(text).count(fold_case(_text(told, "keyword")))
    return _holds(count, told, "relation", "frequency")


def _forbidden(text: str, told: Kwargs) -> bool:
    seen = fold_case(text)
    return not any(
        contains_words(seen, fold_case(word)) for word in _texts(told, "forbidden_words")
    )


def _letters(text: str, told: Kwargs) -> bool:
    count = text.lower().count(_text(told, "letter").lower())
    return _holds(count, told, "let_relation", "let_frequency")


def _language(text: str, told: Kwargs, detect: LanguageDetector) -> bool:
    wanted = _text(told, "language")
    script = script_of(wanted)
    if main_script(text) != script:
        return False
    alone = script not in ("Latin", "Cyrillic", "Arabic", "Devanagari", "Bengali")
    return alone or detect(text) == primary_code(wanted)


def _sentences(text: str, told: Kwargs) -> bool:
    return _holds(len(split_sentences(text)), told, "relation", "num_sentences")


def _words(text: str, told: Kwargs) -> bool:
    return _holds(len(_WORD.findall(text)), told, "relation", "num_words")


def _paragraphs(text: str, told: Kwargs) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", text)
    inner = [part.strip() for part in parts[1:-1]]
    count = sum(bool(part.strip()) for part in parts)
    return all(inner) and count == _number(told, "num_paragraphs")


def _first_word(text: str, told: Kwargs) -> bool:
    paragraphs = text.split("\n\n")
    nth = int(_number(told, "nth_paragraph"))
    wanted = fold_case(_text(told, "first_word"))
    full = sum(bool(part.strip()) for part in paragraphs)
    if full != _number(told, "num_paragraphs") or not 1 <= nth <= len(paragraphs):
        return False
    start = fold_case(paragraphs[nth - 1]).strip().lstrip("'\"“‘「")
    if is_unspaced(wanted[-1]):
        return start.startswith(wanted)
    word = re.match(r"[^\s.,?!'\"，。？！”’]*", start)
    return word is not None and word[0] == wanted


def _placeholders(text: str, told: Kwargs) -> bool:
    return len(re.findall(r"\[.*?\]|【.*?】", text)) >= _number(told, "num_placeholders")


def _postscript(text: str, told: Kwargs) -> bool:
    marker = _text(told, "postscript_marker").strip()
    forms = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(forms.get(marker, re.escape(marker.lower())), text.lower()) is not None


def _bullets(text: str, told: Kwargs) -> bool:
    found = re.findall(r"^\s*\*[^\*].*$|^\s*[-•].*$", text, re.MULTILINE)
    return len(found) == _number(told, "num_bullets")


def _constrained(text: str, _told: Kwargs) -> bool:
    return any(one in text for one in _CONSTRAINED)


def _highlights(text: str, told: Kwargs) -> bool:
    single = [one.strip("*").strip() for one in re.findall(r"\*[^\n\*]*\*", text)]
    double = [one.strip("*").strip() for one in re.findall(r"\*\*[^\n\*]*\*\*", text)]
    return sum(map(bool, (*single, *double))) >= _number(told, "num_highlights")


def _sections(text: str, told: Kwargs) -> bool:
    splitter = re.escape(_text(told, "section_spliter").strip())
    parts = re.split(rf"\s?{splitter}\s?\d+\s?", text)
    return len(parts) - 1 >= _number(told, "num_sections")


def _json(text: str, _told: Kwargs) -> bool:
    bare = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, _told: Kwargs) -> bool:
    found = re.findall(r"<<[^\n]+>>|《[^\n]+》", text)
    return any(one.strip("<>《》").strip() for one in found)


def _two_responses(text: str, _told: Kwargs) -> bool:
    parts = [part.strip() for part in text.split("******")]
    full = [part for part in parts if part]
    return all(parts[1:-1]) and len(full) == 2 and full[0] != full[1]


def _repeated_prompt(text: str, told: Kwargs) -> bool:
    return text.strip().lower().startswith(_text(told, "prompt_to_repeat").strip().lower())


def _ends(text: str, told: Kwargs) -> bool:
    return text.strip().strip('"”').lower().endswith(_text(told, "end_phrase").strip().lower())


def _quoted(text: str, _told: Kwargs) -> bool:
    bare = text.strip()
    return len(bare) > 1 and any(
        bare[0] == opening and bare[-1] == closing for opening, closing in _QUOTES
    )


def _capital_words(text: str, told: Kwargs) -> bool:
    count = sum(word.isupper() for word in split_words(text))
    return _holds(count, told, "capital_relation", "capital_frequency")


def _capital(text: str, _told: Kwargs) -> bool:
    return text.isupper() and main_script(text) == "Latin"


def _lowercase(text: str, _told: Kwargs) -> bool:
    return text.islower() and main_script(text) == "Latin"


def _no_comma(text: str, _told: Kwargs) -> bool:
    return not any(comma in text for comma in ",，﹐︐")


_CHECKS: Mapping[str, InstructionCheck] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeated_prompt,
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _capital,
    "change_case:english_lowercase": _lowercase,
    "punctuation:no_comma": _no_comma,
}
