"""`batchgen schema`: the keys of a job file, for editors or as a page to read."""

import json
from pathlib import Path

import click

from batchgen.cli.render.terminal import json_text


@click.command()
@click.option(
    "--format",
    "kind",
    type=click.Choice(["json", "markdown"]),
    default="json",
    show_default=True,
    help="JSON Schema (draft 7) for editors, or the reference page.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write to this file instead of stdout.",
)
def schema(kind: str, output: Path | None) -> None:
    """Print the schema of job files."""
    from batchgen.engines.engine_registry import ENGINES
    from batchgen.errors import UsageError
    from batchgen.jobfile.docs.json_schema import job_schema
    from batchgen.jobfile.docs.reference import job_reference

    if kind == "json":
        content = job_schema(ENGINES)
        to_file = json.dumps(content, indent=2, ensure_ascii=False)
        text = (to_file if output else json_text(content, indent=2)) + "\n"
    else:
        text = job_reference({name: one.info.summary for name, one in ENGINES.items()})
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        hint = "Give a writable file in a folder that exists."
        raise UsageError(f"cannot write {output}: {error.strerror or error}", hint=hint) from error
    click.echo(f"wrote {output}", err=True)
