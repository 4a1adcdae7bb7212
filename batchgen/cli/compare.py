"""`batchgen compare`: compares runs, with significance tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import (
    RunPath,
    json_option,
    print_json,
    print_written,
    summary_file_options,
    write_summary,
)

if TYPE_CHECKING:
    from batchgen.cli.render.comparison import ResponsePairs
    from batchgen.evaluation.comparing.compare import Comparison
    from batchgen.evaluation.comparing.regressions import RegressionLimit

PATH = RunPath(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("base", metavar="BASE", type=PATH)
@click.argument("others", metavar="NEW...", nargs=-1, required=True, type=PATH)
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
@click.option(
    "--pair-changed-prompts",
    is_flag=True,
    help="Pair rows by id alone, also where their prompts differ: to compare prompts.",
)
@click.option("--show-responses", is_flag=True, help="Print both responses of the listed rows.")
@click.option(
    "-o",
    "--output",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write an HTML page of the comparison, as `batchgen report --baseline` does.",
)
@summary_file_options
@json_option
def compare(  # noqa: PLR0913  # click passes each option by its name
    base: Path,
    others: Sequence[Path],
    *,
    limits: Sequence[str],
    margins: Sequence[str],
    max_flips: int,
    page: Path | None,
    markdown: Path | None,
    junit: Path | None,
    **options: Any,  # noqa: ANN401  # arguments of `batchgen.compare`, and what is printed
) -> int:
    """Compare the scores of runs row by row.

    BASE and NEW are run folders, or folders that `batchgen score` wrote; each NEW is compared with BASE. Rows are paired by
    id and sample; rows whose prompt changed are excluded and counted. A row with a score in one run only counts with the
    metric's worst value in the other run. p is adjusted for the number of primary metrics (Holm), or of all metrics if
    none is primary; with several NEW, over all of them.
    """
    from batchgen.evaluation.comparing.regressions import parse_limit
    from batchgen.report.exchange.junit import comparison_junit
    from batchgen.report.exchange.markdown import comparison_markdown

    allowed = [parse_limit("--fail-if-worse", text) for text in limits]
    bounds = [*map(_margin, margins), *allowed]
    given = {limit.metric: limit.by for limit in bounds if limit.by is not None}
    prints = _Prints(as_json=options.pop("as_json"), responses=options.pop("show_responses"))
    comparisons = _compare(base, others, margins=given, max_examples=max_flips, **options)
    failures = _failures(comparisons, allowed)
    if page is not None:
        from batchgen.report.write_report import write_comparison

        write_comparison(
            base,
            others,
            page,
            metrics=options["metrics"],
            margins=given,
            pair_changed_prompts=options["pair_changed_prompts"],
        )
        print_written(page)
    write_summary(markdown, lambda: comparison_markdown(comparisons, [*failures.values()]))
    write_summary(junit, lambda: comparison_junit(comparisons, failures))
    return prints.result(comparisons, [*failures.values()])


@dataclass(frozen=True, slots=True)
class _Prints:
    """What is printed: JSON, or lines, with both responses of the listed rows."""

    as_json: bool
    responses: bool

    def result(self, comparisons: "Sequence[Comparison]", failed: Sequence[str]) -> int:
        """Print the comparisons; return the exit code."""
        from batchgen.cli.render.comparison import comparison_lines
        from batchgen.cli.render.several_runs import several_runs_lines

        code = 4 if failed else 0
        if self.as_json:
            plain = [comparison.plain() for comparison in comparisons]
            content = plain[0] if len(plain) == 1 else {"comparisons": plain}
            print_json(code, failed=failed, **content)
            return code
        if len(comparisons) == 1:
            answers = _answers(comparisons[0]) if self.responses else {}
            lines = comparison_lines(comparisons[0], answers)
        else:
            lines = several_runs_lines(comparisons)
        for line in lines:
            click.echo(line)
        for why in failed:
            click.echo(f"failed {why}: exit code 4", err=True)
        return code


def _compare(
    base: Path,
    others: Sequence[Path],
    *,
    repeat_runs: tuple[Path, Path] | None,
    **options: Any,  # noqa: ANN401  # the other arguments of `batchgen.compare`
) -> "list[Comparison]":
    from batchgen.errors import UsageError
    from batchgen.evaluation.comparing.compare import compare as compare_two
    from batchgen.evaluation.comparing.compare_several import compare_several

    if len(others) == 1:
        return [compare_two(base, others[0], repeat_runs=repeat_runs, **options)]
    if repeat_runs is not None:
        raise UsageError(
            "--repeat-runs applies to two runs", hint="Compare BASE and one NEW, or leave it out."
        )
    return compare_several(base, others, **options)


def _failures(
    comparisons: "Sequence[Comparison]", limits: "Sequence[RegressionLimit]"
) -> dict[tuple[str, str], str]:
    """The reasons of exceeded limits, by folder and metric; with several runs, the reason names the run."""
    from batchgen.evaluation.comparing.compare_several import run_names
    from batchgen.evaluation.comparing.regressions import regression_reason

    found = {}
    for name, comparison in zip(run_names(comparisons), comparisons, strict=True):
        for limit in limits:
            if why := regression_reason(comparison, limit):
                where = f"{name}: " if len(comparisons) > 1 else ""
                found[str(comparison.new), limit.metric] = where + why
    return found


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


def _answers(comparison: "Comparison") -> "ResponsePairs":
    from batchgen.evaluation.comparing.scored_run import open_scored_run, read_response_texts

    listed = (flip for one in comparison.metrics for flip in (*one.regressions, *one.improvements))
    flips = [(flip.id, flip.sample) for flip in listed]
    runs = (open_scored_run(path) for path in (comparison.base, comparison.new))
    before, now = (read_response_texts(run, flips) for run in runs)
    return {key: (before.get(key), now.get(key)) for key in before}
