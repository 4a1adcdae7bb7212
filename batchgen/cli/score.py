"""`batchgen score`: scores answers that exist already."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from batchgen.cli.options import (
    console_reporter,
    json_option,
    print_json,
    summary_file_options,
    write_summary,
)
from batchgen.cli.render.terminal import printable

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("what", metavar="RUN|FILE", type=PATH)
@click.option(
    "-m",
    "--metric",
    "metrics",
    multiple=True,
    metavar="TYPE|YAML",
    help="A metric, such as exact or '{type: rouge, variants: [L]}'. Repeatable. Added to the metrics of the run's job; metrics of an earlier `score` are dropped.",
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="COLUMN",
    help="Column with the reference answer. Repeatable.",
)
@click.option("--response", metavar="COLUMN", help="Response column of FILE. Default: response.")
@click.option(
    "--reasoning",
    type=click.Choice(["keep", "drop"]),
    help="Whether to score text between think marks. Default: output.reasoning of the run's job; keep for a FILE.",
)
@click.option("--join", type=PATH, metavar="FILE", help="Add the columns of another file.")
@click.option("--on", metavar="COLUMN", help="Column by which --join matches rows.")
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FOLDER",
    help="Folder for the scores. Required for a FILE; default for a RUN: its own folder.",
)
@click.option(
    "--model",
    metavar="MODEL",
    help="Model for likelihood metrics: a folder, demo:smollm2-135m, or a model id. Default: the run's model.",
)
@click.option(
    "--chat-template",
    metavar="auto|none|FILE",
    help="Chat template to apply to the messages in FILE. Default: auto, the model's own.",
)
@summary_file_options
@json_option
def score(
    what: Path,
    *,
    metrics: Sequence[str],
    references: Sequence[str],
    as_json: bool,
    markdown: Path | None,
    junit: Path | None,
    **options: Any,  # noqa: ANN401  # arguments of `batchgen.score`
) -> int:
    """Score the answers of a run or a table.

    Generates nothing. The files of a RUN are rewritten, unless --output is given. The scores of a FILE are written to --output: responses.parquet (its columns and the scores),
    scores.parquet (each score with the extracted answer and the rule) and metrics.parquet (values and intervals).
    Ends with 4 if a gate of the run's job fails.
    """
    from batchgen.cli.render import metric_table
    from batchgen.cli.render.confusion_table import confusion_lines
    from batchgen.evaluation.confusion import read_confusion_matrices
    from batchgen.evaluation.scoring.score import score as score_any
    from batchgen.report.exchange.junit import gates_junit
    from batchgen.report.exchange.markdown import gates_markdown
    from batchgen.report.write_report import stage_report

    with console_reporter() as reporter:
        reporter.begin(f"scoring {printable(str(what))}")
        result = score_any(
            what,
            _read(metrics),
            reference=references,
            reporter=reporter,
            add_report=stage_report,
            **options,
        )
    write_summary(markdown, lambda: gates_markdown(what.name, result.gates, result.metrics))
    write_summary(junit, lambda: gates_junit(what.name, result.gates))
    if as_json:
        scores = metric_table.score_summary(result.metrics, result.gates, result.folder.scores)
        print_json(result.exit_code, output=str(result.folder.path), **scores)
        return int(result.exit_code)
    matrices = confusion_lines(read_confusion_matrices(result.folder.scores))
    for line in (*metric_table.metric_lines(result.metrics), *matrices):
        click.echo(line)
    unscored = metric_table.unscored_lines(result.metrics, result.folder.scores)
    gates = metric_table.gate_lines(result.gates)
    for line in (*unscored, *gates, f"wrote  {result.folder.path}"):
        click.echo(line, err=True)
    return int(result.exit_code)


def _read(metrics: Sequence[str]) -> list[Any]:
    import yaml

    from batchgen.errors import UsageError

    try:
        return [yaml.safe_load(text) for text in metrics]
    except yaml.YAMLError as error:
        raise UsageError(
            "--metric: not YAML", hint="Write it as in --metric '{type: rouge, variants: [L]}'."
        ) from error
