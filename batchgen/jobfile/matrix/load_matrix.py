"""From a job file with a matrix to one checked job for each combination.

    merged layers ──axes──> combinations ──one more layer each──> jobs, each with a folder of its own below output.path

All combinations are checked, and all problems are reported at once. One that not every combination has names the first
combination that has it.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from batchgen.errors import Problem
from batchgen.jobfile.load import LoadedJob, MergedJob, merge_job
from batchgen.jobfile.matrix.axes import Axis, combination_layer, read_axes
from batchgen.jobfile.matrix.combination_names import combination_names, setting_text
from batchgen.jobfile.merge import merge_layers
from batchgen.jobfile.tree import Node, find_node, replace_node, to_python


@dataclass(frozen=True, slots=True)
class Combination:
    """One run of a matrix.

    Attributes:
        name: of its folder.
        settings: the values that vary, by key.
    """

    name: str
    settings: Mapping[str, object]
    loaded: LoadedJob

    @property
    def title(self) -> str:
        """Such as `decoding.temperature=0.7, prompt.file=a.jinja`."""
        return describe_settings(self.settings)


@dataclass(frozen=True, slots=True)
class LoadedMatrix:
    """The runs of a matrix.

    Attributes:
        folder: that of all runs.
        combinations: those with the same model one after another; otherwise the last key varies fastest.
    """

    folder: Path
    combinations: tuple[Combination, ...]

    @property
    def first(self) -> LoadedJob:
        return self.combinations[0].loaded


def describe_settings(settings: Mapping[str, object]) -> str:
    """The values that vary, in one line."""
    return ", ".join(f"{key}={setting_text(value)}" for key, value in settings.items())


def load_matrix(
    path: Path | str,
    *,
    options: Sequence[str] = (),
    overrides: Sequence[str] = (),
    profile: str | None = None,
    date: dt.date | None = None,
    suffix: str = "",
) -> LoadedMatrix | None:
    """Read a job file with `matrix:` or with `options`, the `KEY=[VALUE, ...]` of `--matrix`; None if the job is one run.

    The other arguments are those of `load_job`; `suffix` is appended to the output folder.

    Raises:
        JobFileError: a combination is invalid; contains all problems.
    """
    merged = merge_job(path, overrides=overrides, profile=profile, date=date)
    problems = merged.layers.problems
    before = len(problems)
    axes = read_axes(merged.tree, options, str(merged.file), problems)
    if not axes and not options and len(problems) == before:
        return None
    if len(problems) > before or not axes:
        raise merged.layers.error(problems)
    values = list(product(*(axis.values for axis in axes)))
    names = combination_names(axes, values)
    loaded, found = _load_all(merged, axes, values)
    problems += [*found, *merged.unused_profile_problems()]
    if problems:
        raise merged.layers.error(problems)
    folder = Path(f"{loaded[0].job.output.path}{suffix}")
    combinations = [
        Combination(name, _settings(axes, chosen), _in_folder(job, folder / name, name))
        for name, chosen, job in zip(names, values, loaded, strict=True)
    ]
    return LoadedMatrix(folder, tuple(_by_model(combinations)))


def _load_all(
    merged: MergedJob, axes: Sequence[Axis], values: Sequence[Sequence[Node]]
) -> tuple[list[LoadedJob], list[Problem]]:
    loaded: list[LoadedJob] = []
    found: list[tuple[str, list[Problem]]] = []
    for chosen in values:
        job, problems = merged.check(merge_layers(merged.tree, combination_layer(axes, chosen)))
        found.append((describe_settings(_settings(axes, chosen)), problems))
        loaded += [job] if job is not None else []
    return loaded, named_problems(found)


def named_problems(found: Sequence[tuple[str, Sequence[Problem]]]) -> list[Problem]:
    """The problems of combinations by title, each once; one that not all have names the first that has it."""
    holders: dict[Problem, list[str]] = {}
    for title, problems in found:
        for problem in dict.fromkeys(problems):
            holders.setdefault(problem, []).append(title)
    return [
        problem
        if len(titles) == len(found)
        else replace(problem, message=f"{problem.message}; in the combination {_first(titles)}")
        for problem, titles in holders.items()
    ]


def _first(titles: Sequence[str]) -> str:
    more = len(titles) - 1
    return titles[0] + (f" and {more:,} more" if more else "")


def _settings(axes: Sequence[Axis], values: Iterable[Node]) -> dict[str, object]:
    return {axis.key: to_python(value) for axis, value in zip(axes, values, strict=True)}


def _in_folder(loaded: LoadedJob, folder: Path, name: str) -> LoadedJob:
    """The job with another output folder, and with a place of its own below output.upload."""
    output = loaded.job.output
    paths = {"path": str(folder)}
    if output.upload is not None:
        paths["upload"] = f"{output.upload.rstrip('/')}/{name}"
    tree = loaded.tree
    for key, text in paths.items():
        node = find_node(tree, ("output", key))
        if node is not None:
            tree = replace_node(tree, ("output", key), replace(node, value=text))
    job = loaded.job.model_copy(update={"output": output.model_copy(update=paths)})
    return replace(loaded, job=job, tree=tree)


def _by_model(combinations: Sequence[Combination]) -> list[Combination]:
    """Those with the same section `model` one after another, in the order in which the models occur first."""
    models: dict[str, list[Combination]] = {}
    for one in combinations:
        models.setdefault(one.loaded.job.model.model_dump_json(), []).append(one)
    return [one for group in models.values() for one in group]
