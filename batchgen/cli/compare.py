"""`batchgen compare`: is the new run better than the old one, and could that be chance?"""

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
    help="The largest difference that does not matter: within it, runs are equivalent. Repeatable.",
)
@click.option(
    "--fail-if-worse",
    "limits",
    multiple=True,
    metavar="METRIC[:BY]",
    help="End with 4 if the metric is significantly worse; with BY, unless a loss of more than BY is ruled out. Repeatable.",
)
@click.option(
    "--noise",
    nargs=2,
    type=PATH,
    metavar="RUN RUN",
    help="Two runs of one job: how many rows differ between them is told beside the change.",
)
@click.option(
    "--flips",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Rows to name per metric and direction.",
)
@click.option("--texts", is_flag=True, help="Also print what both runs answered in these rows.")
@json_option
def compare(
    base: Path,
    new: Path,
    *,
    texts: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401  # those of _Asked
) -> int:
    """Compare the scores of two runs, or of two folders that `batchgen score` wrote, row by row.

    Rows are paired by id and sample; those whose prompt changed are left out, and counted. p is adjusted for the
    number of primary metrics (Holm), or of all metrics if none is primary.
    """
    from batchgen.cli.render.comparison import comparison_lines
    from batchgen.evaluation.comparing.regressions import regression_reason

    asked = _CompareOptions(**options)
    found = asked.comparison(base, new)
    failed = [why for limit in asked.allowed() if (why := regression_reason(found, limit))]
    code = 4 if failed else 0
    if as_json:
        head = {"ok": not failed, "exit_code": code, "failed": failed}
        click.echo(json_line({**head, **found.plain()}))
        return code
    for line in comparison_lines(found, _answers(base, new, found) if texts else {}):
        click.echo(line)
    for why in failed:
        click.echo(f"failed {why}: exit code 4", err=True)
    return code


@dataclass(frozen=True, slots=True)
class _CompareOptions:
    """What is compared, and what is allowed."""

    metrics: Sequence[str]
    margins: Sequence[str]
    limits: Sequence[str]
    noise: tuple[Path, Path] | None
    flips: int

    def comparison(self, base: Path, new: Path) -> "Comparison":
        """The two runs compared."""
        from batchgen.evaluation.comparing.compare import compare

        limits = [*map(_margin, self.margins), *self.allowed()]
        margins = {limit.metric: limit.by for limit in limits if limit.by is not None}
        return compare(
            base, new, metrics=self.metrics, margins=margins, noise=self.noise, named=self.flips
        )

    def allowed(self) -> "list[RegressionLimit]":
        """How much worse the new run may be."""
        from batchgen.evaluation.comparing.regressions import parse_limit

        return [parse_limit("--fail-if-worse", text) for text in self.limits]


def _margin(text: str) -> "RegressionLimit":
    from batchgen.errors import UsageError
    from batchgen.evaluation.comparing.regressions import parse_limit

    margin = parse_limit("--margin", text)
    if margin.by is None:
        raise UsageError(
            f"--margin {text}: expected METRIC:BY", hint="Such as --margin exact:0.02."
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
