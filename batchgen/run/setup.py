"""Everything that is resolved before weights are loaded: input, prompts, tokenizer, decoding, identity."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from batchgen.decoding.resolve_decoding import Resolution, end_tokens, resolve_decoding
from batchgen.engines.engine_registry import find_engine, required_weights
from batchgen.engines.this_start import recorded_part
from batchgen.errors import JobKeyError, StateError
from batchgen.evaluation.answers import ColumnMap
from batchgen.evaluation.judging.prepare_judges import prepare_judges
from batchgen.evaluation.model_queries.scoring_model import (
    UNBOUNDED,
    ScoringModel,
    choose_model_dtype,
    load_scoring_model,
)
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.evaluation.scorer import Scorer
from batchgen.evaluation.staging import run_origin
from batchgen.fingerprint import new_run_id
from batchgen.input.chunk_reader import ChunkReader
from batchgen.input.sources import Chunk, Survey
from batchgen.job.spec import Job
from batchgen.jobfile.load import LoadedJob
from batchgen.models.info import tokenizer_identity
from batchgen.models.local_model import LocalModel, find_model
from batchgen.output.column_change import AnsweredPrompt, ColumnChange
from batchgen.output.published_run import JOB_HASH, read_manifest
from batchgen.planning.dtype_choice import ChosenDtype, continuation_note
from batchgen.progress import SILENT, Reporter
from batchgen.prompts.answer_text import TokenTexts
from batchgen.prompts.prepare import Preparer
from batchgen.prompts.tokenize import Tokenizer
from batchgen.run import redaction
from batchgen.run.preflight import metric_trial
from batchgen.run.preflight.context_check import check_answer_length
from batchgen.run.preflight.form_check import check_form
from batchgen.run.preflight.input_check import CheckedInput, add_survey_columns, check_input
from batchgen.run.preflight.served_models import served_model_settings
from batchgen.run.preflight.served_tokenizer_check import check_served_tokenizer
from batchgen.run.preflight.versions import installed_versions
from batchgen.run.requests import PendingRow, RequestBuilder
from batchgen.run.responses import ResponseBuilder
from batchgen.state.bucket_state import Join
from batchgen.state.column_settings import settings_as_computed
from batchgen.state.identity import (
    Identity,
    check_same_run,
    generation_settings,
    input_record,
    read_identity,
    recorded_dtype,
    row_settings_fingerprint,
)
from batchgen.state.run_folder import PUBLISHED_BEFORE, RunFolder
from batchgen.state.shards.survey_file import survey_input
from batchgen.storage.durable import sha256
from batchgen.storage.entries import exists
from batchgen.structured.answer_grammars import AnswerGrammars


@dataclass(frozen=True, slots=True)
class Setup:
    """What `run`, `plan` and `bench` start from.

    Attributes:
        model: None if the job names none, which only an engine without needs permits.
        dtype: in which the model is computed; None without a model, or if its engine chooses none.
        settings: everything that decides the answers, as plain values: the content of the generation fingerprint.
        evaluation: how the answers are scored, with its judges prepared.
        scorer: a new one, which has not scored an answer yet.
        served: what is known about a model that is on a server; empty for one on this machine.
        versions: of Python and of the libraries that influence the answers; None for a package without metadata.
    """

    loaded: LoadedJob
    checked_input: CheckedInput
    survey: Survey
    model: LocalModel | None
    dtype: ChosenDtype | None
    tokenizer: Tokenizer
    resolution: Resolution
    request_builder: RequestBuilder
    response_builder: ResponseBuilder
    settings: Mapping[str, Any]
    evaluation: Evaluation
    scorer: Scorer
    versions: Mapping[str, str | None]
    served: Mapping[str, Any]

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
        longest = self.request_builder.context_length
        return ScoringModel(self.job, self.model, self.tokenizer, longest, self.dtype, self.served)

    @property
    def origin(self) -> ColumnMap:
        return run_origin(self.evaluation, self.job.output.prefix, self.samples)

    @property
    def engine_facts(self) -> Mapping[str, object]:
        """The part of the manifest's `engine` that is known without opening it."""
        facts = {"dtype": d.dtype, "dtype_reason": d.reason} if (d := self.dtype) else {}
        return {**find_engine(self.job.model.engine).info.facts(), **facts}

    @property
    def settings_as_computed(self) -> Mapping[str, Any]:
        """The settings, with the dtype also in a run that an earlier version began."""
        return settings_as_computed(self.settings, self.engine_facts)

    @property
    def continuation_note(self) -> str:
        """What to report if a run that begins here would be computed in another dtype; empty if not."""
        here = choose_model_dtype(self.job.model, self.model)
        return continuation_note(self.dtype, here) if self.dtype and here else ""

    @property
    def column_change(self) -> ColumnChange:
        """What gives answers that are saved already the columns of the job."""
        layout, stores = self.checked_input.layout, self.job.output.store_prompt
        return ColumnChange(layout, self.samples, stores, self._render)

    def _render(self, chunk: Chunk, texts: Sequence[str | None]) -> list[AnsweredPrompt]:
        made = self.request_builder.prepare_samples(chunk.rows(), chunk.failures, texts)
        return [AnsweredPrompt(row.prompt_hash, row.messages) for row in made]

    def pending_rows(self) -> Iterator[PendingRow]:
        for chunk in self.chunks(rows=self.job.batching.part_rows):
            yield from self.request_builder.prepare_rows(chunk.rows(), chunk.failures)

    def try_first_rows(self, reporter: Reporter) -> None:
        """Warn of forms in cells without an end. Raise JobFileError, all at once, for user's metrics that score no answer."""
        builder, prefix = self.request_builder, self.job.output.prefix
        if not metric_trial.user_functions(self.evaluation) and not builder.grammars.column:
            return
        chunk = next(iter(self.chunks(rows=self.job.batching.part_rows)), None)
        for warning in self.loaded.describe(metric_trial.form_warnings(chunk, builder.grammars)):
            reporter.info(warning)
        rows = metric_trial.trial_rows(chunk, self.schema, prefix, builder)
        if problems := metric_trial.trial_problems(self.evaluation, self.origin, rows, reporter):
            raise self.loaded.error(problems)

    def chunk_reader(self, *, rows: int) -> ChunkReader:
        """What reads the input in chunks of `rows` rows, in any order."""
        columns = self.request_builder.columns
        return self.checked_input.source.reader(self.survey, rows=rows, columns=columns)

    def chunks(self, *, rows: int, skip: Container[int] = ()) -> Iterator[Chunk]:
        """The input in chunks of `rows` rows, except those with a number in `skip`."""
        columns = self.request_builder.columns
        return self.checked_input.source.chunks(self.survey, rows=rows, columns=columns, skip=skip)


