"""Whether the response is JSON, and conforms to a schema."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from pydantic import Field

from batchgen.errors import DataError
from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, no_answer_found
from batchgen.metrics.optional import require_package
from batchgen.records import Score
from batchgen.section import NonEmptyText

_FENCED = re.compile(r"\s*```[A-Za-z0-9]*[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)


class JsonOptions(MetricOptions):
    """The response is valid JSON and nothing else; `NaN` and repeated keys are not valid."""

    type: Literal["json"] = "json"
    allow_code_fence: bool = False
    """true: the response may be inside a Markdown code fence."""


class JsonSchemaOptions(MetricOptions):
    """The response is JSON that conforms to a schema; the rule is the keyword that it breaks. Needs the extra `structured`."""

    type: Literal["json_schema"] = "json_schema"
    schema_: Annotated[NonEmptyText, Field(alias="schema")]
    """File with the JSON Schema, relative to the job file. It must not refer to other files."""
    allow_code_fence: bool = False
    """true: the response may be inside a Markdown code fence."""


class NotJSONError(ValueError):
    """A text that is not JSON; its only argument is the rule."""


SchemaViolation = Callable[[object], str | None]
"""From a value to the keyword of a schema that it breaks; None if it conforms."""


@dataclass(frozen=True, slots=True)
class JsonValid:
    """1 if the response is JSON (RFC 8259) and nothing else, and conforms to the schema if there is one.

    `NaN`, `Infinity` and repeated keys are not valid, though Python reads them.
    """

    spec: Spec
    allow_code_fence: bool
    violation: SchemaViolation

    def score(self, answer: Answer) -> Score:
        """Score an answer; the rule is what is broken. The status is `truncated` where the response was cut off."""
        text = answer.text
        fence = _FENCED.fullmatch(text)
        if fence is not None and self.allow_code_fence:
            text = fence[1]
        try:
            value = parse_strictly(text)
        except NotJSONError as error:
            return no_answer_found(self.spec, answer, "fenced" if fence else str(error))
        broken = self.violation(value)
        return Score(self.spec.name, float(broken is None), "ok", None, broken)


def parse_strictly(text: str) -> object:
    """The value of a text in JSON.

    Raises:
        NotJSONError: it is none, has a repeated key or a number such as `NaN`, or is too deep.
    """
    try:
        return json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_unique, parse_int=_integer
        )
    except json.JSONDecodeError:
        raise NotJSONError("syntax") from None
    except RecursionError:
        raise NotJSONError("depth") from None


def _integer(digits: str) -> int | float:
    """Python does not read integers of thousands of digits; JSON has no such limit."""
    return int(digits) if len(digits) < 1000 else float(digits)


def _refuse_constant(_name: str) -> NoReturn:
    raise NotJSONError("constant")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotJSONError("repeated key")
    return found


def _parse_schema(content: bytes, file: Path) -> object:
    try:
        schema: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        hint = "Give the path of a JSON Schema file."
        raise DataError(f"{file}: is not JSON", hint=hint) from error
    return schema


def read_schema(schema: object, place: object) -> SchemaViolation:
    """Read a JSON Schema of any draft; 2020-12 if it names none. `place` is named in errors.

    Raises:
        DataError: if it is not a schema, refers to other files, or jsonschema-rs is not installed.
    """
    outside = sorted({ref for ref in _references(schema) if not ref.startswith("#")})
    if outside:
        raise DataError(
            f"{place}: refers to {outside[0]!r}, which is not in this file",
            hint="Copy it under $defs and write #/$defs/NAME: batchgen opens no connection.",
        )
    library = require_package("jsonschema_rs", "structured")
    try:
        validator = library.validator_for(schema, retriever=_refuse_retrieval)
    except ValueError as error:
        raise DataError(f"{place}: is not a JSON Schema: {str(error).splitlines()[0]}") from error

    def violation(value: object) -> str | None:
        try:
            broken = next(iter(validator.iter_errors(value)), None)
        except ValueError:  # halves of surrogate pairs, which JSON can write and UTF-8 cannot
            return "surrogate"
        return None if broken is None else str((list(broken.schema_path) or ["false"])[-1])

    return violation


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


def _json_schema(spec: Spec, options: JsonSchemaOptions) -> JsonValid:
    file = Path(options.schema_)
    try:
        content = file.read_bytes()
    except OSError as error:
        message = f"{file}: cannot be read: {error.strerror}"
        raise DataError(message, hint="Give the path of a JSON Schema file.") from error
    signed = replace(spec, signature=f"sha256:{hashlib.sha256(content).hexdigest()}")
    return JsonValid(
        signed, options.allow_code_fence, read_schema(_parse_schema(content, file), file)
    )


JSON = MetricType(JsonOptions, lambda spec, o: JsonValid(spec, o.allow_code_fence, lambda _: None))
JSON_SCHEMA = MetricType(JsonSchemaOptions, _json_schema)
