"""A comparison as lines for a terminal: a table as wide as the window, then the details."""

from collections.abc import Iterator, Mapping, Sequence

from batchgen.cli.render.metric_table import format_value
from batchgen.cli.render.terminal import fit_width, format_count, printable, shorten, window_width
from batchgen.evaluation.comparing.common_rows import Unpaired
from batchgen.evaluation.comparing.compare import Comparison, MetricComparison
from batchgen.evaluation.comparing.pairs import Flip, PairedDifference

ResponsePairs = Mapping[tuple[str, int | None], tuple[str | None, str | None]]
"""The responses of both runs, by id and sample."""
SHOWN_SLICES = 30
_SHOWN_CHARACTERS = 300


def comparison_lines(comparison: Comparison, answers: ResponsePairs) -> Iterator[str]:
    """The settings that differ, the excluded rows, a table of metrics and slices, and the rows that flipped."""
    yield from _settings(comparison)
    paired = "paired by id" if comparison.pairs_changed_prompts else "with the same prompt"
    yield f"\n{format_count(comparison.common, 'row')} in both, {paired}"
    yield from _excluded(comparison)
    yield ""
    yield comparison_line("metric", ("base", "new", "change", "interval", "p"), "verdict")
    for one in comparison.metrics:
        values = comparison_numbers(one, one.p, one.unit)
        yield comparison_line(one.metric, values, one.verdict if one.n else "see below")
    yield from _slices(comparison.metrics)
    for reason in dict.fromkeys(one.reason for one in comparison.metrics if one.reason):
        yield f"\n{', '.join(one.metric for one in comparison.metrics if one.reason == reason)}: {reason}"
    for one in comparison.metrics:
        yield from _notes(one)
        yield from _flips("worse", one, one.regressions, answers)
        yield from _flips("better", one, one.improvements, answers)


def result_lines(comparison: Comparison) -> Iterator[str]:
    """What a comparison shows in Python."""
    yield f"base: {comparison.base}"
    yield f"new:  {comparison.new}"
    yield from comparison_lines(comparison, {})


def _settings(comparison: Comparison) -> Iterator[str]:
    changed = comparison.changed_settings
    if not changed:
        yield "settings: no difference"
    else:
        yield f"settings: {format_count(len(changed), 'difference')}"
        for one in changed:
            yield f"  {printable(one.key)}: {printable(one.old)} -> {printable(one.new)}"
    if not comparison.settings_known:
        yield "  only settings of the evaluation are compared: a scored table has no others"


def _excluded(comparison: Comparison) -> Iterator[str]:
    kinds: Mapping[str, Unpaired] = {
        "only in base": comparison.only_base,
        "only in new": comparison.only_new,
        "with another prompt, paired by id"
        if comparison.pairs_changed_prompts
        else "excluded, because their prompt changed": comparison.changed_prompts,
    }
    for kind, rows in kinds.items():
        if rows.count:
            more = ", …" if rows.count > len(rows.ids) else ""
            yield f"{rows.count:,} {kind}: {printable(', '.join(rows.ids))}{more}"
    if not comparison.prompts_known:
        yield "one of the runs has no prompts or prompt hashes: changed prompts are not detected"


def comparison_line(name: str, values: Sequence[str], rest: str) -> str:
    """A line of the table: base, new, change, interval and p of a metric, then the verdict."""
    base, new, change, interval, p = values
    numbers = f" {base:>7} {new:>7} {change:>8}  {interval:<17} {p:>6}  "
    width = max(12, min(40, window_width() - len(numbers) - len("inconclusive")))
    return f"{fit_width(printable(name), width)}{numbers}{rest}"


def comparison_numbers(
    of: PairedDifference | MetricComparison, p: float | None, unit: str
) -> tuple[str, ...]:
    """The five numbers of a line, as text."""
    difference = of.difference
    interval = "-"
    if difference.low is not None and difference.high is not None:
        interval = f"{_signed(difference.low, unit)} to {_signed(difference.high, unit)}"
    chance = "-" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"
    change = _signed(difference.value, unit)
    return format_value(of.base, unit), format_value(of.new, unit), change, interval, chance


