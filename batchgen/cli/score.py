"""`batchgen score`: scores for answers that exist already."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import json_option
from batchgen.cli.text import json_line

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from batchgen.job.evaluation import Evaluate
    from batchgen.runner.score import ScoreResult

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("what", metavar="RUN|FILE", type=PATH)
@click.option(
    "-m",
    "--metric",
    "metrics",
    multiple=True,
    metavar="TYPE|YAML",
    help="What to measure: exact, or '{type: rouge, variants: [L]}'. Repeatable. A run's own metrics are measured as well.",
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="COLUMN",
    help="Column with the right answer. Repeatable.",
)
@click.option(
    "--response", metavar="COLUMN", help="Column with the responses of a FILE. Default: response."
)
@click.option("--join", type=PATH, metavar="FILE", help="Take further columns from another file.")
@click.option("--on", metavar="COLUMN", help="Column by which --join finds the row.")
@click.option("-o", "--output", type=PATH, metavar="FOLDER", help="Where the scores of a FILE go.")
@json_option
def score(
    what: Path,
    *,
    metrics: Sequence[str],
    references: Sequence[str],
    as_json: bool,
    **options: Any,  # noqa: ANN401  # those of _Place
) -> int:
    """Score the answers of a run, or of any table with a response column, without generating anything.

    A run's files are written anew. The scores of a FILE go to --output: responses.parquet (its columns and the
    scores), scores.parquet (each score with what was extracted and why) and metrics.parquet (values and intervals).
    Ends with 4 when a gate of the run's job did not pass.
    """
    from batchgen.cli.scores import gate_lines, metric_lines, score_summary

    result = _scored(what, _evaluate(metrics, references), tuple(references), _Place(**options))
    if as_json:
        content = {
            "ok": result.exit_code == 0,
            "exit_code": int(result.exit_code),
            "output": str(result.folder.path),
            **score_summary(result.metrics, result.gates),
        }
        click.echo(json_line(content))
        return int(result.exit_code)
    for line in metric_lines(result.metrics):
        click.echo(line)
    for line in (*gate_lines(result.gates), f"wrote  {result.folder.path}"):
        click.echo(line, err=True)
    return int(result.exit_code)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where columns and results are."""

    response: str | None
    join: Path | None
    on: str | None
    output: Path | None


def _scored(
    what: Path, evaluate: "Evaluate", references: tuple[str, ...], place: _Place
) -> "ScoreResult":
    from batchgen.errors import UsageError
    from batchgen.runner.join import Beside
    from batchgen.runner.score import score_run
    from batchgen.runner.score_file import score_file

    if (place.join is None) != (place.on is None):
        raise UsageError("--join and --on go together")
    beside = Beside(place.join, place.on) if place.join and place.on else None
    if what.is_dir() and (what / "manifest.json").exists():
        if place.response or place.output:
            raise UsageError(
                "--response and --output are for files: a run's scores go beside its answers"
            )
        return score_run(what, evaluate.metrics, references=references, beside=beside)
    if place.output is None:
        raise UsageError(
            f"{what} is not the output folder of a complete run",
            hint="For a table of responses, say with --output FOLDER where its scores go.",
        )
    if not evaluate.metrics:
        raise UsageError("nothing says what to measure", hint="Such as --metric exact.")
    response = place.response or "response"
    return score_file(what, evaluate, response=response, output=place.output, beside=beside)


def _evaluate(metrics: Sequence[str], references: Sequence[str]) -> "Evaluate":
    import yaml
    from pydantic import ValidationError

    from batchgen.errors import UsageError
    from batchgen.job.evaluation import Evaluate, metric_types

    try:
        asked = [yaml.safe_load(text) for text in metrics]
    except yaml.YAMLError as error:
        raise UsageError(
            "--metric: not YAML", hint="Such as --metric '{type: rouge, variants: [L]}'."
        ) from error
    content = {"metrics": asked, "reference": list(references) or None} if asked else {}
    try:
        return Evaluate.model_validate(content)
    except ValidationError as error:
        lines = [_found(one, metrics) for one in error.errors()]
        hint = f"Types: {', '.join(metric_types())}."
        raise UsageError("\n".join(lines), hint=hint) from error


def _found(error: "ErrorDetails", metrics: Sequence[str]) -> str:
    place, message = error["loc"], error["msg"].removeprefix("Value error, ")
    if len(place) < 2 or not isinstance(place[1], int):
        return message
    key = ".".join(str(step) for step in place[3:])
    if error["type"].startswith("union_tag"):
        message = "no such type"
    return f"--metric {metrics[place[1]]}: {key + ': ' if key else ''}{message}"
