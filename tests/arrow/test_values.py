"""Conversion of cells of any plain type to Python objects: no cell ends a run."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.arrow.values import key_texts, python_values
from batchgen.jobfile.load import load_job
from batchgen.run.run import run

MakeJob = Callable[..., Path]
DAY = datetime(2026, 3, 7, 1, 2, 3, 456789)  # noqa: DTZ001 - a column without a time zone
NANOSECONDS = 1_772_845_323_456_789_001
FAR = 10**17

CASES: dict[str, tuple[pa.Array, list[object]]] = {
    "nanoseconds": (pa.array([NANOSECONDS, None], pa.timestamp("ns")), [DAY, None]),
    "nanoseconds of a zone": (
        pa.array([NANOSECONDS], pa.timestamp("ns", "UTC")), [DAY.replace(tzinfo=UTC)]),
    "an unknown time zone": (
        pa.array([NANOSECONDS], pa.timestamp("ns", "Foo/Bar")), [DAY.replace(tzinfo=UTC)]),
    "after the year 9999": (pa.array([FAR, 0], pa.timestamp("ms")), [None, datetime(1970, 1, 1)]),  # noqa: DTZ001 - as above
    "a day after the year 9999": (pa.array([2**31 - 1, 0], pa.date32()), [None, date(1970, 1, 1)]),
    "a time of nanoseconds": (pa.array([1001], pa.time64("ns")), [time(0, 0, 0, 1)]),
    "a span of nanoseconds": (pa.array([1001], pa.duration("ns")), [timedelta(microseconds=1)]),
    "a span without end": (pa.array([2**62, 1], pa.duration("s")), [None, timedelta(seconds=1)]),
    "in a list": (pa.array([[NANOSECONDS], []], pa.list_(pa.timestamp("ns"))), [[DAY], []]),
    "in a struct": (pa.array([{"t": 1001, "s": "x"}], pa.struct([("t", pa.time64("ns")), ("s", pa.string())])),
                    [{"t": time(0, 0, 0, 1), "s": "x"}]),
    "too far in a list": (pa.array([[FAR], [0]], pa.list_(pa.timestamp("ms"))), [None, [datetime(1970, 1, 1)]]),  # noqa: DTZ001 - as above
    "text": (pa.array(["字", None]), ["字", None]),
    "messages": (pa.array([[{"role": "user"}]]), [[{"role": "user"}]]),
}  # fmt: skip


@pytest.mark.parametrize(("column", "expected"), CASES.values(), ids=CASES.keys())
def test_cells_become_python_objects(column: pa.Array, expected: list[object]) -> None:
    assert python_values(pa.chunked_array([column])) == expected


def test_a_time_outside_pythons_range_affects_only_its_row(
    make_job: MakeJob, tmp_path: Path
) -> None:
    times = pa.array([FAR, 0], pa.timestamp("ms"))
    fine = pa.array([1, NANOSECONDS], pa.timestamp("ns"))
    pq.write_table(pa.table({"t": times, "n": fine}), tmp_path / "rows.parquet")
    job = make_job(
        input={"path": "rows.parquet"},
        prompt={"user": "{{ t.year }} {{ n.year }}"},
        run={"max_error_rate": 1},
    )
    frame = run(load_job(job)).frame()
    assert frame["error_code"].to_list() == ["prompt_null", None]
    assert frame["response"][1] == "1970 2026"
    assert frame["n"].dt.nanosecond().to_list() == [1, 456789001]


KEYS: dict[str, tuple[pa.Array, list[str | None]]] = {
    "numbers of any type": (pa.array([1.0, 2.5, None]), ["1", "2.5", None]),
    "whole numbers": (pa.array([1, None], pa.int8()), ["1", None]),
    "truth": (pa.array([True, False]), ["true", "false"]),
    "nanoseconds apart": (
        pa.array([NANOSECONDS, NANOSECONDS + 1], pa.timestamp("ns")),
        ["2026-03-07 01:02:03.456789001", "2026-03-07 01:02:03.456789002"]),
    "whole seconds of any unit": (pa.array([0, 500_000_000], pa.timestamp("ns")),
                                  ["1970-01-01 00:00:00", "1970-01-01 00:00:00.5"]),
    "a zone": (pa.array([0], pa.timestamp("ms", "Asia/Shanghai")), ["1970-01-01 08:00:00+0800"]),
    "an unknown time zone": (pa.array([0], pa.timestamp("ns", "Foo/Bar")), ["1970-01-01 00:00:00Z"]),
    "times that Python lacks": (pa.array([FAR, FAR + 1], pa.timestamp("ms")),
                                [f"<value out of range: {FAR}>", f"<value out of range: {FAR + 1}>"]),
    "spans": (pa.array([2**62, 10], pa.duration("s")), [str(2**62), "10"]),
    "times of day": (pa.array([1_001, 10_000_000_000], pa.time64("ns")), ["00:00:00.000001001", "00:00:10"]),
    "bytes": (pa.array([b"\xff"]), ["/w=="]),
    "structs": (pa.array([{"a": 1, "b": None}]), ['{"a": 1, "b": null}']),
    "lists": (pa.array([["a", "字"], None]), ['["a", "字"]', None]),
}  # fmt: skip


@pytest.mark.parametrize(("column", "expected"), KEYS.values(), ids=KEYS.keys())
def test_keys_distinguish_cells(column: pa.Array, expected: list[str | None]) -> None:
    assert key_texts(pa.chunked_array([column])).to_pylist() == expected
