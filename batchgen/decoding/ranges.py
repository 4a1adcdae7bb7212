"""The valid values of each decoding setting, whether from the job, a column or generation_config.json.

The only source is `Decoding` in `job/spec.py`.
"""

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from batchgen.job.spec import Decoding

_LARGEST = 2**31 - 1
"""Largest integer of any setting: token counts must fit in tensors."""


@dataclass(frozen=True, slots=True)
class Range:
    """The values of one setting.

    Attributes:
        words: for messages, such as "a number from 0 to 10".
    """

    adapter: TypeAdapter[Any]
    is_integer: bool
    words: str

    def accept(self, value: object) -> object:
        """The value in the setting's type (1 becomes 1.0 for a temperature), or None if it is not valid.

        Text, true and false are not numbers.
        """
        if isinstance(value, int) and abs(value) > _LARGEST:
            return None
        try:
            return self.adapter.validate_python(value, strict=True)
        except ValidationError:
            return None

    def read(self, cell: object) -> object:
        """The value of an input cell; None if it is not valid. Accepts text such as "0.7", and 3.0 for an integer."""
        number = _to_float(cell) if isinstance(cell, str | Decimal) else cell
        if self.is_integer and isinstance(number, float) and number.is_integer():
            number = int(number)
        return self.accept(number)


def _to_float(number: str | Decimal) -> float | None:
    if isinstance(number, str) and "_" in number:
        return None  # float() would accept 1_000
    try:
        return float(number)
    except ValueError:
        return None


@cache
def range_of(setting: str) -> Range:
    """The range of a field of `Decoding`, as its schema defines it."""
    adapter: TypeAdapter[Any] = TypeAdapter(Decoding.model_fields[setting].rebuild_annotation())
    schema = adapter.json_schema()
    schema = schema.get("anyOf", [schema])[0]
    return Range(adapter, schema["type"] == "integer", _words(schema))


_NOUNS = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}


def _words(schema: dict[str, Any]) -> str:
    noun = _NOUNS.get(schema["type"], "a list of texts")
    if "exclusiveMinimum" in schema:
        return f"{noun} above {schema['exclusiveMinimum']:g}, up to {schema['maximum']:g}"
    if "maximum" in schema:
        return f"{noun} from {schema['minimum']:g} to {schema['maximum']:g}"
    return f"{noun} from {schema['minimum']:g} on" if "minimum" in schema else noun