def _signed(value: float | None, unit: str) -> str:
    text = format_value(value, unit)
    return f"+{text}" if value is not None and value >= 0 else text


def _slices(metrics: Sequence[MetricComparison]) -> Iterator[str]:
    lines = [line for one in metrics if one.wins or one.losses for line in _metric_slices(one)]
    if not lines:
        return
    yield "\nby slice, exploratory (p is not adjusted for the number of slices)"
    yield from lines[:SHOWN_SLICES]
    if len(lines) > SHOWN_SLICES:
        yield f"and {len(lines) - SHOWN_SLICES:,} more lines (all with --json)"


def _metric_slices(one: MetricComparison) -> Iterator[str]:
    if one.slices:
        yield one.metric
    for part in one.slices:
        change = part.change
        values = comparison_numbers(change, change.difference.p, one.unit)
        yield comparison_line(f"  {part.slice}", values, format_count(change.n, "row"))


def _notes(one: MetricComparison) -> Iterator[str]:
    if one.reason:
        return
    kinds = ("higher", "lower") if one.higher_is_better is None else ("better", "worse")
    counts = f"{one.wins:,} {kinds[0]}, {one.losses:,} {kinds[1]}, {one.ties:,} the same"
    yield f"\n{one.metric}: {format_count(one.n, 'row')}: {counts}"
    if one.unpaired:
        yield f"  {_missing(one)}"
    test, method = one.difference.test, one.difference.method
    yield f"  {method}" if test == method else f"  p: {test}; interval: {method}"
    if (noise := one.noise) is not None:
        pairs, here = format_count(noise.n, "row"), (one.wins + one.losses) / one.n
        yield f"  noise: {noise.rate:.1%} of {pairs} differ between two runs of the same job; {here:.1%} here"
    if one.verdict == "inconclusive":
        yield from _needed(one)


def _missing(one: MetricComparison) -> str:
    rows = f"{format_count(one.unpaired, 'row')} scored in only one of the runs"
    if one.p is None:
        return f"{rows} (not in the new one: {one.lost:,}): excluded"
    return f"{rows} (not in the new one: {one.lost:,}): the worst value in the other run"


def _needed(one: MetricComparison) -> Iterator[str]:
    """How many rows would decide."""
    reach = one.difference.reach
    if reach is not None:
        few = "all differences, or all but a few, are equal"
        yield f"  {few}: the interval allows for one row that differs by the whole range"
    if one.margin is not None and one.pairs_needed is not None:
        yield f"  about {one.pairs_needed:,} such pairs are enough for a margin of {one.margin:g}"
    elif one.margin is not None and reach is not None:
        yield f"  no number of such pairs is enough for a margin of {one.margin:g}"
    elif reach is not None:
        bound = reach / 300
        yield f"  300 such pairs have an interval of ±{format_value(bound, one.unit)}"
    elif one.detectable:
        least = format_value(one.detectable, one.unit)
        yield f"  smallest difference detected with 80% power: {least}"


def _flips(
    kind: str, one: MetricComparison, flips: Sequence[Flip], answers: ResponsePairs
) -> Iterator[str]:
    if one.higher_is_better is None:
        kind = {"worse": "lower", "better": "higher"}[kind]
    for flip in flips:
        sample = f" · sample {flip.sample}" if flip.sample else ""
        change = f"{format_value(flip.base, one.unit)} -> {format_value(flip.new, one.unit)}"
        yield f"  {kind:<6}  id {printable(flip.id)}{sample}  {change}"
        texts = answers.get((flip.id, flip.sample), ())
        for name, text in zip(("base", "new"), texts, strict=False):
            shown = shorten(printable(text or "(no answer)"), _SHOWN_CHARACTERS)
            yield f"    {name + ':':<6}{shown}"
