"""Lines of `batchgen feedback stats`."""

from collections.abc import Iterator, Sequence

from batchgen.cli.render.terminal import display_width, format_count, printable
from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.agreement.measure_agreement import Agreement
from batchgen.evaluation.agreement.vote_statistics import VoteStatistics
from batchgen.evaluation.agreement.win_rate import WinRate
from batchgen.metrics.statistics.intervals import PointEstimate

_HEAD = ("question", "between", "slice", "n", "kappa", "alpha", "interval", "by")


def vote_lines(found: VoteStatistics) -> Iterator[str]:
    """Counts, agreement, win rates."""
    votes = found.votes
    if not votes.saved:
        yield "no votes yet: collect some with `batchgen review`, or import a ratings file with `batchgen feedback import`"
        return
    answers = len({(vote.id, vote.sample) for vote in votes.votes})
    yield f"votes     {len(votes.votes):,} that count, of {votes.saved:,} saved, about {format_count(answers, 'answer')}"
    yield f"kinds     {_listed(votes.counts)}"
    yield f"people    {printable(_listed(votes.reviewers))}"
    problems = votes.problems
    for some, what in (
        (problems.other_run, "about another run"),
        (problems.no_row, "about rows that are gone"),
        (problems.changed, "about answers that have changed"),
    ):
        if some:
            yield f"left out  {format_count(len(some), 'vote')} {what}"
    if found.agreements:
        yield ""
        yield from _table([_HEAD, *(_agreement(one) for one in found.agreements)])
    for rate in found.win_rates:
        yield ""
        yield from _win_rate(rate)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _agreement(one: Agreement) -> tuple[str, ...]:
    level = list(one.alpha)[-1] if "ordinal" not in one.alpha else "ordinal"
    alpha = one.alpha[level]
    kappa = one.weighted_kappa or one.kappa
    by = level if alpha.value is not None else alpha.method.removeprefix("none: ")
    return (
        printable(one.question),
        printable(one.between),
        printable(one.slice),
        f"{one.units:,}",
        "" if kappa is None else _number(kappa.value),
        _number(alpha.value),
        _interval(alpha),
        by,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(estimate: PointEstimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:.2f} to {estimate.high:.2f}"


def _win_rate(one: WinRate) -> Iterator[str]:
    where = "" if one.slice == OVERALL else f", {printable(one.slice)}"
    yield (
        f"against {one.other_run}{where}: {one.wins:,} better, {one.losses:,} worse, {one.ties:,} equal, "
        f"{one.both_bad:,} both bad"
    )
    rate = one.rate
    interval = _interval(rate)
    yield f"win rate  {_number(rate.value)}{f' ({interval})' if interval else ''}; ties count half"
    if one.shown_first is not None:
        yield f"the answer that was shown first won {one.shown_first:.0%} of the decided pairs"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(display_width(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (
            cell + " " * (width - display_width(cell))
            for cell, width in zip(row, widths, strict=True)
        )
        yield "  ".join(padded).rstrip()
