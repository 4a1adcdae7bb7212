"""YAML text to a tree of values with places, by the rules of YAML 1.2 and without its surprises.

`1e-5` is a number; only true and false are booleans; `no`, `12:30`, `2026-11-01` and `017` are text.
Anchors, tags, merge keys and a key given twice are problems. Time, memory and depth are bounded whatever the
text is. Knows nothing of jobs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from batchgen.errors import Problem
from batchgen.jobfile.tree import KeyPath, Node, Scalar, SourceLocation, dotted_key
from batchgen.jobfile.yaml_errors import (
    TEMPLATE_HINT,
    TEMPLATE_MESSAGE,
    UnreadableYamlError,
    explain_syntax_error,
)

MAX_DEPTH = 20
MAX_VALUES = 20_000
"""Keys and values in one text. No job needs more, and PyYAML takes a second or two for them."""

INTEGER = re.compile(r"^([-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+)$")
FLOAT = re.compile(r"^[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$")
_MAX_DIGITS = 24
"""Characters of an integer that is looked at: Python takes quadratic time over long ones, then refuses them."""
_WORDS: Mapping[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


@dataclass(frozen=True, slots=True)
class ParsedYaml:
    """What came of a text: its top value, None if there is none or it is unreadable, and what is wrong with it."""

    top: Node | None
    problems: tuple[Problem, ...]


def resolve_scalar(text: str) -> Scalar:
    """What an unquoted scalar means: YAML 1.2's core schema, but numbers with leading zeros stay text."""
    if text in _WORDS:
        return _WORDS[text]
    if INTEGER.fullmatch(text):
        return text if _is_too_big(text) else int(text, 0)
    if FLOAT.fullmatch(text):
        return float(text)
    return text


def read_yaml(text: str, *, file: str, origin: str) -> ParsedYaml:
    """Read one document. Problems are collected; after one that leaves the rest unreadable, `top` is None."""
    if control := yaml.reader.Reader.NON_PRINTABLE.search(text):
        return ParsedYaml(None, (_control_character(control, file),))
    composer = _Composer(text, file=file, origin=origin)
    try:
        top = composer.document()
    except UnreadableYamlError as stop:
        # What was noted on the same line is the same mistake.
        before = [p for p in composer.problems if p.line != stop.problem.line]
        return ParsedYaml(None, (*before, stop.problem))
    return ParsedYaml(top, tuple(composer.problems))


def _control_character(found: re.Match[str], file: str) -> Problem:
    before = found.string[: found.start()].splitlines(keepends=True) or [""]
    ended = before[-1] != before[-1].rstrip("\r\n\x85\u2028\u2029")
    line, column = (len(before) + 1, 1) if ended else (len(before), len(before[-1]) + 1)
    message = f"the character U+{ord(found[0]):04X}, which a text file cannot have"
    hint = "remove it" if found[0] != "\0" else "save the file as UTF-8 text"
    return Problem("", message, hint, line, column, file)


def _is_too_big(integer: str) -> bool:
    return len(integer) > _MAX_DIGITS or not -(2**63) <= int(integer, 0) < 2**63


