"""Is the response JSON, and does it fit a schema."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from batchgen.errors import DataError
from batchgen.metrics.base import Answer, Spec, no_answer_found, unscored
from batchgen.metrics.packages import require_package
from batchgen.records import Score

_FENCED = re.compile(r"\s*```[A-Za-z0-9]*[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)


class _NotJSONError(ValueError):
    """A text that is no JSON; its only argument is the rule."""


@dataclass(frozen=True, slots=True)
class JsonValid:
    """1 if the response is JSON (RFC 8259) and nothing else, and fits the schema if there is one.

    `NaN`, `Infinity` and repeated keys are not valid, though Python reads them.

    Attributes:
        fenced: allow takes ```` ```json ... ``` ```` around it as well.
        misfit: value to the keyword of the schema that it breaks; None if it fits.
    """

    spec: Spec
    fenced: Literal["refuse", "allow"]
    misfit: Callable[[object], str | None]

    def score(self, answer: Answer) -> Score:
        """1, or 0 with what is wrong as rule; `truncated` where the response was cut off."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        text = answer.response
        fence = _FENCED.fullmatch(text)
        if fence is not None and self.fenced == "allow":
            text = fence[1]
        try:
            value = _parsed(text)
        except _NotJSONError as error:
            return no_answer_found(self.spec, answer, "fenced" if fence else str(error))
        broken = self.misfit(value)
        return Score(self.spec.name, float(broken is None), "ok", None, broken)


def _parsed(text: str) -> object:
    try:
        return json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_unique, parse_int=_integer
        )
    except json.JSONDecodeError:
        raise _NotJSONError("syntax") from None
    except RecursionError:
        raise _NotJSONError("depth") from None


def _integer(digits: str) -> int | float:
    """Python refuses to read integers of thousands of digits; JSON has no such limit."""
    return int(digits) if len(digits) < 1000 else float(digits)


def _refuse_constant(_name: str) -> NoReturn:
    raise _NotJSONError("constant")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _NotJSONError("repeated key")
    return found


def accept_anything(_value: object) -> None:
    """What stands in for a schema where there is none."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A JSON Schema.

    Attributes:
        misfit: value to the keyword that it breaks; None if it fits.
        sha256: of the file.
    """

    misfit: Callable[[object], str | None]
    sha256: str


def read_schema(file: Path) -> JsonSchema:
    """Read a JSON Schema of any draft; 2020-12 if it does not say.

    Raises:
        DataError: if it is no schema, points outside itself, or jsonschema-rs is not installed.
    """
    try:
        content = file.read_bytes()
        schema = json.loads(content)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: is no JSON") from error
    outside = sorted({ref for ref in _references(schema) if not ref.startswith("#")})
    if outside:
        raise DataError(
            f"{file}: points to {outside[0]!r}, which is not in it",
            hint="batchgen opens no connection: put it under $defs and write #/$defs/NAME",
        )
    library = require_package("jsonschema_rs", "structured")
    try:
        validator = library.validator_for(schema, retriever=_refuse_retrieval)
    except ValueError as error:
        raise DataError(f"{file}: is no JSON Schema: {str(error).splitlines()[0]}") from error

    def misfit(value: object) -> str | None:
        try:
            broken = next(iter(validator.iter_errors(value)), None)
        except ValueError:  # halves of surrogate pairs, which JSON can write and UTF-8 cannot
            return "surrogate"
        return None if broken is None else str((list(broken.schema_path) or ["false"])[-1])

    return JsonSchema(misfit, hashlib.sha256(content).hexdigest())


def _refuse_retrieval(uri: str) -> NoReturn:
    raise OSError(f"{uri} is not part of the schema")


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(schema, list | tuple):
        for one in schema:
            yield from _references(one)
