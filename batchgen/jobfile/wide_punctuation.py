"""Punctuation of East Asian keyboards and of word processors where YAML needs its own: `prompt：` is not a key.

YAML reads such a line as text, and reports an error in a later line. Texts may contain these characters, so only places
where the structure of a job needs punctuation are searched.
"""

import re
from collections.abc import Collection, Sequence
from functools import cache

from batchgen.errors import Problem
from batchgen.jobfile.messages.expected_types import all_keys, expected_at
from batchgen.jobfile.tree import KeyPath, SourceLocation

_ASCII = {
    "：": ":", "，": ",", "、": ",", "｛": "{", "｝": "}", "［": "[", "］": "]", "【": "[", "】": "]",
    "＃": "#", "－": "-", "–": "-", "—": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "＂": '"',
}  # fmt: skip
_SPACES = {"\u00a0": "a no-break space", "\u3000": "a full-width space", "\t": "a tab"}
_KEY = re.compile(
    r"""^\s*(?:[-－]\s+)?(?P<quote>["']?)(?P<key>[A-Za-z_]\w*)(?P=quote)\s*(?P<wide>：)"""
)
_NO_SPACE = re.compile(r"(?P<key>[A-Za-z_]\w*)(?P<wide>:)\S")
_IN_FLOW = re.compile(r"[{\[｛［【]\s*(?P<key>[A-Za-z_]\w*)\s*(?P<wide>：)")
_PLACES = (
    re.compile(r"^[ ]*(?P<wide>[\u00a0\u3000\t])"),
    re.compile(r"^\s*(?P<wide>[＃])"),
    re.compile(r"^\s*(?P<wide>[－–—])\s"),
    re.compile(r"^[^：'\"#|>]*:\s*(?P<wide>[｛［【])"),
    re.compile(r"^[^'\"#]*[{\[][^'\"{}\[\]]*(?P<wide>[，、])"),
    re.compile(r"^[^'\"#]*[{\[][^'\"{}\[\]]*(?P<wide>[｝］】])"),
    re.compile(r"^[^'\"#|>]*:\s*(?P<wide>[“”‘’＂])"),
)
_BEFORE = 5
"""Lines before an error in which its cause is searched: a text may continue on several lines."""


def wide_problem(lines: Sequence[str], number: int, file: str) -> Problem | None:
    """The character that causes an error of syntax in line `number`, from 0; None if it has another cause."""
    for line in range(min(number, len(lines) - 1), max(-1, number - _BEFORE), -1):
        if (found := _structural(lines[line])) is not None:
            return _problem("", found, line + 1, file)
    return None


def wide_key_problem(text: str, path: KeyPath, start: SourceLocation) -> Problem | None:
    """The problem of a text `key：value` where the schema expects a section."""
    match = _KEY.match(text) or _NO_SPACE.match(text)
    expected = expected_at(_without_profile(path))
    if match is None or expected is None or expected.takes_text or match["key"] not in _key_names():
        return None
    message, hint = _words(match["wide"])
    column = start.column + match.start("wide")
    return Problem("", message, hint, start.line, column, start.file)


def wide_indentation_problem(key: str, start: SourceLocation) -> Problem | None:
    """The problem of a key that starts with a space that YAML reads as a letter."""
    if key[:1] not in _SPACES or key.lstrip("".join(_SPACES)) not in _key_names():
        return None
    message, hint = _words(key[0])
    return Problem("", message, hint, start.line, start.column, start.file)


def _structural(line: str) -> re.Match[str] | None:
    for pattern in (_KEY, _IN_FLOW):
        if (match := pattern.search(line)) and match["key"] in _key_names():
            return match
    return next((match for pattern in _PLACES if (match := pattern.search(line))), None)


def _problem(key: str, match: re.Match[str], line: int, file: str) -> Problem:
    message, hint = _words(match["wide"])
    return Problem(key, message, hint, line, match.start("wide") + 1, file)


def _words(character: str) -> tuple[str, str]:
    if character in _SPACES:
        return f"not valid YAML: {_SPACES[character]} in the indentation", "Indent with spaces."
    if character == ":":
        return "not valid YAML: a colon without a space", "Write a space after the colon."
    plain = _ASCII[character]
    space = " and a space" if plain == ":" else ""
    return (
        f"not valid YAML: {character} instead of {plain}",
        f"Write {plain}{space} instead of {character}.",
    )


def _without_profile(path: KeyPath) -> KeyPath:
    return path[2:] if path[:1] == ("profiles",) else path


@cache
def _key_names() -> Collection[str]:
    names = {str(path[-1]) for path in all_keys()}
    return names | {"extends", "vars", "profiles", "matrix", "type", "role", "content", "metric"}
