"""Gates and comparisons as Markdown, for pull requests and mails."""

from collections.abc import Iterator, Mapping, Sequence

from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.comparing.compare import Comparison, MetricComparison
from batchgen.evaluation.comparing.compare_several import run_names
from batchgen.evaluation.gates import GateResult
from batchgen.records import MetricRow
from batchgen.report.number_text import format_p, format_share, format_signed, format_value
from batchgen.report.visible_text import visible

_SPECIAL = {
    **{ord(character): f"\\{character}" for character in "\\`*_[]#|~!"},
    **{ord(character): f"&#{ord(character)};" for character in "<>&@$"},
}
_LISTED_FLIPS = 10


def gates_markdown(name: str, gates: Sequence[GateResult], rows: Sequence[MetricRow]) -> str:
    """The verdict, the gates, and the metrics over all answers."""
    failed = sum(not gate.passed for gate in gates)
    verdict = "no gates" if not gates else f"{failed} of {len(gates)} gates did not pass"
    lines = [f"### {escape_cell(name)}: {verdict if failed or not gates else 'passed'}", ""]
    if gates:
        found = ([f"**{g.verdict}**", escape_cell(g.gate), escape_cell(g.found)] for g in gates)
        lines += [*table_lines(["result", "gate", "found"], found), ""]
    if rows:
        overall = (
            [escape_cell(row.metric), *metric_numbers(row)] for row in rows if row.slice == OVERALL
        )
        lines += table_lines(["metric", "value", "interval", "n", "coverage"], overall)
    return "\n".join(lines).rstrip() + "\n"


def comparison_markdown(comparisons: Sequence[Comparison], failed: Sequence[str]) -> str:
    """Runs against the first one: a table of metrics, the settings that differ, and some rows that got worse."""
    base = comparisons[0].base.name
    lines = [f"### Compared with {escape_cell(base)}", ""]
    lines += [f"- **failed** {escape_cell(why)}" for why in failed] + ([""] if failed else [])
    heads = ["run", "metric", "base", "new", "difference", "interval", "p", "verdict"]
    names = run_names(comparisons)
    rows = (
        [escape_cell(name), *_difference(one)]
        for name, comparison in zip(names, comparisons, strict=True)
        for one in comparison.metrics
    )
    lines += [*table_lines(heads, rows), ""]
    for name, comparison in zip(names, comparisons, strict=True):
        lines += _details(name, comparison)
    return "\n".join(lines).rstrip() + "\n"


def several_markdown(
    gates: Mapping[str, Sequence[GateResult]],
    metrics: Mapping[str, Sequence[MetricRow]],
    failures: Mapping[str, str],
    comparisons: Sequence[Comparison],
) -> str:
    """The runs of a matrix: those that failed, the comparison, then the gates and metrics of each."""
    failed = [
        f"- **failed** {escape_cell(name)}: {escape_cell(why)}\n" for name, why in failures.items()
    ]
    compared = [comparison_markdown(comparisons, [])] if comparisons else []
    runs = [gates_markdown(name, found, metrics[name]) for name, found in gates.items()]
    return "\n".join(["".join(failed), *compared, *runs] if failed else [*compared, *runs])


def _details(name: str, comparison: Comparison) -> Iterator[str]:
    yield f"**{escape_cell(name)}**: {comparison.common:,} rows in both"
    yield ""
    for one in comparison.changed_settings:
        yield f"- {escape_cell(one.key)}: {escape_cell(one.old)} → {escape_cell(one.new)}"
    for metric in comparison.metrics:
        worse = [escape_cell(flip.id) for flip in metric.regressions[:_LISTED_FLIPS]]
        if worse and metric.higher_is_better is not None:
            yield f"- {escape_cell(metric.metric)} worse in {metric.losses:,} rows, such as {', '.join(worse)}"
    yield ""


def metric_numbers(row: MetricRow) -> list[str]:
    """Value, interval, n and coverage."""
    interval = "–"
    if row.ci_low is not None and row.ci_high is not None:
        low, high = format_value(row.ci_low, row.unit), format_value(row.ci_high, row.unit)
        interval = f"{low} – {high}"
    share = "–" if row.coverage is None else format_share(row.coverage)
    return [format_value(row.value, row.unit), interval, f"{row.n:,}", share]


def _difference(one: MetricComparison) -> list[str]:
    difference, interval = one.difference, "–"
    if difference.low is not None and difference.high is not None:
        low, high = (format_signed(end, one.unit) for end in (difference.low, difference.high))
        interval = f"{low} … {high}"
    return [
        escape_cell(one.metric),
        format_value(one.base, one.unit),
        format_value(one.new, one.unit),
        format_signed(difference.value, one.unit),
        interval,
        escape_cell(format_p(one.p)),
        f"**{one.verdict}**" if one.verdict in ("better", "worse") else one.verdict,
    ]


def table_lines(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    """A table; its cells are Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def escape_cell(text: str) -> str:
    """Text without a meaning in Markdown or HTML, such as a mention or a link."""
    return visible(text).translate(_SPECIAL)
