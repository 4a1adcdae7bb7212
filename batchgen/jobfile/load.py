"""From a job file to a checked `Job`.

    files ──read──> layers ──merge──> tree ──${...}──> tree ──paths──> tree ──pydantic──> Job

All problems are reported at once, each with its location. Imports no heavy library: `batchgen validate` must be quick.
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
from batchgen.jobfile.layers import Layers, job_file_error, read_layers
from batchgen.jobfile.merge import merge_layers
from batchgen.jobfile.messages.explain import add_locations, problem_at_path
from batchgen.jobfile.overrides import parse_overrides
from batchgen.jobfile.profiles import check_unused_profile, profiles_of, select_profile
from batchgen.jobfile.renamed_keys import with_current_names
from batchgen.jobfile.tree import Node, as_node, children, to_python


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """A job and its sources.

    Attributes:
        file: absolute.
        date: the value of `${date}`.
        origins: where each value came from, by dotted key: "job", "profile smoke", "--set" or a base file's name.
            Other keys have their default.
        texts: the text of the job file and its base files, by the names used in messages; the job's is first.
    """

    job: Job
    file: Path
    text: str
    date: dt.date
    origins: Mapping[str, str]
    tree: Node = field(repr=False)
    texts: Mapping[str, str] = field(repr=False)

    @property
    def uses_date(self) -> bool:
        """Whether the job, a base file or an override writes `${date}`."""
        if any("${date" in text for text in self.texts.values()):
            return True
        waiting = [self.tree]
        while waiting:
            node = waiting.pop()
            if "${date" in node.raw:
                return True
            waiting += node.value if isinstance(node.value, tuple) else children(node).values()
        return False

    def origin(self, key: str) -> str:
        """Where a value came from, such as "profile smoke" or "default"."""
        return self.origins.get(key, "default")

    def error(self, problems: Sequence[Problem]) -> JobFileError:
        """The error for these problems, each with the line of its key."""
        return job_file_error(add_locations(self.tree, problems), self.texts)

    def describe(self, warnings: Sequence[Problem]) -> tuple[str, ...]:
        """The texts of warnings, each with the line of its key."""
        return tuple(f"warning: {self.error([warning])}" for warning in warnings)

    def dump(self) -> str:
        """The resolved job as YAML, each value with its origin. Secrets are masked."""
        header = f"{self.job.name}, resolved for {self.date} from {self.file}"
        return dump_job(self.job, self.tree, self.origins, header)


def load_job(
    path: Path | str,
    *,
    overrides: Sequence[str] = (),
    profile: str | None = None,
    date: dt.date | None = None,
) -> LoadedJob:
    """Read a job file. `overrides` are `KEY=VALUE` each, as with `--set`; `${date}` is today if left out.

    Raises:
        JobFileError: the job is invalid; contains all problems.
    """
    layers, file = _layers(date), Path(path)
    return _load(read_layers(file, layers), file, layers, overrides=overrides, profile=profile)


def load_stored_job(path: Path) -> LoadedJob:
    """Read the job.yaml of a run folder. Keys and metric types of version 0.1 are translated.

    Raises:
        JobFileError: the job is invalid.
    """
    layers = _layers(None)
    stored = read_layers(path, layers)
    written = to_python(stored)
    if isinstance(written, Mapping) and (current := with_current_names(written)) != written:
        stored = as_node(current, stored.location, stored.origin)
    return _load(stored, path, layers)


def _layers(date: dt.date | None) -> Layers:
    return Layers(os.environ, date or dt.datetime.now().astimezone().date())


def _load(
    written: Node,
    file: Path,
    layers: Layers,
    *,
    overrides: Sequence[str] = (),
    profile: str | None = None,
) -> LoadedJob:
    name = str(file)
    problems = layers.problems
    profiles = profiles_of(written, problems)
    merged = merge_layers(written, select_profile(profile, profiles, name, problems))
    merged = merge_layers(merged, parse_overrides(overrides, name, problems))
    checked = check_job(merged, layers)
    problems += checked.problems
    problems += new_problems(checked, problems)
    for other in profiles.keys() - {profile}:
        problems += check_unused_profile(profiles[other], written, layers)
    location = layers.folders[name] / file.name
    if (
        not problems
        and checked.job is not None
        and (clash := output_problem(checked.job, location))
    ):
        hint = f"Write to another folder, such as out/{checked.job.name}."
        problems.append(problem_at_path(checked.tree, ("output", "path"), clash, hint))
    if problems or checked.job is None:
        raise layers.error(problems)
    tree, texts = checked.tree, layers.texts
    return LoadedJob(checked.job, location, texts[name], layers.date, origins(tree), tree, texts)
