"""Everything that is decided before a weight is loaded: input, prompts, tokenizer, decoding, identity.

`plan` shows it, `run` works with it. Knows nothing of engines or of the output folder.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchgen.data.sources import Survey
from batchgen.decoding.resolve import Resolution, end_tokens, resolve_decoding
from batchgen.job.fingerprint import fingerprint
from batchgen.job.load import LoadedJob
from batchgen.job.spec import Job
from batchgen.models.card import ModelCard, read_card
from batchgen.models.resolve import ResolvedModel, resolve_model
from batchgen.models.tokenizer import load_tokenizer
from batchgen.prompts.bytes import ByteTokenizer
from batchgen.prompts.prepare import Preparer
from batchgen.prompts.tokenize import ModelTokenizer, Tokenizer
from batchgen.runner.asking import Asking
from batchgen.runner.identity import Identity, input_record, new_run_id
from batchgen.runner.reading import Reading, read_input

UNBOUNDED = sys.maxsize
"""Context length of `engine: echo` without a model."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine, its weights unread."""

    resolved: ResolvedModel
    card: ModelCard


@dataclass(frozen=True, slots=True)
class Setup:
    """What `run` and `plan` start from.

    Attributes:
        model: None only for `engine: echo` without a model.
        settings: everything that decides the answers, as plain values: the generation fingerprint's content.
    """

    loaded: LoadedJob
    reading: Reading
    survey: Survey
    model: LocalModel | None
    tokenizer: Tokenizer
    resolution: Resolution
    asking: Asking
    settings: Mapping[str, Any]

    @property
    def job(self) -> Job:
        """What was asked."""
        return self.loaded.job


def set_up(loaded: LoadedJob, say: Callable[[str], None]) -> Setup:
    """Read the input once, find the model, and resolve everything but what needs its weights.

    Raises:
        BatchgenError: input, job or model stand in the way.
    """
    job = loaded.job
    reading = read_input(loaded)
    model = _find_model(job, say)
    survey = reading.source.survey()
    resolution = resolve_decoding(
        job.decoding,
        generation_config=model.card.generation_config if model else {},
        end_token_ids=end_tokens(*model.card.end_token_sources.values()) if model else frozenset(),
    )
    tokenizer = _tokenizer(job, model, loaded)
    context = _context_length(job, model)
    room = max(1, context - resolution.decoding.max_new_tokens)
    longest = min(room, job.prompt.max_input_tokens or room)
    settings = _settings(job, model, tokenizer, resolution=resolution, longest=longest)
    asking = Asking(
        job=job,
        preparer=Preparer(job, tokenizer, longest),
        columns=reading.columns,
        decoding=resolution.decoding,
        context_length=context,
        max_input_tokens=longest,
        row_settings=fingerprint({k: v for k, v in settings.items() if k != "input"}),
        reasoning_opened=tokenizer.opens_reasoning,
    )
    return Setup(loaded, reading, survey, model, tokenizer, resolution, asking, settings)


def _find_model(job: Job, say: Callable[[str], None]) -> LocalModel | None:
    if job.model.path is None:
        return None
    resolved = resolve_model(job.model.path, revision=job.model.revision, say=say)
    return LocalModel(resolved, read_card(resolved))


def _tokenizer(job: Job, model: LocalModel | None, loaded: LoadedJob) -> Tokenizer:
    if model is None:
        return ByteTokenizer()
    return ModelTokenizer(load_tokenizer(model.resolved, job.model), job.prompt, loaded.date)


def _context_length(job: Job, model: LocalModel | None) -> int:
    stated = model.card.context_length if model else UNBOUNDED
    return min(stated, job.model.max_model_len or stated)


def _settings(
    job: Job,
    model: LocalModel | None,
    tokenizer: Tokenizer,
    *,
    resolution: Resolution,
    longest: int,
) -> dict[str, Any]:
    decoding = asdict(resolution.decoding)
    decoding["end_token_ids"] = sorted(resolution.decoding.end_token_ids)
    decoding["columns"] = dict(job.decoding.columns)
    decoding["num_return_sequences"] = job.decoding.num_return_sequences
    prompt = job.prompt.model_dump(mode="json", exclude={"file", "max_input_tokens"})
    if job.prompt.file is not None:
        prompt["file"] = Path(job.prompt.file).read_text("utf-8")
    return {
        "input": job.input.model_dump(mode="json", exclude={"path", "format"}),
        "prompt": {**prompt, "max_input_tokens": longest},
        "model": {
            **(model.card.identity if model else {}),
            **job.model.model_dump(mode="json", include=_MODEL_SETTINGS),
        },
        "tokenizer": dict(tokenizer.facts),
        "decoding": decoding,
        "output": job.output.model_dump(mode="json", include=_OUTPUT_SETTINGS),
        "run": {"seed": job.run.seed},
    }


_MODEL_SETTINGS = {"engine", "dtype", "attn_implementation", "gguf_file"}
_OUTPUT_SETTINGS = {"keep_columns", "store_prompt", "reasoning", "prefix"}


def identity_of(setup: Setup) -> Identity:
    """The identity that a run started now would have."""
    return Identity(
        run_id=new_run_id(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        date=setup.loaded.date.isoformat(),
        settings=setup.settings,
        input=input_record(setup.survey.files),
        rows=setup.survey.rows,
        part_rows=setup.job.batching.part_rows,
    )