def set_up(
    loaded: LoadedJob,
    reporter: Reporter = SILENT,
    continued: RunFolder | None = None,
    *,
    share_survey: bool = False,
) -> Setup:
    """Check and survey the input, find the model, and resolve everything that does not need its weights.

    A run that is in the folder `continued` is continued in its dtype. With `share_survey`, its other processes get the survey.
    """
    job = loaded.job
    checked = check_input(loaded)
    for warning in checked.warnings:
        reporter.info(warning)
    model = find_model(loaded, reporter, weights=required_weights(job.model))
    survey = survey_input(checked.source, checked.columns, job, continued, share=share_survey)
    checked = add_survey_columns(loaded, checked, survey.schema)
    grammars = AnswerGrammars.of(job.decoding.response_format)
    resolution = resolve_decoding(
        job.decoding,
        generation_config=model.info.generation_config if model else {},
        end_token_ids=end_tokens(*model.info.end_token_sources.values()) if model else frozenset(),
    ).with_grammar(grammars.default)
    served = served_model_settings(loaded, resolution.decoding, reporter, continued)
    scoring = load_scoring_model(job, model, loaded.date, served).with_checked_adapter(loaded)
    tokenizer, context = scoring.tokenizer, scoring.context_length
    check_form(loaded, resolution.decoding, tokenizer)
    check_served_tokenizer(loaded, scoring, reporter)
    check_answer_length(loaded, resolution.decoding.max_new_tokens, context, scoring.context_owner)
    most = context - resolution.decoding.max_new_tokens
    max_input = min(most, job.prompt.max_input_tokens or most)
    recorded = recorded_dtype(continued) if continued else None
    dtype = choose_model_dtype(job.model, model, recorded)
    settings = generation_settings(
        job,
        resolution=resolution,
        model={**(model.identity if model else {}), **recorded_part(served)},
        tokenizer=_tokenizer_facts(job, tokenizer, model),
        context_length=None if context == UNBOUNDED else context,
        # An earlier version recorded auto, for float32: that run keeps its settings.
        dtype=job.model.dtype if dtype is None or recorded == "auto" else dtype.dtype,
    )
    request_builder = RequestBuilder(
        job=job,
        preparer=Preparer(job, tokenizer, max_input),
        columns=checked.columns,
        decoding=resolution.decoding,
        context_length=context,
        context_owner=scoring.context_owner,
        max_input_tokens=max_input,
        row_settings_fingerprint=row_settings_fingerprint(settings),
        grammars=grammars,
        scores_labels=find_engine(job.model.engine).info.likelihoods,
    )
    response_builder = ResponseBuilder(
        reasoning=job.output.reasoning,
        reasoning_opened=tokenizer.opens_reasoning,
        redactor=redaction.answer_redactor(job.redact),
        seeds=find_engine(job.model.engine).info.seeds,
        token_text=TokenTexts(tokenizer.decode),
        counts_tokens=model is not None or not served,
    )
    judges = prepare_judges(loaded, model, reporter, recorded_dtype=recorded, served=served)
    evaluation = checked.evaluation.with_judges(judges)
    try:
        origin = run_origin(evaluation, job.output.prefix, job.decoding.num_return_sequences)
        answered = checked.layout.schema(survey.schema)
        scorer = Scorer(evaluation, origin, answered, job.output.prefix)
    except JobKeyError as error:
        raise loaded.error([error.problem]) from error
    return Setup(
        loaded=loaded,
        checked_input=checked,
        survey=survey,
        model=model,
        dtype=dtype,
        tokenizer=tokenizer,
        resolution=resolution,
        request_builder=request_builder,
        response_builder=response_builder,
        settings=settings,
        evaluation=evaluation,
        scorer=scorer,
        versions=installed_versions(),
        served=served,
    )


