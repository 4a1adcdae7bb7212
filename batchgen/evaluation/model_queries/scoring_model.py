"""A model that scores given texts: its files, its tokenizer, its context length; and an engine opened on first use."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from types import MappingProxyType
from typing import Any

from batchgen.engines.contract import SERVED, SERVED_CONTEXT, Engine
from batchgen.engines.engine_registry import check_engine_adapter, choose_engine_dtype
from batchgen.engines.replicas.replicated_engine import WINDOW, ReplicatedEngine
from batchgen.engines.this_start import recorded_part
from batchgen.engines.weight_compression import check_compression
from batchgen.errors import DeathError, ResourceError
from batchgen.fingerprint import fingerprint
from batchgen.job.spec import Job, ModelSpec
from batchgen.jobfile.load import LoadedJob
from batchgen.models.formats.compressed_weights import find_compression
from batchgen.models.local_adapter import adapter_errors
from batchgen.models.local_model import LocalModel
from batchgen.models.tokenizer import load_from
from batchgen.planning.dtype_choice import ChosenDtype
from batchgen.prompts.byte_tokenizer import ByteTokenizer
from batchgen.prompts.tokenize import ModelTokenizer, Tokenizer

UNBOUNDED = sys.maxsize
"""Context length without a model."""

EngineOpener = Callable[..., Engine]
"""`engines.engine_registry.open_engine`, or a replacement with the same parameters."""


class LazyEngine:
    """An engine that is opened on first use, and again after `close`."""

    def __init__(self, opener: Callable[[], Engine]) -> None:
        self._opener = opener
        self._engine: Engine | None = None

    def get(self) -> Engine:
        if self._engine is None:
            self._engine = self._opener()
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None


@dataclass(frozen=True, slots=True)
class ScoringModel:
    """A model that scores given texts, its weights not loaded.

    Attributes:
        model: None if the job names none, which only an engine without needs permits.
        dtype: that of the run; None to choose one on this machine.
        served: what `engine_registry.identify_model` found; empty for a model on this machine.
    """

    job: Job
    model: LocalModel | None
    tokenizer: Tokenizer
    context_length: int
    dtype: ChosenDtype | None = None
    served: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> ModelSpec:
        """The job's model section with what was resolved: dtype and folder of the adapter, or what its server was found to honor."""
        section = _with_adapter_folder(self.job.model, self.model)
        if self.served:
            arguments = {**section.engine_args, SERVED: dict(self.served)}
            section = section.model_copy(update={"engine_args": arguments})
        chosen = self.dtype or choose_model_dtype(section, self.model)
        return chosen.applied_to(section) if chosen else section

    @property
    def identity(self) -> str:
        """A hash of everything but the tokens that decides a likelihood."""
        spec = self.spec
        own = self.model.identity if self.model else {}
        return fingerprint(
            {
                "weights": {**own, **recorded_part(self.served)},
                "engine": spec.engine,
                "dtype": spec.dtype,
                "device": spec.device,
            }
        )

    def with_checked_adapter(self, loaded: LoadedJob, key: str = "model") -> "ScoringModel":
        """This, if the adapter fits its model; else JobFileError. `key` is that of the model's section."""
        if self.model is not None and self.model.adapter is not None:
            spec = _with_adapter_folder(self.job.model, self.model)
            with adapter_errors(loaded, key):
                check_engine_adapter(spec, self.model.resolved.folder)
        return self

    @property
    def context_owner(self) -> str:
        """What decides the context length, for messages."""
        is_served = self.served.get(SERVED_CONTEXT) == self.context_length
        return "the server's context" if is_served else "the model's context"

    def open(self, opener: EngineOpener, should_stop: Callable[[], bool]) -> Engine:
        return opener(
            self.spec,
            folder=self.model.resolved.folder if self.model else None,
            batching=self.job.batching,
            workers=self.job.run.workers,
            decode=self.tokenizer.decode,
            should_stop=should_stop,
        )

    def open_isolated(self, opener: EngineOpener, should_stop: Callable[[], bool]) -> Engine:
        """Open the engine in a process of its own, whose death raises DeathError in `generate`. `opener` must be picklable.

        Raises:
            ResourceError: the process died before the engine was open.
        """
        opening = partial(
            opener,
            self.spec,
            folder=self.model.resolved.folder if self.model else None,
            batching=self.job.batching,
            workers=self.job.run.workers,
            decode=self.tokenizer.decode,
        )
        try:
            return ReplicatedEngine(
                [("a child process", opening)],
                name=self.job.model.engine,
                window=WINDOW,
                reason="rows that were in flight at two deaths in a row",
                should_stop=should_stop,
            )
        except DeathError as error:
            raise ResourceError(error.message, hint=error.hint) from error


def _with_adapter_folder(spec: ModelSpec, model: LocalModel | None) -> ModelSpec:
    if model is None or model.adapter is None:
        return spec
    return spec.model_copy(update={"adapter": str(model.adapter.resolved.folder)})


def choose_model_dtype(
    spec: ModelSpec, model: LocalModel | None, recorded: str | None = None
) -> ChosenDtype | None:
    """The dtype of a model, `recorded` where a run is continued; None without a model, or if its engine chooses none."""
    return choose_engine_dtype(spec, model.info.dtype, recorded) if model else None


def load_scoring_model(
    job: Job,
    model: LocalModel | None,
    today: date,
    served: Mapping[str, Any] = MappingProxyType({}),
    *,
    dtype: ChosenDtype | None = None,
) -> ScoringModel:
    """Load the tokenizer of the job's model. Chat templates that show a date show `today`.

    The context of a server may be shorter than the model's.

    Raises:
        ModelError: the tokenizer cannot be loaded, or the engine cannot compute with the model's compressed weights.
    """
    if model is not None and (found := find_compression(model.resolved.folder)):
        check_compression(job.model, found.method, found.file)
    tokenizer = (
        ByteTokenizer()
        if model is None
        else ModelTokenizer(
            load_from(model.tokenizer.folder, model.resolved, job.model, model.info.vocab_size),
            job.prompt,
            today,
        )
    )
    stated = model.info.context_length if model else UNBOUNDED
    longest = min(stated, job.model.max_model_len or stated, served.get(SERVED_CONTEXT, stated))
    return ScoringModel(job, model, tokenizer, longest, dtype, dict(served))
