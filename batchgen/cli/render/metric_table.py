"""Metrics and gates as lines for a terminal; tables are as wide as the window."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from batchgen.cli.render.terminal import fit_width, format_count, printable, shorten, window_width
from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.confusion import read_confusion_matrices
from batchgen.evaluation.gates import GateResult
from batchgen.records import MetricRow

SHOWN_ROWS = 30


def metric_lines(rows: Sequence[MetricRow]) -> Iterator[str]:
    """A table of metrics, each followed by its slices."""
    if not rows:
        return
    interval = f"interval at {rows[0].ci_level:.4g}"
    yield _line("metric", ("value", interval, "n", "coverage"))
    shown = _shown(rows)
    for row in shown:
        name = row.metric if row.slice == OVERALL else f"  {row.slice}"
        share = "" if row.coverage is None else f"{row.coverage:.1%}"
        yield _line(name, (format_value(row.value, row.unit), _interval(row), f"{row.n:,}", share))
    if len(rows) > len(shown):
        yield f"and {format_count(len(rows) - len(shown), 'slice')} more in metrics.parquet"


def _shown(rows: Sequence[MetricRow]) -> list[MetricRow]:
    """Every metric, and its slices until the table is full."""
    left = SHOWN_ROWS - sum(row.slice == OVERALL for row in rows)
    shown = []
    for row in rows:
        left -= row.slice != OVERALL
        if row.slice == OVERALL or left >= 0:
            shown.append(row)
    return shown


def unscored_lines(rows: Sequence[MetricRow], scores: Path) -> Iterator[str]:
    """Why a metric has no value, or does not score some rows: each reason with the first cause in `scores`."""
    lacking = {row.metric: row for row in rows if row.slice == OVERALL and (row.coverage or 0) < 1}
    reasons = _reasons(scores, lacking) if lacking else {}
    for row in rows:
        if row.slice != OVERALL:
            continue
        why = _explained(reasons.get(row.metric, ()))
        if why and row.n:
            yield f"some rows have no score of {printable(row.metric)}: {why}"
        elif row.value is None:
            method = "no row applies" if row.coverage is None else row.method
            yield f"no score of {printable(row.metric)}: {why or method.removeprefix('none: ')}"


class _Reason(NamedTuple):
    status: str
    rows: int
    cause: str


def _explained(reasons: Sequence[_Reason]) -> str:
    texts = []
    for reason in reasons:
        cause = shorten(printable(" ".join(reason.cause.split())), 100)
        first = f" (first: {cause})" if cause else ""
        texts.append(f"{format_count(reason.rows, 'row')} {reason.status}{first}")
    text = ", ".join(texts)
    if any(reason.status == "no_reference" for reason in reasons):
        text += "; name the column with the reference answers: --reference or evaluate.reference"
    return text


def _reasons(scores: Path, lacking: Mapping[str, MetricRow]) -> Mapping[str, list[_Reason]]:
    """By metric, the most frequent first; of a metric that scored some rows, only unparsed references and errors."""
    unscored = [name for name, row in lacking.items() if not row.n]
    faulty = (
        pl.col("metric").is_in(list(lacking))
        & pl.col("status").is_in(["unparsed", "error"])
        & pl.col("value").is_null()
    )
    counted = (
        pl.scan_parquet(scores, glob=False)
        .filter(pl.col("metric").is_in(unscored) | faulty)
        .group_by("metric", "status")
        .agg(pl.len(), pl.col("rule").drop_nulls().first())
        .sort("len", "status", descending=[True, False])
        .collect()
    )
    reasons: dict[str, list[_Reason]] = {}
    for metric, status, count, rule in counted.iter_rows():
        reasons.setdefault(metric, []).append(_Reason(status, count, rule or ""))
    return reasons


def _line(name: str, values: Sequence[str]) -> str:
    value, interval, n, coverage = values
    numbers = f" {value:>9}   {interval:<20} {n:>9}  {coverage:>8}"
    width = max(16, min(40, window_width() - len(numbers)))
    return f"{fit_width(printable(name), width)}{numbers}".rstrip()


def format_value(value: float | None, unit: str) -> str:
    """A value with its significant digits; a dash for None."""
    if value is None:
        return "-"
    if unit == "fraction":
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _interval(row: MetricRow) -> str:
    if row.ci_low is None or row.ci_high is None:
        return "-"
    return f"{format_value(row.ci_low, row.unit)} to {format_value(row.ci_high, row.unit)}"


def gate_lines(gates: Sequence[GateResult]) -> Iterator[str]:
    """A line for each gate; one that did not pass has its status in capitals."""
    for gate in gates:
        verdict = "passed" if gate.passed else gate.verdict.upper()
        yield f"gate   {verdict}  {printable(gate.gate)}: {gate.found}"


def score_summary(
    rows: Sequence[MetricRow], gates: Sequence[GateResult], scores: Path
) -> Mapping[str, Any]:
    """The metrics, the gates, and the confusion matrices of `scores`, in the object that `--json` prints."""
    matrices = read_confusion_matrices(scores) if rows else ()
    return {
        "metrics": [asdict(row) for row in rows],
        "gates": [gate.plain() for gate in gates],
        "confusion": [matrix.plain() for matrix in matrices],
    }
