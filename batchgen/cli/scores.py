"""Metrics and gates as lines for a terminal; tables are as wide as the window."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from batchgen.cli.text import fitted, printable, window_width
from batchgen.metrics.aggregate import EVERYTHING
from batchgen.metrics.gates import GateResult
from batchgen.records import MetricRow

SHOWN_ROWS = 30


def metric_lines(rows: Sequence[MetricRow]) -> Iterator[str]:
    """A table of metrics: each with its slices beneath."""
    if not rows:
        return
    interval = f"interval at {rows[0].ci_level:.4g}"
    yield _line("metric", ("value", interval, "n", "coverage"))
    for row in rows[:SHOWN_ROWS]:
        name = row.metric if row.slice == EVERYTHING else f"  {row.slice}"
        share = "" if row.coverage is None else f"{row.coverage:.1%}"
        yield _line(name, (number(row.value, row.unit), _interval(row), f"{row.n:,}", share))
    if len(rows) > SHOWN_ROWS:
        yield f"and {len(rows) - SHOWN_ROWS:,} more rows in metrics.parquet"


def _line(name: str, values: Sequence[str]) -> str:
    value, interval, n, coverage = values
    numbers = f" {value:>9}   {interval:<20} {n:>9}  {coverage:>8}"
    room = max(16, min(40, window_width() - len(numbers)))
    return f"{fitted(printable(name), room)}{numbers}".rstrip()


def number(value: float | None, unit: str) -> str:
    """A value in as many digits as say something; a dash where there is none."""
    if value is None:
        return "-"
    if unit == "fraction":
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _interval(row: MetricRow) -> str:
    if row.ci_low is None or row.ci_high is None:
        return "-"
    return f"{number(row.ci_low, row.unit)} to {number(row.ci_high, row.unit)}"


def gate_lines(gates: Sequence[GateResult]) -> Iterator[str]:
    """A line for each gate; those that did not pass say so in capitals."""
    for gate in gates:
        verdict = "passed" if gate.passed else gate.verdict.upper()
        yield f"gate   {verdict}  {printable(gate.gate)}: {gate.found}"


def score_summary(rows: Sequence[MetricRow], gates: Sequence[GateResult]) -> Mapping[str, Any]:
    """What `--json` says about metrics and gates."""
    return {
        "metrics": [asdict(row) for row in rows],
        "gates": [asdict(gate) for gate in gates],
    }