class _Composer:
    """Builds nodes from PyYAML's events, so that the limits hold before anything is built."""

    def __init__(self, text: str, *, file: str, origin: str) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._file = file
        self._origin = origin
        self._loader = yaml.SafeLoader(text)
        self._values = 0

    def document(self) -> Node | None:
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        first = self._next()
        top = self._value(first, (), self._place(first))
        self._next()  # the document's end
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            self._note(after, (), "a second document: one job per file", "remove what follows ---")
        return top

    def _value(self, event: yaml.Event, path: KeyPath, place: SourceLocation) -> Node:
        self._refuse_depth(len(path), place)
        self._refuse_tag_and_anchor(event, path, place)
        if isinstance(event, yaml.MappingStartEvent):
            return Node(self._mapping(path, place), place, self._origin)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._sequence(path), place, self._origin)
        if isinstance(event, yaml.ScalarEvent):
            return Node(self._scalar(event, path, place), place, self._origin)
        return Node(None, place, self._origin)  # an alias, noted as a problem above

    def _sequence(self, path: KeyPath) -> tuple[Node, ...]:
        items: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items)), self._place(event)))
        return tuple(items)

    def _mapping(self, path: KeyPath, place: SourceLocation) -> dict[str, Node] | None:
        entries: dict[str, Node] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if isinstance(event, yaml.MappingStartEvent) and event.flow_style:
                self._note(place, path, TEMPLATE_MESSAGE, TEMPLATE_HINT)
                self._skip(event)
                self._skip(self._next())
                self._rest_of_template()
                return None
            key = self._key(event, path, entries)
            if key is None:
                self._skip(event)
                self._skip(self._next())
            else:
                entries[key] = self._value(self._next(), (*path, key), self._place(event))
        return entries

    def _rest_of_template(self) -> None:
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            self._skip(event)

    def _key(self, event: yaml.Event, path: KeyPath, entries: Mapping[str, Node]) -> str | None:
        """The name of the next entry; None, with a problem noted, where it cannot be one."""
        self._refuse_tag_and_anchor(event, path, self._place(event))
        if not isinstance(event, yaml.ScalarEvent):
            if not isinstance(event, yaml.AliasEvent):
                self._note(event, path, "a key must be text, found a list or a mapping")
            return None
        if event.style is None and event.value == "<<":
            hint = "share settings through extends or profiles"
            self._note(event, path, "YAML merge keys (<<) are not allowed", hint)
            return None
        if not isinstance(self._scalar(event, path, self._place(event)), str):
            message = f"a key must be text, found {event.value or 'nothing'}"
            self._note(event, path, message, f"quote it: '{event.value}'" if event.value else "")
            return None
        if event.value in entries:
            first = entries[event.value].place.line
            message = f"given twice (lines {first} and {self._place(event).line})"
            self._note(event, (*path, event.value), message, "keep one of them")
        return event.value

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath, place: SourceLocation) -> Scalar:
        text = event.value
        if any("\ud800" <= c <= "\udfff" or c == "\0" for c in text):
            self._note(place, path, "holds a character that text cannot have (NUL or half a pair)")
            return None
        if event.style is not None:
            return text
        if INTEGER.fullmatch(text) and _is_too_big(text):
            message = "a number that does not fit into 64 bits"
            self._note(place, path, message, "quote it if it is meant as text")
            return None
        return resolve_scalar(text)

    def _refuse_depth(self, depth: int, place: SourceLocation) -> None:
        if depth > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep"
            raise UnreadableYamlError(
                Problem("", message, "", place.line, place.column, self._file)
            )

    def _refuse_tag_and_anchor(
        self, event: yaml.Event, path: KeyPath, place: SourceLocation
    ) -> None:
        if getattr(event, "tag", None):
            hint = "remove the word that starts with !, or quote text that starts so"
            self._note(place, path, "YAML tags are not allowed", hint)
        if getattr(event, "anchor", None):
            hint = "write the value out, share it through vars or extends; quote text that starts with * or &"
            self._note(place, path, "YAML anchors and aliases (& and *) are not allowed", hint)

    def _skip(self, event: yaml.Event) -> None:
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth <= 0:
                return
            self._refuse_depth(depth, self._place(event))
            event = self._next()

    def _next(self) -> yaml.Event:
        try:
            event: yaml.Event = self._loader.get_event()  # type: ignore[no-untyped-call]  # gap in the stubs
        except yaml.MarkedYAMLError as error:
            raise UnreadableYamlError(
                explain_syntax_error(error, self._text, self._file)
            ) from error
        except (
            ValueError,
            OverflowError,
        ) as error:  # "\UFFFFFFFF", or a %YAML line with 5,000 digits
            mark = self._loader.get_mark()
            message = "not valid YAML: an escape such as \\U or a version that is out of range"
            problem = Problem("", message, "", mark.line + 1, mark.column + 1, self._file)
            raise UnreadableYamlError(problem) from error
        self._values += isinstance(event, yaml.NodeEvent)
        if self._values > MAX_VALUES:
            place = self._place(event)
            message = f"more than {MAX_VALUES:,} keys and values in one file"
            raise UnreadableYamlError(
                Problem("", message, "", place.line, place.column, self._file)
            )
        return event

    def _place(self, event: yaml.Event) -> SourceLocation:
        mark = event.start_mark
        return (
            SourceLocation(self._file, mark.line + 1, mark.column + 1)
            if mark
            else SourceLocation(self._file)
        )

    def _note(
        self, at: yaml.Event | SourceLocation, path: KeyPath, message: str, hint: str = ""
    ) -> None:
        place = at if isinstance(at, SourceLocation) else self._place(at)
        problem = Problem(dotted_key(path), message, hint, place.line, place.column, self._file)
        self.problems.append(problem)
