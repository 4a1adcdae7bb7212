"""`batchgen compare`: compares two runs, with significance tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import RunPath, json_option, print_json

if TYPE_CHECKING:
    from batchgen.cli.render.comparison import ResponsePairs
    from batchgen.evaluation.comparing.compare import Comparison
    from batchgen.evaluation.comparing.regressions import RegressionLimit

PATH = RunPath(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("base", metavar="BASE", type=PATH)
@click.argument("new", metavar="NEW", type=PATH)
@click.option(
    "-m",
    "--metric",
    "metrics",
    multiple=True,
    metavar="METRIC",
    help="Compare only this metric. Repeatable.",
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
    metavar="N",
    help="Rows to list per metric and direction.",
)
@click.option("--show-responses", is_flag=True, help="Print both responses of the listed rows.")
@json_option
def compare(  # noqa: PLR0913  # click passes each option by its name
    base: Path,
    new: Path,
    *,
    margins: Sequence[str],
    limits: Sequence[str],
    max_flips: int,
    show_responses: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401  # arguments of `batchgen.compare`
) -> int:
    """Compare the scores of two runs row by row.

    BASE and NEW are run folders, or folders that `batchgen score` wrote. Rows are paired by id and sample; rows whose
    prompt changed are excluded and counted. A row with a score in one run only counts with the metric's worst value in
    the other run. p is adjusted for the number of primary metrics (Holm), or of all metrics if none is primary.
    """
    from batchgen.cli.render.comparison import comparison_lines
    from batchgen.evaluation.comparing.compare import compare as compare_runs
    from batchgen.evaluation.comparing.regressions import parse_limit, regression_reason

    allowed = [parse_limit("--fail-if-worse", text) for text in limits]
    bounds = [*map(_margin, margins), *allowed]
    comparison = compare_runs(
        base,
        new,
        margins={limit.metric: limit.by for limit in bounds if limit.by is not None},
        max_examples=max_flips,
        **options,
    )
    failed = [why for limit in allowed if (why := regression_reason(comparison, limit))]
    code = 4 if failed else 0
    if as_json:
        print_json(code, failed=failed, **comparison.plain())
        return code
    for line in comparison_lines(
        comparison, _answers(base, new, comparison) if show_responses else {}
    ):
        click.echo(line)
    for why in failed:
        click.echo(f"failed {why}: exit code 4", err=True)
    return code


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


def _answers(base: Path, new: Path, comparison: "Comparison") -> "ResponsePairs":
    from batchgen.evaluation.comparing.scored_run import open_scored_run, read_response_texts

    listed = (flip for one in comparison.metrics for flip in (*one.regressions, *one.improvements))
    flips = [(flip.id, flip.sample) for flip in listed]
    before, now = (read_response_texts(open_scored_run(path), flips) for path in (base, new))
    return {key: (before.get(key), now.get(key)) for key in before}
