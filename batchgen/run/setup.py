"""Everything that is resolved before weights are loaded: input, prompts, tokenizer, decoding, identity."""

import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa

from batchgen.decoding.resolve_decoding import Resolution, end_tokens, resolve_decoding
from batchgen.engines.engine_registry import find_engine, requires_weights
from batchgen.errors import JobKeyError
from batchgen.evaluation.answers import ColumnMap
from batchgen.evaluation.judging.prepare_judges import prepare_judges
from batchgen.evaluation.model_queries.scoring_model import (
    UNBOUNDED,
    ScoringModel,
    load_scoring_model,
)
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.evaluation.scorer import Scorer
from batchgen.evaluation.staging import run_origin
from batchgen.input.sources import Survey
from batchgen.job.spec import Job
from batchgen.jobfile.load import LoadedJob
from batchgen.models.info import tokenizer_identity
from batchgen.models.local_model import LocalModel, find_model
from batchgen.progress import SILENT, Reporter
from batchgen.prompts.prepare import Preparer
from batchgen.prompts.tokenize import Tokenizer
from batchgen.run import redaction
from batchgen.run.preflight.input_check import CheckedInput, add_survey_columns, check_input
from batchgen.run.requests import PendingRow, RequestBuilder
from batchgen.run.responses import ResponseBuilder
from batchgen.state.identity import (
    Identity,
    generation_settings,
    input_record,
    new_run_id,
    row_settings_fingerprint,
)


@dataclass(frozen=True, slots=True)
class Setup:
    """What `run`, `plan` and `bench` start from.

    Attributes:
        model: None if the job names none, which only an engine without needs permits.
        settings: everything that decides the answers, as plain values: the content of the generation fingerprint.
        evaluation: how the answers are scored, with its judges prepared.
        scorer: a new one, which has not scored an answer yet.
        versions: of Python and of the libraries that influence the answers; None for a package without metadata.
    """

    loaded: LoadedJob
    checked_input: CheckedInput
    survey: Survey
    model: LocalModel | None
    tokenizer: Tokenizer
    resolution: Resolution
    request_builder: RequestBuilder
    response_builder: ResponseBuilder
    settings: Mapping[str, Any]
    evaluation: Evaluation
    scorer: Scorer
    versions: Mapping[str, str | None]

    @property
    def job(self) -> Job:
        return self.loaded.job

    @property
    def samples(self) -> int:
        return self.job.decoding.num_return_sequences

    @property
    def redacted_columns(self) -> list[str]:
        cells = redaction.cell_redaction(self.job.redact)
        return [] if cells is None else [f.name for f in self.survey.schema if cells.covers(f)]

    @property
    def schema(self) -> pa.Schema:
        """The columns of the answers, before they are scored."""
        return self.checked_input.layout.schema(self.survey.schema)

    @property
    def file_mode(self) -> int:
        return int(self.job.output.file_mode, 8)

    @property
    def scoring_model(self) -> ScoringModel:
        context_length = self.request_builder.context_length
        return ScoringModel(self.job, self.model, self.tokenizer, context_length)

    @property
    def origin(self) -> ColumnMap:
        return run_origin(self.evaluation, self.job.output.prefix, self.samples)

    def pending_rows(self) -> Iterator[PendingRow]:
        size = self.job.batching.part_rows
        for chunk in self.checked_input.source.chunks(self.survey, rows=size):
            rows = chunk.rows(self.request_builder.columns)
            yield from self.request_builder.prepare_rows(rows, chunk.failures)


def set_up(loaded: LoadedJob, reporter: Reporter = SILENT) -> Setup:
    """Check and survey the input, find the model, and resolve everything that does not need its weights."""
    job = loaded.job
    checked = check_input(loaded)
    model = find_model(loaded, reporter, weights=requires_weights(job.model))
    survey = checked.source.survey()
    checked = add_survey_columns(loaded, checked, survey.schema)
    resolution = resolve_decoding(
        job.decoding,
        generation_config=model.info.generation_config if model else {},
        end_token_ids=end_tokens(*model.info.end_token_sources.values()) if model else frozenset(),
    )
    scoring = load_scoring_model(job, model, loaded.date)
    tokenizer, context = scoring.tokenizer, scoring.context_length
    max_input = max(1, context - resolution.decoding.max_new_tokens)
    max_input = min(max_input, job.prompt.max_input_tokens or max_input)
    facts = dict(tokenizer.facts)
    if model is not None and job.model.tokenizer is not None:
        facts["files"] = tokenizer_identity(model.tokenizer.folder)
    settings = generation_settings(
        job,
        resolution=resolution,
        model=model.info.identity if model else {},
        tokenizer=facts,
        context_length=None if context == UNBOUNDED else context,
    )
    request_builder = RequestBuilder(
        job=job,
        preparer=Preparer(job, tokenizer, max_input),
        columns=checked.columns,
        decoding=resolution.decoding,
        context_length=context,
        max_input_tokens=max_input,
        row_settings_fingerprint=row_settings_fingerprint(settings),
    )
    response_builder = ResponseBuilder(
        reasoning=job.output.reasoning,
        reasoning_opened=tokenizer.opens_reasoning,
        redactor=redaction.answer_redactor(job.redact),
        seeds=find_engine(job.model.engine).info.seeds,
    )
    evaluation = checked.evaluation.with_judges(prepare_judges(loaded, model, reporter))
    schema, samples = checked.layout.schema(survey.schema), job.decoding.num_return_sequences
    try:
        origin = run_origin(evaluation, job.output.prefix, samples)
        scorer = Scorer(evaluation, origin, schema, job.output.prefix)
    except JobKeyError as error:
        raise loaded.error([error.problem]) from error
    return Setup(
        loaded=loaded,
        checked_input=checked,
        survey=survey,
        model=model,
        tokenizer=tokenizer,
        resolution=resolution,
        request_builder=request_builder,
        response_builder=response_builder,
        settings=settings,
        evaluation=evaluation,
        scorer=scorer,
        versions=_installed_versions(),
    )


def _installed_versions() -> dict[str, str | None]:
    names = ("batchgen-llm", "torch", "transformers", "tokenizers", "pyarrow", "polars")
    versions: dict[str, str | None] = {"python": platform.python_version(), **dict.fromkeys(names)}
    for name in names:
        with suppress(PackageNotFoundError):  # such as a checkout on PYTHONPATH
            versions[name] = version(name)
    return versions


def new_identity(setup: Setup) -> Identity:
    """The identity of a run that starts now."""
    return Identity(
        run_id=new_run_id(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        date=setup.loaded.date.isoformat(),
        settings=setup.settings,
        input=input_record(setup.survey.files),
        rows=setup.survey.rows,
        part_rows=setup.job.batching.part_rows,
    )
