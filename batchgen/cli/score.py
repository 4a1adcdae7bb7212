"""`batchgen score`: scores for answers that exist already."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from batchgen.cli.options import json_option, terminal
from batchgen.cli.render.terminal import json_line

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("what", metavar="RUN|FILE", type=PATH)
@click.option(
    "-m",
    "--metric",
    "metrics",
    multiple=True,
    metavar="TYPE|YAML",
    help="What to measure: exact, or '{type: rouge, variants: [L]}'. Repeatable. A run's own metrics are measured as well; those of an earlier `score` are not.",
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
@click.option(
    "--reasoning",
    type=click.Choice(["keep", "drop"]),
    help="drop: text between think marks is not scored. Default: as the run's job says; keep for a FILE.",
)
@click.option("--join", type=PATH, metavar="FILE", help="Take further columns from another file.")
@click.option("--on", metavar="COLUMN", help="Column by which --join finds the row.")
@click.option("-o", "--output", type=PATH, metavar="FOLDER", help="Where the scores of a FILE go.")
@click.option(
    "--model",
    metavar="MODEL",
    help="Model that likelihood metrics ask: a folder, demo:smollm2-135m, or a model id. Of a run: its own by default.",
)
@click.option(
    "--chat-template",
    metavar="auto|none|FILE",
    help="How that model is told the messages of a FILE. Default: auto, its own.",
)
@json_option
def score(
    what: Path,
    *,
    metrics: Sequence[str],
    references: Sequence[str],
    as_json: bool,
    **options: Any,  # noqa: ANN401  # where columns and results are: passed on as they are
) -> int:
    """Score the answers of a run, or of any table with a response column, without generating anything.

    A run's files are written anew. The scores of a FILE go to --output: responses.parquet (its columns and the
    scores), scores.parquet (each score with what was extracted and why) and metrics.parquet (values and intervals).
    Ends with 4 when a gate of the run's job did not pass.
    """
    from batchgen.cli.render.metric_table import (
        gate_lines,
        metric_lines,
        score_summary,
        unscored_lines,
    )
    from batchgen.evaluation.scoring.score import score as score_any

    result = score_any(
        what,
        _read(metrics),
        reference=references,
        say=lambda text: click.echo(text, err=True),
        terminal=terminal(),
        **options,
    )
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
    unscored = unscored_lines(result.metrics, result.folder.scores)
    for line in (*unscored, *gate_lines(result.gates), f"wrote  {result.folder.path}"):
        click.echo(line, err=True)
    return int(result.exit_code)


def _read(metrics: Sequence[str]) -> list[Any]:
    import yaml

    from batchgen.errors import UsageError

    try:
        return [yaml.safe_load(text) for text in metrics]
    except yaml.YAMLError as error:
        raise UsageError(
            "--metric: not YAML", hint="Such as --metric '{type: rouge, variants: [L]}'."
        ) from error
