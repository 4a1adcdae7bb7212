"""`${...}` in the text of a job: environment, date, variables, the job's name and folder.

`${date-1d:%Y%m%d}` is the day before, in another form. One pass: replaced text is not searched again. `$${` is a literal `${`. Prompts are not changed, since they may
contain shell or JavaScript.
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from batchgen.errors import Problem
from batchgen.jobfile.tree import (
    InvalidValueError,
    KeyPath,
    Node,
    Scalar,
    children,
    dotted_key,
    problem_at,
    shorten,
)

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)(?P<close>\}?)")
_VARIABLE = re.compile(r"\$\{(vars\.[^}]*)\}")
_ENVIRONMENT = re.compile(r"env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)
_DATE = re.compile(r"date(?P<offset>:?[-+][^:]*)?(?::(?P<form>.*))?", re.DOTALL)
"""`date`, an offset such as `-1d` or `:-1d`, and a format after a colon."""
_OFFSET = re.compile(r":?(?P<sign>[-+])(?P<count>[0-9]{1,5})(?P<unit>[dw])")
_DAYS = {"d": 1, "w": 7}
_DATE_FIELDS = "aAbBdGjmuVyY%"
_DATE_HINT = (
    "Write ${date}, ${date-1d} for the day before (d: days, w: weeks), ${date:%Y%m%d} for another form, or both: "
    f"${{date-1d:%Y%m%d}}. Fields: {' '.join(f'%{c}' for c in _DATE_FIELDS)}."
)


@dataclass(slots=True)
class Placeholders:
    """The values of `${...}`, and the problems found so far.

    Attributes:
        folders: the folder of each file of the job, by the file name in `Place`, for `${here}`.
        values: `name` and `vars.NAME`, once they are known.
    """

    environment: Mapping[str, str]
    date: dt.date
    folders: Mapping[str, Path]
    values: dict[str, Scalar] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def fill(self, node: Node, path: KeyPath) -> Node:
        """Replace the placeholders in all texts of a node. A text that is only `${vars.x}` gets the variable's type."""
        if isinstance(node.value, Mapping):
            inner = {key: self.fill(child, (*path, key)) for key, child in node.value.items()}
            return Node(inner, node.location, node.origin)
        if isinstance(node.value, tuple):
            items = tuple(self.fill(child, (*path, i)) for i, child in enumerate(node.value))
            return Node(items, node.location, node.origin)
        if not isinstance(node.value, str) or "${" not in node.value:
            return node
        return self._fill_text(node, node.value, path)

    def fill_job(self, tree: Node, variables: Node | None) -> Node:
        """Replace the placeholders of a job, except in prompts: first in variables, then in the name, then the rest."""
        for key, node in children(variables).items() if variables else ():
            filled = self.fill(node, ("vars", key))
            if isinstance(filled.value, Mapping | tuple):
                message = "expected text, a number or true/false; found a list or a mapping"
                self._note(node, ("vars", key), message, "Write a single value.")
            elif filled.value is not None:
                self.values[f"vars.{key}"] = filled.value
        entries = dict(children(tree))
        if "name" in entries:
            entries["name"] = self.fill(entries["name"], ("name",))
            if isinstance(entries["name"].value, str):
                self.values["name"] = entries["name"].value
        rest = {k: v for k, v in entries.items() if k not in ("name", "prompt")}
        entries |= {key: self.fill(node, (key,)) for key, node in rest.items()}
        return Node(entries, tree.location, tree.origin)

    def _fill_text(self, node: Node, text: str, path: KeyPath) -> Node:
        lone = _VARIABLE.fullmatch(text)
        value: Scalar
        try:
            value = self._variable(lone[1]) if lone else self._replaced(text, node.location.file)
        except InvalidValueError as error:
            self._note(node, path, error.message, error.hint)
            return node
        return Node(value, node.location, node.origin, raw=text)

    def _replaced(self, text: str, file: str) -> str:
        parts: list[str] = []
        end = 0
        for match in _PLACEHOLDER.finditer(text):
            filled = "${" if match["inside"] is None else self._meaning(match, file)
            parts += (text[end : match.start()], filled)
            end = match.end()
        return "".join((*parts, text[end:]))

    def _meaning(self, match: re.Match[str], file: str) -> str:
        inside = match["inside"]
        if not match["close"]:
            hint = "Close it with }, or write $${ for a literal ${."
            raise InvalidValueError("a ${ that is not closed", hint)
        if environment := _ENVIRONMENT.fullmatch(inside):
            return self._environment(environment["name"], environment["default"])
        if dated := _DATE.fullmatch(inside):
            return self._date(dated["offset"], dated["form"])
        if inside == "here":
            return str(self.folders[file])
        value = self._variable(inside)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _variable(self, key: str) -> Scalar:
        if key in self.values:
            return self.values[key]
        known = [
            "env:NAME",
            "env:NAME:-default",
            "date",
            "date-1d",
            "date:%Y%m%d",
            "here",
            *self.values,
        ]
        near = get_close_matches(key, known, 1)
        hint = f"Did you mean ${{{near[0]}}}?" if near else "Write $${ for a literal ${."
        message = f"unknown placeholder ${{{shorten(key, 60)}}}; expected one of {', '.join(known)}"
        raise InvalidValueError(message, hint)

    def _environment(self, name: str, default: str | None) -> str:
        value = self.environment.get(name, "")
        if not value:
            if default is not None:
                return default
            hint = f"Export {name}=..., or write a default: ${{env:{name}:-value}}."
            raise InvalidValueError(f"the environment variable {name} is not set, or empty", hint)
        if any("\ud800" <= c <= "\udfff" for c in value):
            message = f"the environment variable {name} is not UTF-8 text"
            raise InvalidValueError(message, "Set it to UTF-8 text.")
        return value

    def _date(self, offset: str | None, form: str | None) -> str:
        day = self.date
        if offset is not None:
            moved = _OFFSET.fullmatch(offset)
            if moved is None:
                message = f"unknown offset {shorten(offset, 20)} of a date"
                raise InvalidValueError(message, _DATE_HINT)
            days = int(f"{moved['sign']}{moved['count']}") * _DAYS[moved["unit"]]
            try:
                day += dt.timedelta(days=days)
            except OverflowError as error:
                raise InvalidValueError("a date before year 1 or after 9999", _DATE_HINT) from error
        if form is None:
            return day.isoformat()
        if re.search(r"(?:^|[^%])[-+][0-9]+[dw]$", form):
            raise InvalidValueError(f"an offset behind the form {shorten(form, 20)}", _DATE_HINT)
        for field_ in re.findall("%.?", form, flags=re.DOTALL) or [form]:
            if len(field_) != 2 or field_[0] != "%" or field_[1] not in _DATE_FIELDS:
                raise InvalidValueError(f"unknown date field {shorten(field_, 20)}", _DATE_HINT)
        return day.strftime(form)

    def _note(self, node: Node, path: KeyPath, message: str, hint: str = "") -> None:
        self.problems.append(problem_at(node, dotted_key(path), message, hint))


def escape(text: str) -> str:
    """Escape a text so that it stays the same when placeholders are replaced."""
    return text.replace("${", "$${")
