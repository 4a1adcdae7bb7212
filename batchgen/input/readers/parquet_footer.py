"""The footer of a Parquet file, read without pyarrow, which ends the process at some damaged or encrypted footers.

A footer is a `FileMetaData` of https://github.com/apache/parquet-format in Thrift's compact protocol. Only what is
needed to check a file before pyarrow reads it is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BYTE_ARRAY = 6
"""The physical type of text."""

_DEEPEST = 32
_BOOL_TRUE, _BOOL_FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = (
    1, 2, 3, 7, 8, 9, 10, 11, 12,
)  # fmt: skip

_Fields = Mapping[int, Any]
"""The numbers of the fields to keep. The value is the same for a struct or list of structs, else None."""
_COLUMN: _Fields = {1: None, 3: {1: None, 4: None, 5: None, 6: None, 11: None}, 8: {}, 9: None}
_FOOTER: _Fields = {3: None, 4: {1: _COLUMN, 2: None, 3: None}, 8: {}}


class FooterError(ValueError):
    """Bytes that are not a footer."""


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """A column of a row group.

    Attributes:
        codec: number of its compression, as in parquet-format.
        values: number of values, nulls included.
        unpacked_bytes: size of its pages when decompressed.
        has_dictionary: whether its values are numbers of the entries of a dictionary.
    """

    physical_type: int
    codec: int
    values: int
    unpacked_bytes: int
    has_dictionary: bool
    is_encrypted: bool
    is_elsewhere: bool


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group. `columns` are the leaves of the schema, in order."""

    rows: int
    unpacked_bytes: int
    columns: tuple[ColumnChunk, ...]


@dataclass(frozen=True, slots=True)
class Footer:
    """The footer of a file."""

    rows: int
    groups: tuple[RowGroup, ...]


def parse_footer(data: bytes) -> Footer:
    """Parse a footer, without its length and magic number; FooterError if it is damaged."""
    try:
        fields = _CompactReader(data).struct(_FOOTER)
        return Footer(fields[3], tuple(map(_row_group, fields[4])))
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise FooterError("a field is missing or has another type") from error


def _row_group(fields: dict[int, Any]) -> RowGroup:
    columns = tuple(map(_column, fields[1]))
    return RowGroup(_natural(fields[3]), _natural(fields[2]), columns)


def _column(fields: dict[int, Any]) -> ColumnChunk:
    is_encrypted = 8 in fields or 9 in fields
    known = fields.get(3, dict.fromkeys((1, 4, 5, 6), 0)) if is_encrypted else fields[3]
    return ColumnChunk(
        physical_type=_natural(known[1]),
        codec=_natural(known[4]),
        values=_natural(known[5]),
        unpacked_bytes=_natural(known[6]),
        has_dictionary=11 in known,
        is_encrypted=is_encrypted,
        is_elsewhere=bool(fields.get(1)),
    )


def _natural(value: int) -> int:
    if value < 0:
        raise FooterError("a count is negative")
    return value


class _CompactReader:
    """Reader of Thrift's compact protocol (https://github.com/apache/thrift/blob/master/doc/specs)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._depth = 0

    def struct(self, wanted: _Fields) -> dict[int, Any]:
        """The wanted fields of a struct; FooterError or IndexError if it is damaged."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise FooterError("structs are nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = divmod(head, 16)
            number = number + step if step else self._zigzag()
            if kind in {_BOOL_TRUE, _BOOL_FALSE}:
                value: Any = kind == _BOOL_TRUE
            else:
                value = self._value(kind, wanted.get(number))
            if number in wanted:
                fields[number] = value
        self._depth -= 1
        return fields

    def _value(self, kind: int, wanted: _Fields | None) -> Any:  # noqa: ANN401  # any type of Thrift
        if kind == _STRUCT:
            return self.struct(wanted or {})
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in {_LIST, _SET}:
            return self._list(wanted)
        if kind == _MAP:
            return self._map()
        return self._number(kind)

    def _number(self, kind: int) -> int | bytes:
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind in {_BOOL_TRUE, _BOOL_FALSE, _BYTE}:
            return self._byte()
        if kind > _STRUCT:
            raise FooterError(f"unknown type {kind}")
        return self._zigzag()

    def _list(self, wanted: _Fields | None) -> list[Any] | None:
        size, kind = divmod(self._byte(), 16)
        if size == 15:
            size = self._varint()
        if size > len(self._data) - self._at:
            raise FooterError("a list is longer than the footer")
        if wanted is not None:
            return [self._value(kind, wanted) for _ in range(size)]
        for _ in range(size):
            self._value(kind, None)
        return None

    def _map(self) -> None:
        size = self._varint()
        if not size:
            return
        key, value = divmod(self._byte(), 16)
        if size > len(self._data) - self._at:
            raise FooterError("a map is longer than the footer")
        for _ in range(size):
            self._value(key, None)
            self._value(value, None)

    def _bytes(self, size: int) -> bytes:
        start = self._at
        self._at += size
        if self._at > len(self._data):
            raise FooterError("ends within a value")
        return self._data[start : self._at]

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise FooterError("a number has more than 64 bits")
