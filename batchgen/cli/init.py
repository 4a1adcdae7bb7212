"""`batchgen init`: writes a first job for a table."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchgen.cli.options import json_option, print_json
from batchgen.cli.render.terminal import format_count, printable

if TYPE_CHECKING:
    from batchgen.first_job.propose_job import JobKind
    from batchgen.first_job.write_job import FirstJob

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("data", type=_PATH, required=False)
@click.option(
    "-t",
    "--template",
    "kind",
    type=click.Choice(["content", "evaluation", "labels", "conversation"]),
    help="Kind of job. Default: what fits the columns of DATA.",
)
@click.option(
    "-o",
    "--output",
    type=_PATH,
    default=Path("job.yaml"),
    show_default=True,
    metavar="FILE",
    help="The job file to write.",
)
@json_option
def init(data: Path | None, kind: "JobKind | None", output: Path, *, as_json: bool) -> None:
    """Write a job for the table DATA.

    Chooses the columns of id, prompt and reference, and the metrics; writes comments, and a schema for editors next to the job.
    Without DATA, also writes a small table to begin with.
    """
    from batchgen.engines.engine_registry import ENGINES
    from batchgen.first_job.write_job import write_first_job
    from batchgen.jobfile.docs.json_schema import job_schema

    schema = json.dumps(job_schema(ENGINES), indent=2, ensure_ascii=False) + "\n"
    written = write_first_job(data, output, schema, kind=kind)
    if as_json:
        proposal = written.proposal
        print_json(
            job=str(written.file),
            schema=str(written.schema),
            sample=written.sample and str(written.sample),
            kind=proposal.kind,
            id=proposal.id or None,
            prompt=list(proposal.prompts) or proposal.conversation or proposal.turns,
            reference=proposal.reference or None,
            metrics=list(proposal.metrics),
        )
        return
    for line in _lines(written):
        click.echo(printable(line))


def _lines(written: "FirstJob") -> Iterator[str]:
    proposal, profile = written.proposal, written.profile
    columns = format_count(len(profile.columns), "column")
    yield f"table      {profile.path} · {profile.dialect} · {columns}"
    yield f"kind       {proposal.kind}"
    yield f"id         {proposal.id or 'none: rows are numbered'}"
    yield f"prompt     {', '.join(proposal.prompts) or proposal.conversation or proposal.turns}"
    if proposal.reference:
        yield f"reference  {proposal.reference}"
        yield f"metrics    {', '.join(proposal.metrics)}"
    files = [written.file, written.schema, *([written.sample] if written.sample else [])]
    yield f"wrote      {', '.join(map(str, files))}"
    yield f"Next: {shlex.join(['batchgen', 'try', str(written.file)])}"
