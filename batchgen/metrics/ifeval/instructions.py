r"""Whether a text follows an instruction of IFEval (Zhou et al. 2023): one function for each of the 25 published ids.

They follow the reference implementation and also work for Chinese: a character is a word, `。` ends a sentence, `，` is a
comma, `“”` are quotation marks, and words need no spaces around them. Sentences and words in capitals are found without
NLTK, languages by script where it decides, else by py3langid in place of langdetect. A letter that is none, such as `#`,
is counted; the reference draws a random one instead.
"""

import json
import re
from collections.abc import Callable, Mapping

import regex

from batchgen.metrics.language import LanguageDetector, main_script
from batchgen.metrics.language_names import find_language
from batchgen.metrics.sentences import split_sentences
from batchgen.metrics.text import (
    UNSPACED,
    contains_words,
    fold_case,
    is_unspaced,
)

Kwargs = Mapping[str, object]
"""The arguments of one instruction, by name: an entry of the data set's column `kwargs`."""
InstructionCheck = Callable[[str, Kwargs], bool]

_WORD = regex.compile(rf"[{UNSPACED}]|[\w--[{UNSPACED}]]+", regex.V1)
# As NLTK's word_tokenize: `WELL-KNOWN` and `U.S.` are one token, `DON'T` is two.
_TOKEN = regex.compile(
    rf"[^\s{UNSPACED}\p{{Ps}}\p{{Pe}}\p{{Pi}}\p{{Pf}},;:@#$%&?!\"<>…]+", regex.V1
)
_CONTRACTION = regex.compile(
    r"(?i)(?=n't$)|(?<=\w)(?='(?:s|m|d|ll|re|ve)$)|(?<=^can)(?=not$)", regex.V1
)
_QUOTES = (('"', '"'), ("“", "”"), ("「", "」"), ("『", "』"), ("«", "»"), ("„", "“"))
_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


class MissingArgumentError(ValueError):
    """An argument of an instruction is missing or has the wrong type; the message is its name."""


def _number(kwargs: Kwargs, name: str) -> float:
    value = kwargs.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MissingArgumentError(name)
    return value


def _text(kwargs: Kwargs, name: str) -> str:
    value = kwargs.get(name)
    if not isinstance(value, str) or not value:
        raise MissingArgumentError(name)
    return value


def _texts(kwargs: Kwargs, name: str) -> list[str]:
    value = kwargs.get(name)
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise MissingArgumentError(name)
    return [*value]


def _holds(count: int, kwargs: Kwargs, relation: str, bound: str) -> bool:
    word = _text(kwargs, relation)
    if word not in ("at least", "less than"):
        raise MissingArgumentError(relation)
    least = _number(kwargs, bound)
    return count >= least if word == "at least" else count < least


def _existence(text: str, kwargs: Kwargs) -> bool:
    seen = fold_case(text)
    return all(fold_case(word) in seen for word in _texts(kwargs, "keywords"))


def _frequency(text: str, kwargs: Kwargs) -> bool:
    count = fold_case(text).count(fold_case(_text(kwargs, "keyword")))
    return _holds(count, kwargs, "relation", "frequency")


def _forbidden(text: str, kwargs: Kwargs) -> bool:
    seen = fold_case(text)
    return not any(
        contains_words(seen, fold_case(word)) for word in _texts(kwargs, "forbidden_words")
    )


def _letters(text: str, kwargs: Kwargs) -> bool:
    count = text.lower().count(_text(kwargs, "letter").lower())
    return _holds(count, kwargs, "let_relation", "let_frequency")


def _language(text: str, kwargs: Kwargs, detect: LanguageDetector) -> bool:
    language = find_language(_text(kwargs, "language"))
    if language is None:
        raise MissingArgumentError("language")
    script = main_script(text)
    if script != language.script:
        return script is None  # without letters it is in no other language
    alone = script not in ("Latin", "Cyrillic", "Arabic", "Devanagari", "Bengali")
    return alone or detect(text) == language.code


def _sentences(text: str, kwargs: Kwargs) -> bool:
    return _holds(len(split_sentences(text, layout=False)), kwargs, "relation", "num_sentences")


def _words(text: str, kwargs: Kwargs) -> bool:
    return _holds(len(_WORD.findall(text)), kwargs, "relation", "num_words")


def _paragraphs(text: str, kwargs: Kwargs) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", text)
    inner = [part.strip() for part in parts[1:-1]]
    count = sum(bool(part.strip()) for part in parts)
    return all(inner) and count == _number(kwargs, "num_paragraphs")


def _first_word(text: str, kwargs: Kwargs) -> bool:
    paragraphs = text.split("\n\n")
    nth = int(_number(kwargs, "nth_paragraph"))
    wanted = fold_case(_text(kwargs, "first_word"))
    full = sum(bool(part.strip()) for part in paragraphs)
    if full != _number(kwargs, "num_paragraphs") or not 1 <= nth <= len(paragraphs):
        return False
    start = fold_case(paragraphs[nth - 1]).strip().lstrip("'\"“‘「")
    if is_unspaced(wanted[-1]):
        return start.startswith(wanted)
    word = re.match(r"[^\s.,?!'\"，。？！”’]*", start)
    return word is not None and word[0] == wanted


def _placeholders(text: str, kwargs: Kwargs) -> bool:
    return len(re.findall(r"\[.*?\]|【.*?】", text)) >= _number(kwargs, "num_placeholders")


