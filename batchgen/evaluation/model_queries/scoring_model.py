"""A model that can be asked about answers: where it is, how text becomes its tokens, and how much fits.

    model and prompt sections ──> AskedModel ──open──> Engine

`setup.py` takes the same for the rows of a run. Knows nothing of questions, rows or files of answers.
"""

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
"""Context length of `engine: echo` without a model."""

EngineOpener = Callable[..., Engine]
"""`engines.open.open_engine`, or something that takes the same arguments."""


@dataclass(frozen=True, slots=True)
class ScoringModel:
    """A model that can be asked.

    Attributes:
        job: whose sections say how.
        model: None only for `engine: echo` without a model.
        context_length: most tokens of a prompt and what follows it.
    """

    job: Job
    model: LocalModel | None
    tokenizer: Tokenizer
    context_length: int

    @property
    def identity(self) -> str:
        """What decides what it tells, beside the tokens."""
        spec = self.job.model
        own = self.model.card.identity if self.model else {}
        return fingerprint(
            {"weights": own, "engine": spec.engine, "dtype": spec.dtype, "device": spec.device}
        )

    def open(self, opener: EngineOpener, should_stop: Callable[[], bool]) -> Engine:
        """Load it.

        Raises:
            ModelError: it cannot be loaded.
            ResourceError: no such device, or not enough memory.
        """
        return opener(
            self.job.model,
            folder=self.model.resolved.folder if self.model else None,
            batching=self.job.batching,
            workers=self.job.run.workers,
            decode=self.tokenizer.decode,
            should_stop=should_stop,
        )


def load_scoring_model(job: Job, model: LocalModel | None, today: date) -> ScoringModel:
    """The job's model, its tokenizer loaded; `today` is the date that chat templates are told.

    Raises:
        ModelError: the tokenizer cannot be loaded, or has no chat template.
    """
    tokenizer = (
        ByteTokenizer()
        if model is None
        else ModelTokenizer(
            load_from(model.tokenizer.folder, model.resolved, job.model), job.prompt, today
        )
    )
    stated = model.card.context_length if model else UNBOUNDED
    return ScoringModel(job, model, tokenizer, min(stated, job.model.max_model_len or stated))
