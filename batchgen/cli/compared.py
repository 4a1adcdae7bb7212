"""A comparison as lines for a terminal, at most 100 columns wide."""

from collections.abc import Iterator, Mapping, Sequence

from batchgen.cli.scores import number
from batchgen.cli.text import printable, shortened
from batchgen.runner.compare import Comparison, Flip, MetricComparison, Unpaired

Answers = Mapping[tuple[str, int | None], tuple[str | None, str | None]]
"""What both runs answered, by id and sample."""
_NAME = 18


def comparison_lines(found: Comparison, answers: Answers) -> Iterator[str]:
    """What was left out, a table of metrics, and the rows that flipped, regressions first."""
    yield f"{found.common:,} rows in both, with the same prompt"
    yield from _left_out(found)
    yield ""
    yield (
        f"{'metric':<{_NAME}} {'base':>7} {'new':>7} {'change':>8}  {'interval':<19} {'p':>7}  "
        f"{'win/tie/loss':<13} verdict"
    )
    for one in found.metrics:
        yield _row(one)
    for one in found.metrics:
        yield from _notes(one)
        yield from _flips("worse", one, one.regressions, answers)
        yield from _flips("better", one, one.improvements, answers)


def _left_out(found: Comparison) -> Iterator[str]:
    kinds: Mapping[str, Unpaired] = {
        "only in base": found.only_base,
        "only in new": found.only_new,
        "left out, since their prompt changed": found.changed_prompts,
    }
    for what, rows in kinds.items():
        if rows.count:
            more = ", …" if rows.count > len(rows.ids) else ""
            yield f"{rows.count:,} {what}: {printable(', '.join(rows.ids))}{more}"
    if not found.prompts_known:
        yield "one of them does not say what was asked: changed prompts cannot be told"


def _row(one: MetricComparison) -> str:
    difference = one.difference
    interval = (
        f"{_signed(difference.low, one.unit)} to {_signed(difference.high, one.unit)}"
        if difference.low is not None and difference.high is not None
        else "-"
    )
    p = "-" if one.p is None else f"{one.p:.3f}" if one.p >= 0.001 else "<0.001"
    tally = f"{one.wins:,}/{one.ties:,}/{one.losses:,}" if one.n else "-"
    name = shortened(one.metric, _NAME)
    return (
        f"{name:<{_NAME}} {number(one.base, one.unit):>7} {number(one.new, one.unit):>7} "
        f"{_signed(difference.value, one.unit):>8}  {interval:<19} {p:>7}  {tally:<13} {one.verdict}"
    )


def _signed(value: float | None, unit: str) -> str:
    text = number(value, unit)
    return f"+{text}" if value is not None and value >= 0 else text


def _notes(one: MetricComparison) -> Iterator[str]:
    detectable = one.detectable
    if one.reason:
        yield f"\n{one.metric}: {one.reason}"
    elif one.verdict == "inconclusive" and detectable:
        least = number(detectable, one.unit)
        yield f"\n{one.metric}: with {one.n:,} rows, a difference of {least} would be found 4 times out of 5"
    if one.unpaired:
        yield f"{one.metric}: {one.unpaired:,} rows have a score in one of the two only, and are left out"


def _flips(
    what: str, one: MetricComparison, flips: Sequence[Flip], answers: Answers
) -> Iterator[str]:
    if not flips:
        return
    count = one.losses if what == "worse" else one.wins
    yield f"\n{one.metric}: {count:,} {'row' if count == 1 else 'rows'} {what}"
    for flip in flips:
        sample = f" · sample {flip.sample}" if flip.sample else ""
        change = f"{number(flip.base, one.unit)} -> {number(flip.new, one.unit)}"
        yield f"  id {printable(flip.id)}{sample}  {change}"
        for name, text in zip(
            ("base", "new"), answers.get((flip.id, flip.sample), ()), strict=False
        ):
            yield f"    {name + ':':<6}{shortened(printable(text or '(no answer)'), 300)}"
