"""Redaction of the cells of a table: which cells are searched, and how ids are redacted."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from batchgen.errors import DataError
from batchgen.input.redacted_cells import CellRedaction
from batchgen.privacy.entities import PII_KINDS
from batchgen.privacy.redact import Redactor, keyed_hash, placeholder

MAIL = "ann@example.com"
TABLE = pa.table(
    {
        "text": [MAIL, None, "nothing"],
        "list": [[MAIL, "a"], [], None],
        "struct": [{"a": MAIL, "n": 1}, {"a": None, "n": 2}, None],
        "messages": [[{"role": "user", "content": f"I am {MAIL}"}], [], None],
        "number": [13800138000, 1, None],
        "other": [MAIL, MAIL, MAIL],
    }
)
TEXT = Redactor(PII_KINDS, placeholder)


def test_nested_text_is_redacted_and_types_are_kept() -> None:
    done = CellRedaction(TEXT, None, keeps_ids_distinct=False).apply(TABLE)
    assert done.table.schema == TABLE.schema
    assert done.table.to_pylist()[0] == {
        "text": "[EMAIL]",
        "list": ["[EMAIL]", "a"],
        "struct": {"a": "[EMAIL]", "n": 1},
        "messages": [{"role": "user", "content": "I am [EMAIL]"}],
        "number": 13800138000,
        "other": "[EMAIL]",
    }
    assert done.table.slice(1).drop(["other"]).equals(TABLE.slice(1).drop(["other"]))
    assert done.counts == {"email": 7}


def test_only_the_listed_columns_are_redacted() -> None:
    done = CellRedaction(TEXT, ["text", "number"], keeps_ids_distinct=False).apply(TABLE)
    assert done.counts == {"email": 1}
    assert done.table.drop(["text"]).equals(TABLE.drop(["text"]))


def test_ids_are_redacted_only_if_they_stay_unique() -> None:
    ids = pa.table({"who": [MAIL, "bob@example.com"]})
    hashed = CellRedaction(Redactor(PII_KINDS, keyed_hash("x" * 16)), None, keeps_ids_distinct=True)
    assert len(set(hashed.apply_to_ids(ids).column(0).to_pylist())) == 2
    with pytest.raises(DataError, match=r"'who' seems to contain personal data \(email\)"):
        CellRedaction(TEXT, None, keeps_ids_distinct=False).apply_to_ids(ids)
    narrowed = CellRedaction(TEXT, ["note"], keeps_ids_distinct=False)
    assert narrowed.apply_to_ids(ids).equals(ids)


def test_times_outside_pythons_range_are_unchanged() -> None:
    moment = pa.struct(
        [("at", pa.timestamp("ns", "Foo/Bar")), ("far", pa.date32()), ("who", pa.string())]
    )
    cells = pa.StructArray.from_arrays(
        [
            pa.array([1_772_845_323_456_789_001, None, 1], pa.timestamp("ns", "Foo/Bar")),
            pa.array([2**31 - 1, 1, None], pa.date32()),
            pa.array([MAIL, None, "bob"]),
        ],
        fields=list(moment),
        mask=pa.array([False, True, False]),
    )
    lists = pa.ListArray.from_arrays([0, 2, 2, 3], cells, mask=pa.array([False, True, False]))
    whole = pa.table({"cell": cells, "list": lists})
    for table in (whole, whole.slice(1), pa.concat_tables([whole, whole.slice(2)])):
        done = CellRedaction(TEXT, None, keeps_ids_distinct=False).apply(table)
        assert done.table.schema == table.schema
        done.table.validate(full=True)
        for before, after in zip(_leaves(table), _leaves(done.table), strict=True):
            assert after.equals(before)
        assert (
            sum(done.counts.values()) == str(table).count(MAIL) == str(done.table).count("[EMAIL]")
        )


def _leaves(table: pa.Table) -> Iterator[pa.ChunkedArray]:
    """All values except text, and the row numbers."""
    yield table["cell"].is_null()
    yield pc.list_value_length(table["list"])
    for cells in (table["cell"], pc.list_flatten(table["list"])):
        yield from (pc.struct_field(cells, name) for name in ("at", "far"))