def _postscript(text: str, kwargs: Kwargs) -> bool:
    marker = _text(kwargs, "postscript_marker").strip()
    forms = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(forms.get(marker, re.escape(marker.lower())), text.lower()) is not None


def _bullets(text: str, kwargs: Kwargs) -> bool:
    found = re.findall(r"^\s*\*[^\*].*$|^\s*-.*$", text, re.MULTILINE)
    return len(found) == _number(kwargs, "num_bullets")


def _constrained(text: str, _kwargs: Kwargs) -> bool:
    return any(one in text for one in _CONSTRAINED)


def _highlights(text: str, kwargs: Kwargs) -> bool:
    single = [one.strip("*").strip() for one in re.findall(r"\*[^\n\*]*\*", text)]
    double = [one.strip("*").strip() for one in re.findall(r"\*\*[^\n\*]*\*\*", text)]
    return sum(map(bool, (*single, *double))) >= _number(kwargs, "num_highlights")


def _sections(text: str, kwargs: Kwargs) -> bool:
    splitter = re.escape(_text(kwargs, "section_spliter").strip())
    parts = re.split(rf"\s?{splitter}\s?\d+\s?", text)
    return len(parts) - 1 >= _number(kwargs, "num_sections")


def _json(text: str, _kwargs: Kwargs) -> bool:
    bare = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, _kwargs: Kwargs) -> bool:
    return any(one.strip("<>").strip() for one in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str, _kwargs: Kwargs) -> bool:
    parts = [part.strip() for part in text.split("******")]
    full = [part for part in parts if part]
    return all(parts[1:-1]) and len(full) == 2 and full[0] != full[1]


def _repeated_prompt(text: str, kwargs: Kwargs) -> bool:
    return text.strip().lower().startswith(_text(kwargs, "prompt_to_repeat").strip().lower())


def _ends(text: str, kwargs: Kwargs) -> bool:
    return text.strip().strip('"”').lower().endswith(_text(kwargs, "end_phrase").strip().lower())


def _quoted(text: str, _kwargs: Kwargs) -> bool:
    bare = text.strip()
    return len(bare) > 1 and any(
        bare[0] == opening and bare[-1] == closing for opening, closing in _QUOTES
    )


def _capital_words(text: str, kwargs: Kwargs) -> bool:
    words = (word.rstrip(".") for word in _TOKEN.findall(text))
    count = sum(part.isupper() for word in words for part in _CONTRACTION.split(word))
    return _holds(count, kwargs, "capital_relation", "capital_frequency")


def _no_comma(text: str, _kwargs: Kwargs) -> bool:
    return not any(comma in text for comma in ",，﹐︐")


_INSTRUCTIONS: Mapping[str, tuple[InstructionCheck | None, str]] = {
    "keywords:existence": (_existence, "keywords"),
    "keywords:frequency": (_frequency, "keyword frequency relation"),
    "keywords:forbidden_words": (_forbidden, "forbidden_words"),
    "keywords:letter_frequency": (_letters, "letter let_frequency let_relation"),
    "language:response_language": (None, "language"),
    "length_constraints:number_sentences": (_sentences, "num_sentences relation"),
    "length_constraints:number_paragraphs": (_paragraphs, "num_paragraphs"),
    "length_constraints:number_words": (_words, "num_words relation"),
    "length_constraints:nth_paragraph_first_word": (
        _first_word,
        "num_paragraphs nth_paragraph first_word",
    ),
    "detectable_content:number_placeholders": (_placeholders, "num_placeholders"),
    "detectable_content:postscript": (_postscript, "postscript_marker"),
    "detectable_format:number_bullet_lists": (_bullets, "num_bullets"),
    "detectable_format:constrained_response": (_constrained, ""),
    "detectable_format:number_highlighted_sections": (_highlights, "num_highlights"),
    "detectable_format:multiple_sections": (_sections, "section_spliter num_sections"),
    "detectable_format:json_format": (_json, ""),
    "detectable_format:title": (_title, ""),
    "combination:two_responses": (_two_responses, ""),
    "combination:repeat_prompt": (_repeated_prompt, "prompt_to_repeat"),
    "startend:end_checker": (_ends, "end_phrase"),
    "startend:quotation": (_quoted, ""),
    "change_case:capital_word_frequency": (_capital_words, "capital_frequency capital_relation"),
    "change_case:english_capital": (None, ""),
    "change_case:english_lowercase": (None, ""),
    "punctuation:no_comma": (_no_comma, ""),
}
"""The function and the arguments of each; None for those whose function needs a language detector."""

INSTRUCTIONS: Mapping[str, frozenset[str]] = {
    name: frozenset(arguments.split()) for name, (_, arguments) in _INSTRUCTIONS.items()
}
"""Names of the arguments of each instruction, by its id, as in the published data set."""


def make_instruction_checks(
    detect: LanguageDetector, is_english: Callable[[str], bool]
) -> Mapping[str, InstructionCheck]:
    """The functions by id. `detect` is for languages that share a script."""
    detecting: Mapping[str, InstructionCheck] = {
        "language:response_language": lambda text, kwargs: _language(text, kwargs, detect),
        "change_case:english_capital": lambda text, _: text.isupper() and is_english(text),
        "change_case:english_lowercase": lambda text, _: text.islower() and is_english(text),
    }
    return {name: check or detecting[name] for name, (check, _) in _INSTRUCTIONS.items()}
