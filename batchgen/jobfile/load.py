"""A job file becomes a `Job`: the way of a value from YAML text to the schema, in the order of this page.

    files ──read──> layers ──merge──> tree ──${...}──> tree ──paths──> tree ──pydantic──> Job

Everything that is wrong is reported at once, with its place. Imports pydantic and PyYAML only, since
`batchgen validate` must answer at once.
"""

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchgen.errors import JobFileError, Problem
from batchgen.job.spec import Job
from batchgen.jobfile.check import check_job, new_problems, origins
from batchgen.jobfile.dump import dump_job
from batchgen.jobfile.job_paths import output_problem
from batchgen.jobfile.layers import MAX_PROBLEMS, Layers, job_file_error, read_layers
from batchgen.jobfile.merge import merge_layers
from batchgen.jobfile.messages.explain import add_locations, problem_at_path
from batchgen.jobfile.overrides import parse_overrides
from batchgen.jobfile.profiles import check_unused_profile, profiles_of, select_profile
from batchgen.jobfile.tree import Node


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """A job and how it came about.

    Attributes:
        file: the job file, absolute.
        text: what stands in it.
        date: what `${date}` means.
        origins: where each value came from, by dotted key: "job", "profile smoke", "--set" or a base file's name.
            A key that is not here has its default.
        tree: the values with their places.
        texts: the text of the job file and its base files, by the names that messages show; the job's is first.
    """

    job: Job
    file: Path
    text: str
    date: dt.date
    origins: Mapping[str, str]
    tree: Node = field(repr=False)
    texts: Mapping[str, str] = field(repr=False)

    def origin(self, key: str) -> str:
        """Where a value came from, such as "profile smoke"; "default" if nobody gave it."""
        return self.origins.get(key, "default")

    def error(self, problems: Sequence[Problem]) -> JobFileError:
        """The failure that shows these problems where their keys stand in the file."""
        return job_file_error(add_locations(self.tree, problems), self.texts)

    def dump(self) -> str:
        """The job as resolved, as YAML, each value with where it came from. Secrets are masked."""
        header = f"{self.job.name} as it was resolved for {self.date}, from {self.file}"
        return dump_job(self.job, self.tree, self.origins, header)


def load_job(
    path: Path | str,
    *,
    sets: Sequence[str] = (),
    profile: str | None = None,
    date: dt.date | None = None,
) -> LoadedJob:
    """Read a job file.

    Args:
        path: the job file.
        sets: `KEY=VALUE` each, as with `--set`.
        profile: the name of one of the job's profiles.
        date: what `${date}` means; today if left out.

    Raises:
        JobFileError: everything that is wrong with the job, at once.
    """
    layers = Layers(os.environ, date or dt.datetime.now().astimezone().date())
    file = Path(path)
    name = str(file)
    written = read_layers(file, layers)
    problems = layers.problems
    profiles = profiles_of(written, problems)
    merged = merge_layers(written, select_profile(profile, profiles, name, problems))
    merged = merge_layers(merged, parse_overrides(sets, name, problems))
    checked = check_job(merged, layers)
    problems += checked.problems
    problems += new_problems(checked, problems)
    for other in profiles.keys() - {profile}:
        if len(problems) <= MAX_PROBLEMS:
            problems += check_unused_profile(profiles[other], written, layers)
    location = layers.folders[name] / file.name
    if not problems and checked.job is not None:
        problems += _output_problems(checked.job, checked.tree, location)
    if problems or checked.job is None:
        raise layers.error(problems)
    return LoadedJob(
        job=checked.job,
        file=location,
        text=layers.texts[name],
        date=layers.date,
        origins=origins(checked.tree),
        tree=checked.tree,
        texts=layers.texts,
    )


def _output_problems(job: Job, tree: Node, location: Path) -> list[Problem]:
    clash = output_problem(job, location)
    hint = f"write somewhere else, such as out/{job.name}"
    return [problem_at_path(tree, ("output", "path"), clash, hint)] if clash else []
