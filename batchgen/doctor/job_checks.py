"""A job on this machine: what `validate` checks, its model, its memory and its output folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

from batchgen.doctor.finding import Finding, problem
from batchgen.doctor.model_checks import check_modelscope
from batchgen.doctor.storage_checks import check_folder
from batchgen.engines.engine_registry import estimate_engine, find_engine, required_weights
from batchgen.errors import BatchgenError, JobFileError
from batchgen.jobfile.load import LoadedJob
from batchgen.models.find_model import find_on_disk
from batchgen.models.hubs.model_scope import PREFIX
from batchgen.models.local_adapter import check_adapters_on_disk
from batchgen.models.local_model import model_specs
from batchgen.models.model_names import hub_of
from batchgen.run.preflight.context_check import check_answer_length_on_disk
from batchgen.run.preflight.input_check import check_input
from batchgen.run.preflight.weights_check import check_weights_on_disk


def check_job(load: Callable[[], LoadedJob], *, hub_reachable: bool) -> Iterator[Finding]:
    """Examine the job that `load` loads; a later check is left out if an earlier one, which it needs, fails."""
    try:
        loaded = load()
        checked = check_input(loaded)
        for check in (check_answer_length_on_disk, check_weights_on_disk, check_adapters_on_disk):
            check(loaded)
    except BatchgenError as error:
        yield from _problems("job", error)
        return
    name, source = loaded.job.name, checked.source.describe()
    yield Finding("job", "ok", f"{name} · engine {loaded.job.model.engine} · input {source}")
    for warning in checked.warnings:
        yield Finding("job", "note", warning)
    scope = list(check_modelscope()) if _names_modelscope(loaded) else []
    yield from scope
    if (loaded.job.model.path or "").startswith(PREFIX):
        hub_reachable = ("modelscope", "ok") in {(one.topic, one.status) for one in scope}
    yield from _check_model(loaded, hub_reachable=hub_reachable)
    yield from check_folder("output", Path(loaded.job.output.path), "Use --output FOLDER.")


def _names_modelscope(loaded: LoadedJob) -> bool:
    names = [(spec.path, spec.tokenizer, spec.adapter) for spec in model_specs(loaded.job)]
    return any((name or "").startswith(PREFIX) for named in names for name in named)


def _check_model(loaded: LoadedJob, *, hub_reachable: bool) -> Iterator[Finding]:
    model = loaded.job.model
    folder = None
    if model.path is not None:
        try:
            folder = find_on_disk(model.path, model.revision)
        except BatchgenError as error:
            yield from _problems("model", error)
            return
        if folder is None:
            yield _absent(model.path, hub_reachable=hub_reachable)
            return
        yield Finding("model", "ok", f"{model.path} · {folder}")
    if find_engine(model.engine).info.needs == "weights" and required_weights(model):
        try:
            estimate = estimate_engine(
                model,
                folder=folder,
                batching=loaded.job.batching,
                workers=loaded.job.run.workers,
            )
        except BatchgenError as error:
            yield from _problems("engine", error)
            return
        text = f"{model.engine} on {estimate.device}, {estimate.workers.count} processes"
        yield Finding("engine", "ok", text)


def _absent(path: str, *, hub_reachable: bool) -> Finding:
    if hub_reachable or path.startswith("demo:"):
        text = f"{path} is not on this machine; `run` downloads it"
        return Finding("model", "note", text, f"Download it now: batchgen models get {path}.")
    hub = hub_of(path)
    text = f"{path} is not on this machine, and {hub.title} is not reachable"
    fix = f"Set {hub.endpoint_variable} to a mirror, or set model.path to a folder that contains the model."
    return problem("model", text, fix)


def _problems(topic: str, error: BatchgenError) -> Iterator[Finding]:
    fix = "Correct the job file, then check it with `batchgen validate`."
    if isinstance(error, JobFileError):
        for one in error.problems:
            yield problem(topic, one.located(error.file), one.hint or fix)
    else:
        yield problem(topic, error.message, error.hint or fix)
