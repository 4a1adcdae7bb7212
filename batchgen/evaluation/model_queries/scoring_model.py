"""A model that scores given texts: its files, its tokenizer, its context length; and an engine opened on first use."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from batchgen.engines.contract import Engine
from batchgen.fingerprint import fingerprint
from batchgen.job.spec import Job
from batchgen.models.local_model import LocalModel
from batchgen.models.tokenizer import load_from
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
    """

    job: Job
    model: LocalModel | None
    tokenizer: Tokenizer
    context_length: int

    @property
    def identity(self) -> str:
        """A hash of everything but the tokens that decides a likelihood."""
        spec = self.job.model
        own = self.model.info.identity if self.model else {}
        return fingerprint(
            {"weights": own, "engine": spec.engine, "dtype": spec.dtype, "device": spec.device}
        )

    def open(self, opener: EngineOpener, should_stop: Callable[[], bool]) -> Engine:
        return opener(
            self.job.model,
            folder=self.model.resolved.folder if self.model else None,
            batching=self.job.batching,
            workers=self.job.run.workers,
            decode=self.tokenizer.decode,
            should_stop=should_stop,
        )


def load_scoring_model(job: Job, model: LocalModel | None, today: date) -> ScoringModel:
    """Load the tokenizer of the job's model. Chat templates that show a date show `today`."""
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
    return ScoringModel(job, model, tokenizer, min(stated, job.model.max_model_len or stated))
