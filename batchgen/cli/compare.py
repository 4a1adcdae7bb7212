"""`batchgen compare`: compares two runs, with significance tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import json_option
from batchgen.cli.render.terminal import json_line

if TYPE_CHECKING:
    from batchgen.cli.render.comparison import ResponsePairs
    from batchgen.evaluation.comparing.compare import Comparison
    from batchgen.evaluation.comparing.regressions import RegressionLimit

PATH = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("base", metavar="BASE", type=PATH)
@click.argument("new", metavar="NEW", type=PATH)
@click.option(
    "-m", "--metric", "metrics", multiple=True, metavar="METRIC", help="Only this one. Repeatable."
)
@click.option(
    "--margin",
    "margins",
    multiple=True,
    metavar="METRIC:BY",
    help="Differences of up to BY count as equivalent. Repeatable.",
)
@click.option(
    "--fail-if-worse",
    "limits",
    multiple=True,
    metavar="METRIC[:BY]",
    help="Exit with 4 if the metric is significantly worse; with BY, unless a loss above BY is ruled out. Repeatable.",
)
@click.option(
    "--repeat-runs",
    nargs=2,
    type=PATH,
    metavar="RUN RUN",
    help="Two runs of one job: their share of differing rows is printed with the change.",
)
@click.option(
    "--max-flips",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Rows to list per metric and direction.",
)
@click.option("--show-responses", is_flag=True, help="Print both responses of the listed rows.")
@json_option
def compare(
    base: Path,
    new: Path,
    *,
    show_responses: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401  # those of _Options
) -> int:
    """Compare the scores of two runs row by row.

    BASE and NEW are run folders, or folders that `batchgen score` wrote. Rows are paired by id and sample; rows whose
    prompt changed are excluded and counted. p is adjusted for the number of primary metrics (Holm), or of all
    metrics if none is primary.
    """
    from batchgen.cli.render.comparison import comparison_lines
    from batchgen.evaluation.comparing.regressions import regression_reason

    asked = _Options(**options)
    found = asked.comparison(base, new)
    failed = [why for limit in asked.allowed() if (why := regression_reason(found, limit))]
    code = 4 if failed else 0
    if as_json:
        head = {"ok": not failed, "exit_code": code, "failed": failed}
        click.echo(json_line({**head, **found.plain()}))
        return code
    for line in comparison_lines(found, _answers(base, new, found) if show_responses else {}):
        click.echo(line)
    for why in failed:
        click.echo(f"failed {why}: exit code 4", err=True)
    return code


@dataclass(frozen=True, slots=True)
class _Options:
    """Options of the command."""

    metrics: Sequence[str]
    margins: Sequence[str]
    limits: Sequence[str]
    repeat_runs: tuple[Path, Path] | None
    max_flips: int

    def comparison(self, base: Path, new: Path) -> "Comparison":
        from batchgen.evaluation.comparing.compare import compare

        limits = [*map(_margin, self.margins), *self.allowed()]
        margins = {limit.metric: limit.by for limit in limits if limit.by is not None}
        return compare(
            base,
            new,
            metrics=self.metrics,
            margins=margins,
            repeat_runs=self.repeat_runs,
            max_examples=self.max_flips,
        )

    def allowed(self) -> "list[RegressionLimit]":
        from batchgen.evaluation.comparing.regressions import parse_limit

        return [parse_limit("--fail-if-worse", text) for text in self.limits]


def _margin(text: str) -> "RegressionLimit":
    from batchgen.errors import UsageError
    from batchgen.evaluation.comparing.regressions import parse_limit

    margin = parse_limit("--margin", text)
    if margin.by is None:
        raise UsageError(
            f"--margin {text}: expected METRIC:BY",
            hint="Add the amount, as in --margin exact:0.02.",
        )
    return margin


def _answers(base: Path, new: Path, found: "Comparison") -> "ResponsePairs":
    from batchgen.evaluation.comparing.scored_run import open_scored_run, read_response_texts

    flips = [
        (flip.id, flip.sample)
        for one in found.metrics
        for flip in (*one.regressions, *one.improvements)
    ]
    before, now = (read_response_texts(open_scored_run(path), flips) for path in (base, new))
    return {key: (before.get(key), now.get(key)) for key in before}
