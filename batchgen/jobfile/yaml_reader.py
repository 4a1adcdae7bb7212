"""From YAML text to a tree of values with their positions, by the rules of YAML 1.2.

`1e-5` is a number; only true and false are booleans; `no`, `12:30`, `2026-11-01` and `017` are text.
Anchors, tags, merge keys and duplicate keys are errors.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from batchgen.errors import Problem
from batchgen.jobfile.tree import KeyPath, Node, Scalar, SourceLocation, dotted_key
from batchgen.jobfile.wide_punctuation import wide_indentation_problem, wide_key_problem
from batchgen.jobfile.yaml_errors import (
    TEMPLATE_HINT,
    TEMPLATE_MESSAGE,
    UnreadableYamlError,
    explain_syntax_error,
)

MAX_DEPTH = 20

INTEGER = re.compile(r"^([-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+)$")
FLOAT = re.compile(r"^[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$")
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
    """The top value of a text, None if it is empty or unreadable, and the problems."""

    top: Node | None
    problems: tuple[Problem, ...]


def resolve_scalar(text: str) -> Scalar:
    """The value of an unquoted scalar, by the core schema of YAML 1.2. Numbers with leading zeros stay text."""
    if text in _WORDS:
        return _WORDS[text]
    if INTEGER.fullmatch(text):
        return text if _exceeds_64_bits(text) else int(text, 0)
    if FLOAT.fullmatch(text):
        return float(text)
    return text


def read_yaml(text: str, *, file: str, origin: str) -> ParsedYaml:
    """Read one document. Problems are collected; after one that makes the rest unreadable, `top` is None."""
    try:
        composer = _Composer(text, file=file, origin=origin)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"the character U+{error.character:04X} is not allowed in YAML"
        problem = Problem("", message, "Save the file as UTF-8 text.", line, 1, file)
        return ParsedYaml(None, (problem,))
    try:
        top = composer.document()
    except UnreadableYamlError as stop:
        # Problems on the same line are the same mistake.
        before = [p for p in composer.problems if p.line != stop.problem.line]
        return ParsedYaml(None, (*before, stop.problem))
    return ParsedYaml(top, tuple(composer.problems))


def _exceeds_64_bits(integer: str) -> bool:
    return len(integer) > 24 or not -(2**63) <= int(integer, 0) < 2**63


class _Composer:
    """Builds nodes from the events of PyYAML."""

    def __init__(self, text: str, *, file: str, origin: str) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._file = file
        self._origin = origin
        self._loader = yaml.SafeLoader(text)

    def document(self) -> Node | None:
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        first = self._next()
        top = self._value(first, (), self._location(first))
        self._next()  # the document's end
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            hint = "Remove the text after ---: a file has one job."
            self._note(after, (), "a second document", hint)
        return top

    def _value(self, event: yaml.Event, path: KeyPath, location: SourceLocation) -> Node:
        if len(path) > MAX_DEPTH:
            message, hint = f"nested more than {MAX_DEPTH} levels deep", "Use fewer levels."
            raise self._unreadable(location, message, hint)
        self._refuse_tag_and_anchor(event, path, location)
        if isinstance(event, yaml.MappingStartEvent):
            return Node(self._mapping(path, location), location, self._origin)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._sequence(path), location, self._origin)
        if isinstance(event, yaml.ScalarEvent):
            return Node(self._scalar(event, path, location), location, self._origin)
        return Node(None, location, self._origin)  # an alias, which is a problem already

    def _sequence(self, path: KeyPath) -> tuple[Node, ...]:
        items: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items)), self._location(event)))
        return tuple(items)

    def _mapping(self, path: KeyPath, location: SourceLocation) -> dict[str, Node] | None:
        entries: dict[str, Node] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if isinstance(event, yaml.MappingStartEvent) and event.flow_style:
                self._note(location, path, TEMPLATE_MESSAGE, TEMPLATE_HINT)
                self._skip(event)
                self._skip(self._next())
                while not isinstance(event := self._next(), yaml.MappingEndEvent):
                    self._skip(event)
                return None
            key = self._key(event, path, entries)
            if key is None:
                self._skip(event)
                self._skip(self._next())
            else:
                entries[key] = self._value(self._next(), (*path, key), self._location(event))
        return entries

    def _key(self, event: yaml.Event, path: KeyPath, entries: Mapping[str, Node]) -> str | None:
        """The name of the next entry; None, and a problem, if it is invalid."""
        self._refuse_tag_and_anchor(event, path, self._location(event))
        if not isinstance(event, yaml.ScalarEvent):
            if not isinstance(event, yaml.AliasEvent):
                message = "expected text as a key; found a list or a mapping"
                self._note(event, path, message, "Write the key as text.")
            return None
        if event.style is None and event.value == "<<":
            hint = "Use extends or profiles to share settings."
            self._note(event, path, "YAML merge keys (<<) are not allowed", hint)
            return None
        start = self._location(event)
        wide = None
        if event.style is None:
            wide = wide_indentation_problem(event.value, start)
            wide = wide or wide_key_problem(event.value, path, start)
        if wide is not None:
            self.problems.append(wide)
            return None
        if not isinstance(self._scalar(event, (*path, event.value), self._location(event)), str):
            message = f"expected text as a key; found {event.value or 'nothing'}"
            self._note(event, path, message, f"Quote it: '{event.value}'." if event.value else "")
            return None
        if event.value in entries:
            first = entries[event.value].location.line
            message = f"given twice (lines {first} and {self._location(event).line})"
            self._note(event, (*path, event.value), message, "Keep one of them.")
        return event.value

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath, location: SourceLocation) -> Scalar:
        text = event.value
        if any("\ud800" <= c <= "\udfff" or c == "\0" for c in text):
            self._note(location, path, "contains NUL or a lone surrogate", "Remove the escape.")
            return None
        if event.style is not None:
            return text
        wide = wide_key_problem(text, path, self._location(event))
        if wide is not None:
            self.problems.append(wide)
            return None
        if INTEGER.fullmatch(text) and _exceeds_64_bits(text):
            message = "a number that does not fit into 64 bits"
            self._note(location, path, message, "Quote it if it is text.")
            return None
        return resolve_scalar(text)

    def _unreadable(self, at: SourceLocation, message: str, hint: str) -> UnreadableYamlError:
        return UnreadableYamlError(Problem("", message, hint, at.line, at.column, self._file))

    def _refuse_tag_and_anchor(
        self, event: yaml.Event, path: KeyPath, location: SourceLocation
    ) -> None:
        if getattr(event, "tag", None):
            hint = "Remove the word that starts with !, or quote the text."
            self._note(location, path, "YAML tags are not allowed", hint)
        if getattr(event, "anchor", None):
            hint = "Use vars or extends to share values; quote text that starts with * or &."
            self._note(location, path, "YAML anchors and aliases (& and *) are not allowed", hint)

    def _skip(self, event: yaml.Event) -> None:
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth <= 0:
                return
            event = self._next()

    def _next(self) -> yaml.Event:
        try:
            event: yaml.Event = self._loader.get_event()  # type: ignore[no-untyped-call]  # gap in the stubs
        except yaml.MarkedYAMLError as error:
            problem = explain_syntax_error(error, self._text, self._file)
            raise UnreadableYamlError(problem) from error
        except (ValueError, OverflowError) as error:  # the escape "\UFFFFFFFF"
            mark = self._loader.get_mark()
            location = SourceLocation(self._file, mark.line + 1, mark.column + 1)
            message = "not valid YAML: an escape such as \\U is out of range"
            raise self._unreadable(location, message, "Correct the escape.") from error
        return event

    def _location(self, event: yaml.Event) -> SourceLocation:
        mark = event.start_mark
        position = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        return SourceLocation(self._file, *position)

    def _note(
        self, at: yaml.Event | SourceLocation, path: KeyPath, message: str, hint: str = ""
    ) -> None:
        location = at if isinstance(at, SourceLocation) else self._location(at)
        problem = Problem(
            dotted_key(path), message, hint, location.line, location.column, self._file
        )
        self.problems.append(problem)
