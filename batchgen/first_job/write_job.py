"""Write a first job and the schema for editors, and check what was written as `validate` does."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import DataError, UsageError
from batchgen.first_job.job_text import JobText
from batchgen.first_job.propose_job import JobKind, Proposal, propose
from batchgen.first_job.table_profile import TableProfile, read_profile
from batchgen.jobfile.load import load_job
from batchgen.run.preflight.input_check import check_input
from batchgen.storage.durable import disk_errors

SAMPLE_FILE = "prompts.csv"
_SAMPLES: Mapping[bool, str] = {
    False: "id,question\n1,What is the capital of France?\n2,Name three primary colours.\n3,Why is the sky blue?\n",
    True: "id,问题\n1,法国的首都是哪里？\n2,三原色是哪三种颜色？\n3,天空为什么是蓝色的？\n",
}


@dataclass(frozen=True, slots=True)
class FirstJob:
    """A job that was written.

    Attributes:
        sample: the table that was written with it; None if the user has one.
    """

    file: Path
    schema: Path
    sample: Path | None
    profile: TableProfile
    proposal: Proposal


def write_first_job(
    data: Path | None, file: Path, schema: str, *, kind: JobKind | None = None
) -> FirstJob:
    """Write a job for a table.

    Args:
        data: the table; None writes a small one next to the job.
        file: the job file.
        schema: the content of the schema for editors.
        kind: of the job; None for the kind that fits the table.

    Raises:
        DataError: the table cannot be read.
        ResourceError: the disk refuses.
        UsageError: a file to be written exists, or the table does not fit the kind.
    """
    folder = file.absolute().parent
    sample = folder / SAMPLE_FILE if data is None else None
    for path in filter(None, (file, sample)):
        if path.exists():
            hint = "Name another job file with --output FILE, or move this one away."
            raise UsageError(f"{path} exists, and `init` overwrites nothing", hint=hint)
    if data is not None and not data.exists():
        raise DataError(
            f"{data}: no such file", hint="Give a CSV, JSONL, JSON, Excel or Parquet file."
        )
    with disk_errors("cannot write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        if sample is not None:
            chinese = os.environ.get("LC_ALL", os.environ.get("LANG", "")).startswith("zh")
            sample.write_text(_SAMPLES[chinese], "utf-8")
    profile = read_profile((sample or data or folder).absolute())
    proposal = propose(profile, kind)
    schema_file = file.with_suffix(".schema.json")
    text = JobText(
        profile, proposal, os.path.relpath(profile.path, folder), str(file), schema_file.name
    )
    with disk_errors("cannot write", file):
        schema_file.write_text(schema, "utf-8")
        file.write_text(text.render(), "utf-8")
    check_input(load_job(file))
    return FirstJob(file, schema_file, sample, profile, proposal)
