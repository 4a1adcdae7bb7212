"""From a job file to a checked `Job`.

    files ──read──> layers ──merge──> tree ──${...}──> tree ──paths──> tree ──pydantic──> Job

All problems are reported at once, each with its location. Imports no heavy library: `batchgen validate` must be quick.
"""

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import MappingProxyType

import yaml

from batchgen.errors import JobFileError, Problem
from batchgen.job.spec import Job
from batchgen.jobfile.check import check_job, new_problems, origins
from batchgen.jobfile.date_pattern import date_pattern
from batchgen.jobfile.dump import dump_job
from batchgen.jobfile.job_paths import output_problem
from batchgen.jobfile.layers import Layers, job_file_error, read_layers
from batchgen.jobfile.merge import merge_layers
from batchgen.jobfile.messages.explain import add_locations, problem_at_path
from batchgen.jobfile.overrides import parse_overrides
from batchgen.jobfile.profiles import check_unused_profile, profiles_of, select_profile
from batchgen.jobfile.renamed_keys import with_current_names
from batchgen.jobfile.tree import (
    Node,
    as_node,
    children,
    find_node,
    parse_key,
    problem_at,
    to_python,
)

_IN_MEMORY = "job"
"""Name in messages of a job that is given as a mapping."""


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """A job and its sources.

    Attributes:
        file: absolute; only a name if the job was given as a mapping.
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

    @property
    def output_pattern(self) -> str | None:
        """The pattern of the output folders of all days, from the first one with a date on; None if it has no date."""
        node = find_node(self.tree, parse_key("output.path"))
        return date_pattern(node.raw, Path(self.job.output.path)) if node else None

    def origin(self, key: str) -> str:
        """Where a value came from, such as "profile smoke" or "default"."""
        return self.origins.get(key, "default")

    def error(self, problems: Sequence[Problem]) -> JobFileError:
        """The error for these problems, each with the line of its key."""
        return job_file_error(add_locations(self.tree, problems, self.texts), self.texts)

    def describe(self, warnings: Sequence[Problem]) -> tuple[str, ...]:
        """The texts of warnings, each with the line of its key."""
        return tuple(f"warning: {self.error([warning])}" for warning in warnings)

    def dump(self) -> str:
        """The resolved job as YAML, each value with its origin. Secrets are masked."""
        header = f"{self.job.name}, resolved for {self.date} from {self.file}"
        return dump_job(self.job, self.tree, self.origins, header)


def load_job(
    path: Path | str | Mapping[str, object],
    *,
    overrides: Sequence[str] = (),
    profile: str | None = None,
    date: dt.date | None = None,
) -> LoadedJob:
    """Read a job file, or a job as a mapping, whose paths are relative to the working folder.

    `overrides` are `KEY=VALUE` each, as with `--set`; `${date}` is today if left out.

    Raises:
        JobFileError: the job is invalid; contains all problems.
    """
    merged = merge_job(path, overrides=overrides, profile=profile, date=date)
    matrix = children(merged.tree).get("matrix")
    if matrix is not None and matrix.value is not None:
        message = "several runs, one for each combination; expected a job of one run"
        hint = "Use `batchgen run`, `plan` or `validate`, or choose one run with --set matrix=null and its settings."
        raise merged.layers.error(
            [*merged.layers.problems, problem_at(matrix, "matrix", message, hint)]
        )
    return _load(merged)


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
    return _load(_merged(stored, path, layers))


@dataclass(frozen=True, slots=True)
class MergedJob:
    """The merged layers of a job, not checked yet.

    Attributes:
        file: as the user gave it, for messages.
        written: without the profile and the overrides.
        profile: the chosen one.
    """

    file: Path
    layers: Layers
    written: Node
    tree: Node
    profiles: Mapping[str, Node]
    profile: str | None

    def unused_profile_problems(self) -> list[Problem]:
        """The problems of the profiles that are not chosen."""
        return [
            problem
            for other in self.profiles.keys() - {self.profile}
            for problem in check_unused_profile(self.profiles[other], self.written, self.layers)
        ]

    def check(self, tree: Node) -> "tuple[LoadedJob | None, list[Problem]]":
        """The job of a tree, which may have one more layer than `tree`; None with problems, the known ones not included."""
        layers, known = self.layers, self.layers.problems
        checked = check_job(tree, layers)
        problems = [*checked.problems]
        problems += new_problems(checked, [*known, *problems])
        name = str(self.file)
        location = layers.folders[name] / self.file.name
        if (
            not problems
            and not known
            and checked.job is not None
            and (clash := output_problem(checked.job, location))
        ):
            hint = f"Write to another folder, such as out/{checked.job.name}."
            problems.append(problem_at_path(checked.tree, ("output", "path"), clash, hint))
        if problems or checked.job is None:
            return None, problems
        tree, texts = checked.tree, layers.texts
        loaded = LoadedJob(
            checked.job, location, texts[name], layers.date, origins(tree), tree, texts
        )
        return loaded, []


def merge_job(
    path: Path | str | Mapping[str, object],
    *,
    overrides: Sequence[str] = (),
    profile: str | None = None,
    date: dt.date | None = None,
) -> MergedJob:
    """Read and merge the layers of a job file; the arguments are those of `load_job`.

    Raises:
        JobFileError: a file is missing or unreadable.
    """
    layers = _layers(date)
    text = _as_yaml(path) if isinstance(path, Mapping) else None
    file = Path(_IN_MEMORY) if isinstance(path, Mapping) else Path(path)
    written = read_layers(file, layers, text)
    return _merged(written, file, layers, overrides=overrides, profile=profile)


def _as_yaml(job: Mapping[str, object]) -> str:
    try:
        return yaml.dump(dict(job), Dumper=_JobDumper, allow_unicode=True, sort_keys=False)
    except yaml.YAMLError as error:
        message = f"a value that a job cannot contain: {error.args[-1]!r}"
        hint = "Use numbers, texts, lists, mappings, True, False and None."
        raise JobFileError([Problem("", message, hint)], file=_IN_MEMORY) from error


class _JobDumper(yaml.SafeDumper):
    """Also writes paths, tuples and read-only mappings; writes a repeated value again, since jobs have no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


_JobDumper.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))
_JobDumper.add_representer(MappingProxyType, lambda dumper, one: dumper.represent_dict(dict(one)))
_JobDumper.add_multi_representer(tuple, lambda dumper, items: dumper.represent_list(list(items)))


def _layers(date: dt.date | None) -> Layers:
    return Layers(os.environ, date or dt.datetime.now().astimezone().date())


def _merged(
    written: Node,
    file: Path,
    layers: Layers,
    *,
    overrides: Sequence[str] = (),
    profile: str | None = None,
) -> MergedJob:
    name, problems = str(file), layers.problems
    profiles = profiles_of(written, problems)
    merged = merge_layers(written, select_profile(profile, profiles, name, problems))
    merged = merge_layers(merged, parse_overrides(overrides, name, problems))
    return MergedJob(file, layers, written, merged, profiles, profile)


def _load(merged: MergedJob) -> LoadedJob:
    loaded, problems = merged.check(merged.tree)
    problems = [*merged.layers.problems, *problems, *merged.unused_profile_problems()]
    if problems or loaded is None:
        raise merged.layers.error(problems)
    return loaded