def _tokenizer_facts(job: Job, tokenizer: Tokenizer, model: LocalModel | None) -> dict[str, object]:
    if model is None or job.model.tokenizer is None:
        return dict(tokenizer.facts)
    return {**tokenizer.facts, "files": tokenizer_identity(model.tokenizer.folder)}


def new_identity(setup: Setup) -> Identity:
    """The identity of a run that starts now."""
    return Identity(
        run_id=new_run_id(),
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        date=setup.loaded.date.isoformat(),
        settings=setup.settings,
        input=input_record(setup.survey.files),
        rows=setup.survey.rows,
        part_rows=(part_rows := setup.survey.part_rows(setup.job.batching.part_rows)),
        part_sizes=setup.checked_input.source.part_sizes(setup.survey, part_rows),
    )


def run_identity(
    folder: RunFolder, setup: Setup, *, fresh: bool, join: Join = lambda local, now: local or now
) -> Identity:
    """The identity of the run in the folder, or of the one to `join`, or a new one.

    That of a run in the folder has the columns that the job has now: run.json may still record others.
    """
    now = new_identity(setup)
    if (recorded := read_identity(folder)) is not None:
        check_same_run(folder, recorded, now)
        join(recorded, now)
        return replace(recorded, settings=now.settings)
    gated = setup.job.output.publish == "gated"
    kept = exists(folder.manifest) and (
        fresh or gated or folder.find_aside(read_manifest(folder).run_id) is not None
    )
    if folder.holds_answers() and not kept:
        raise StateError(
            f"{folder.path} contains answers, but not the state of the run that generated them: {folder.run} is missing",
            hint="Choose another folder with --output FOLDER, or move the answers aside with --fresh.",
        )
    if kept:
        beside = {PUBLISHED_BEFORE: read_manifest(folder).run_id}
    else:  # otherwise it is published with the answers
        folder.write_text(folder.job, setup.loaded.dump(), stage="job", mode=setup.file_mode)
        beside = {JOB_HASH: sha256(folder.job)}
    joined = join(None, now)
    # From here on it is a run. Another shard may have been faster, if the file system has no locks between machines.
    if not folder.create_json(folder.run, joined.content() | beside, stage="run"):
        return run_identity(folder, setup, fresh=False, join=join)
    return replace(joined, settings=now.settings)
