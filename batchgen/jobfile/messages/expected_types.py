"""The value that the schema expects at a key, in words: for messages and for the reference."""

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from batchgen.job.spec import Job
from batchgen.jobfile.tree import KeyPath


@dataclass(frozen=True, slots=True)
class Expected:
    """A type of the schema: the members of its union, each with its limits (`annotated_types` and `Field`)."""

    members: tuple["Member", ...]
    description: str = ""

    @property
    def takes_text(self) -> bool:
        """Whether any text is valid, not only words such as "auto"."""
        return any(m.kind in (str, Any) for m in self.members)

    @property
    def means_text(self) -> bool:
        """Whether the type is text, not any value."""
        return any(m.kind is str for m in self.members)

    @property
    def section(self) -> type[BaseModel] | None:
        """The section, if there is exactly one."""
        return self._sections[0] if len(self._sections) == 1 else None

    @property
    def tagged(self) -> "Mapping[str, type[BaseModel]]":
        """The possible sections by the value of the key `type`; empty if there is no choice."""
        if len(self._sections) < 2:
            return {}
        return {str(section.model_fields["type"].default): section for section in self._sections}

    @property
    def _sections(self) -> "list[type[BaseModel]]":
        kinds = (m.kind for m in self.members)
        return [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]

    @property
    def item(self) -> "Expected | None":
        """The type of the items, if a list is valid."""
        lists = (m.arguments[0] for m in self.members if m.kind is tuple)
        return next((_expected(item) for item in lists), None)

    @property
    def is_free(self) -> bool:
        """Whether this is a mapping with arbitrary keys."""
        return any(m.kind is dict for m in self.members)

    @property
    def words(self) -> tuple[str, ...]:
        """The words that are valid."""
        choices = (c for m in self.members if m.kind is Literal for c in m.arguments)
        return tuple(c for c in choices if isinstance(c, str))

    def __str__(self) -> str:
        """Such as "a whole number of at least 1, or auto"."""
        if self.tagged:
            return "a type, or a mapping with the key `type`"
        texts = [m.words() for m in self.members if m.kind is not type(None)]
        return texts[0] if len(texts) == 1 else ", or ".join(texts)


@dataclass(frozen=True, slots=True)
class Member:
    """One alternative of a type: `kind` is str, int, float, bool, dict, tuple, Literal, Any, None's type or a section."""

    kind: object
    arguments: tuple[object, ...] = ()
    limits: tuple[object, ...] = ()

    def words(self) -> str:
        if self.kind is Literal:
            return _alternatives([str(choice) for choice in self.arguments])
        if self.kind is str:
            return "one character" if self._limit("max_length") == 1 else "text"
        if self.kind is tuple:
            least = "one or more " if self._limit("min_length") else ""
            return f"a list of {least}{_plural(_expected(self.arguments[0]))}"
        if self.kind in (int, float):
            return ("a whole number" if self.kind is int else "a number") + self._range()
        return _NAMES.get(self.kind, "a mapping")

    def _limit(self, name: str) -> Any:  # noqa: ANN401 - numbers of either kind, or None
        found = (getattr(limit, name) for limit in self.limits if hasattr(limit, name))
        return next((value for value in found if value is not None), None)

    def _range(self) -> str:
        least, above = self._limit("ge"), self._limit("gt")
        most, below = self._limit("le"), self._limit("lt")
        if below == 2**63:
            return f" from {least} to 2^63 - 1"
        if least is not None and most is not None:
            return f" from {least:,} to {most:,}"
        bounds = {"of at least": least, "above": above, "at most": most, "below": below}
        parts = [f"{words} {limit}" for words, limit in bounds.items() if limit is not None]
        return (" " + " and ".join(parts)) if parts else ""


_NAMES: dict[object, str] = {
    str: "text",
    bool: "true or false",
    dict: "a mapping",
    Any: "any value",
}
_PLURALS: dict[object, str] = {str: "texts", int: "whole numbers", float: "numbers"}


def key_of(name: str, field: FieldInfo) -> str:
    """The key of a field in the job file. It differs where Python reserves the word, such as `schema`."""
    return field.alias or name


def _plural(item: Expected) -> str:
    words = [f"words: {_alternatives(item.words)}"] if item.words else []
    kinds = (m.kind for m in item.members if m.kind is not Literal)
    return " or ".join(dict.fromkeys([*words, *(_PLURALS.get(k, "mappings") for k in kinds)]))


@cache
def section_fields(section: type[BaseModel]) -> Mapping[str, Expected]:
    """The keys of a section."""
    return {
        key_of(name, field): Expected(
            _members(field.annotation, tuple(field.metadata)), field.description or ""
        )
        for name, field in section.model_fields.items()
    }


def expected_at(path: KeyPath, top: type[BaseModel] = Job) -> Expected | None:
    """The type at a path; None for a key that does not exist. In a free mapping any value is valid.

    Where a list has sections of several types, the path may contain the type: ("evaluate", "metrics", 0, "exact").
    """
    here: Expected | None = Expected((Member(top),))
    for step in path:
        here = _inside(here, step) if here is not None else None
    return here


@cache
def all_keys() -> tuple[KeyPath, ...]:
    """The path of every key and section, in the order of the schema."""
    return tuple(_keys(Job, ()))


def _keys(section: type[BaseModel], path: KeyPath) -> Iterator[KeyPath]:
    for name, expected in section_fields(section).items():
        yield (*path, name)
        if expected.section is not None:
            yield from _keys(expected.section, (*path, name))


def _inside(expected: Expected, step: str | int) -> Expected | None:
    if any(m.kind is Any for m in expected.members):
        return expected
    if isinstance(step, int):
        return expected.item
    if step in expected.tagged:
        return Expected((Member(expected.tagged[step]),))
    if expected.section is not None:
        return section_fields(expected.section).get(step)
    values = (m.arguments[1] for m in expected.members if m.kind is dict)
    return next((_expected(value) for value in values), None)


def _expected(annotation: object) -> Expected:
    return Expected(_members(annotation, ()))


def _members(annotation: object, limits: tuple[object, ...]) -> tuple[Member, ...]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *metadata = arguments
        flat = (
            m for one in metadata for m in (one.metadata if isinstance(one, FieldInfo) else (one,))
        )
        return _members(inner, (*flat, *limits))
    if origin in (Union, types.UnionType):
        return tuple(m for argument in arguments for m in _members(argument, limits))
    return (Member(origin or annotation, arguments, limits),)


def _alternatives(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
