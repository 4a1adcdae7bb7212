"""Which model a server offers, before a run starts or is continued."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from batchgen.decoding_settings import ResolvedDecoding
from batchgen.engines.capability_check import likelihood_users
from batchgen.engines.contract import SERVED_CONTEXT, ModelUse
from batchgen.engines.engine_registry import find_engine, identify_model
from batchgen.errors import JobKeyError
from batchgen.job.spec import Job
from batchgen.jobfile.load import LoadedJob
from batchgen.progress import Reporter
from batchgen.state.identity import read_identity
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists
from batchgen.structured.answer_grammars import KEY

_NAMES = (
    *("served_model", "served_weights", "served_by", SERVED_CONTEXT),
    *("dialect", "computed_by"),
)
_NEUTRAL = asdict(ResolvedDecoding())
_OF_ALL_ENGINES = ("max_new_tokens", "end_token_ids", "top_logprobs")


def served_model_settings(
    loaded: LoadedJob,
    decoding: ResolvedDecoding,
    reporter: Reporter,
    continued: RunFolder | None,
) -> Mapping[str, Any]:
    """What decides the answers of a model on a server; empty for one on this machine.

    A complete run needs no server: it keeps what it recorded.

    Raises:
        JobFileError: a setting has no effect on the server.
        ModelError: a server rejects the job.
        UnavailableError: a server cannot be reached.
    """
    model = loaded.job.model
    if find_engine(model.engine).identify is None:
        return {}
    known = _recorded(continued) if continued is not None else {}
    if known and continued is not None and continued.complete:
        return known
    try:
        found = identify_model(model, _use(loaded.job, decoding, known), reporter.info)
        _check_seed(loaded.job, found)
    except JobKeyError as error:
        raise loaded.error([error.problem]) from error
    return found


def _recorded(folder: RunFolder) -> dict[str, Any]:
    identity = read_identity(folder) if exists(folder.path) else None
    settings = identity.settings.get("model", {}) if identity else {}
    return {name: settings[name] for name in _NAMES if name in settings}


def _use(job: Job, decoding: ResolvedDecoding, known: Mapping[str, Any]) -> ModelUse:
    keys = {
        name: f"decoding.{name}"
        for name, value in asdict(decoding).items()
        if value != _NEUTRAL[name] and name not in _OF_ALL_ENGINES
    }
    keys |= {name: f"decoding.columns.{name}" for name in job.decoding.columns}
    keys.pop("max_new_tokens", None)
    keys.pop("grammar", None)
    sampled = job.decoding.may_sample and "temperature" in keys
    if (form := job.decoding.response_format) is not None:
        keys.pop("response_format", None)
        keys |= {form.form: f"{KEY}.{form.form}"} if form.form else {}
        keys |= {kind: f"{KEY}.columns.{kind}" for kind in form.columns if kind != form.form}
    for key, spec in likelihood_users(job).items():
        if spec is job.model:
            keys.setdefault("labels" if key.startswith("evaluate.judges") else "likelihoods", key)
    return ModelUse(keys, decoding.grammar, sampled=sampled, known=known)


def _check_seed(job: Job, found: Mapping[str, Any]) -> None:
    """A seed that the job sets, and that only sampling would read, must have an effect."""
    reads_it = job.decoding.may_sample and job.input.sample is None
    dialect = found.get("dialect")
    if dialect is None:
        return
    if reads_it and "seed" in job.run.model_fields_set and "seed" not in dialect:
        raise JobKeyError(
            "run.seed",
            "has no effect: the server ignores seeds",
            hint="Remove it. Sampled answers of this server cannot be reproduced.",
        )
