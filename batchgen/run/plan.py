"""What a run would do, without loading weights: rows, tokens, batches, padding, memory, prompts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from batchgen.engines.contract import Estimate
from batchgen.engines.engine_registry import estimate_engine
from batchgen.errors import StateError
from batchgen.jobfile.load import LoadedJob
from batchgen.output.published_run import PublishedRun, publication_changes
from batchgen.output.unfinished_run import find_state
from batchgen.planning.batches import BatchLimits, cut_batches, padding_share, sort_by_length
from batchgen.progress import SILENT, Reporter
from batchgen.prompts.render import turn_of
from batchgen.records import Failure, Request, Row
from batchgen.run.job_for_run import loaded_job
from batchgen.run.publication import is_complete
from batchgen.run.requests import PendingRow, RequestBuilder
from batchgen.run.reuse import LATEST, EarlierRun, find_latest
from batchgen.run.setup import Setup, new_identity, set_up
from batchgen.run.timing.estimate_time import TimeEstimate, estimate_time
from batchgen.run.timing.later_turns import UnaskedTurns
from batchgen.run.timing.measured_time import measured_time
from batchgen.shown_result import ShownResult
from batchgen.state.identity import check_same_run, read_identity
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists, list_folder
from batchgen.storage.obstacles import find_obstacle

ROWS_COUNTED = 20_000
"""A plan renders and tokenizes no more rows."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Prompt tokens of a row, over the rows counted, and the largest number of new tokens of all answers together."""

    least: int
    median: int
    most: int
    total: int
    most_new: int


@dataclass(frozen=True, slots=True)
class Batches:
    """How the rows would be batched; `most_tokens` is rows x (longest prompt + max_new_tokens) of the largest batch."""

    count: int
    most_rows: int
    most_tokens: int
    padding: float
    padding_unsorted: float


@dataclass(frozen=True, slots=True)
class OutputState:
    """What the output folder contains.

    Attributes:
        refusal: why `run` would reject it, empty if it would not.
        changes: settings of a complete run with which `run` would publish it again, such as `output.prefix was "", is "x"`.
    """

    state: Literal["new", "running", "incomplete", "complete"]
    sealed_parts: int
    refusal: str
    changes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as the model receives it, including control tokens; or its messages, if a server renders them (tokens: None)."""

    id: str
    tokens: int | None
    text: str


@dataclass(frozen=True, slots=True)
class PlannedReuse:
    """What `--incremental-from` would reuse: the answers, among those of the rows counted, that an earlier run has.

    Attributes:
        counted: without turns that are asked after answers, which decide whether they are reused.
    """

    folder: Path
    run_id: str
    reused: int
    counted: int


@dataclass(frozen=True, slots=True)
class PlannedTurns:
    """Turns that are asked after answers of the model, which are not known yet.

    Attributes:
        answer_tokens: with which each of these answers counts: the mean of those measured; None: with `max_new_tokens`.
        too_long: how many would not fit into the context with them, and would fail.
    """

    count: int
    answer_tokens: float | None
    too_long: int


@dataclass(frozen=True, slots=True, repr=False)
class Plan(ShownResult):
    """What `run` would do.

    Attributes:
        rows_counted: the rows that tokens, batches and failures cover: the first 20,000.
        failures: number of rows that will have no answer, by failure code.
        reuse: None without an earlier run.
        time: of the whole run, whatever is saved or reused.
        later_turns: those of the rows counted that are asked after answers. Tokens, batches and time include these answers.
    """

    setup: Setup
    rows_counted: int
    tokens: TokenCounts
    batches: Batches
    engine: Estimate
    failures: Mapping[str, int]
    prompts: Sequence[RenderedPrompt]
    output: OutputState
    reuse: PlannedReuse | None
    time: TimeEstimate
    later_turns: PlannedTurns


def plan(
    job: LoadedJob | Path | str,
    *,
    prompts: int = 2,
    incremental_from: Path | None = None,
    measure: bool = False,
    reporter: Reporter = SILENT,
) -> Plan:
    """Predict what a run would do. The plan includes the first `prompts` rendered prompts.

    Its time is estimated from earlier runs on this machine; with `measure`, the model is loaded and answers 16 rows.

    Raises:
        BatchgenError: the run could not start.
    """
    loaded = loaded_job(job)
    setup = set_up(loaded, reporter, RunFolder(Path(loaded.job.output.path)))
    setup.try_first_rows(reporter)
    builder = setup.request_builder
    chunks = setup.chunks(rows=loaded.job.batching.part_rows)
    pairs = (pair for chunk in chunks for pair in builder.prepare_chunk(chunk))
    prepared = list(islice(pairs, ROWS_COUNTED))
    rows = [pending for _, pending in prepared]
    before = {row.index: turn_of(row) - 1 for row, _ in prepared if builder.waits(row)}
    first = [row for row in rows if row.index not in before]
    later = UnaskedTurns(before, setup.response_builder.counts_tokens)
    known = builder.build_requests(rows)
    estimate = estimate_engine(
        setup.scoring_model.spec,
        folder=setup.model.resolved.folder if setup.model else None,
        batching=loaded.job.batching,
        workers=loaded.job.run.workers,
    )
    time = (measured_time if measure else estimate_time)(
        setup, known, len(rows), estimate, later=later
    )
    requests = later.lengthened(known, time.answer_tokens)
    shown = [_shown(builder, *pair) for pair in prepared[:prompts] if pair[1].token_ids]
    return Plan(
        setup=setup,
        rows_counted=len(rows),
        tokens=_tokens(requests),
        batches=_batches(setup, requests, estimate.limits),
        engine=estimate,
        failures=Counter(r.decoding.code for r in rows if isinstance(r.decoding, Failure)),
        prompts=[_rendered(setup, row) for row in shown],
        output=_output(setup),
        reuse=None
        if incremental_from is None
        else _reuse(setup, first, incremental_from, reporter),
        time=time,
        later_turns=PlannedTurns(
            len(before), time.answer_tokens, later.too_long(requests, builder.context_length)
        ),
    )


def _shown(builder: RequestBuilder, row: Row, pending: PendingRow) -> PendingRow:
    """The row; of a turn that is asked after answers, with a word for each of them."""
    if not builder.waits(row):
        return pending
    return builder.prepare_after(row, [f"[answer {n}]" for n in range(1, turn_of(row))])


def _rendered(setup: Setup, row: PendingRow) -> RenderedPrompt:
    if setup.response_builder.counts_tokens or row.prompt is None:
        return RenderedPrompt(row.id, len(row.token_ids), setup.tokenizer.show(row.token_ids))
    texts = (f"[{message.role}]\n{message.content}" for message in row.prompt.messages)
    return RenderedPrompt(row.id, None, "\n".join(texts))


def _reuse(
    setup: Setup, rows: Sequence[PendingRow], named: Path, reporter: Reporter
) -> PlannedReuse | None:
    """The earlier run that `named` or `latest` means; None if there is no latest."""
    path = find_latest(setup, "", reporter) if named == LATEST else named
    if path is None:
        return None
    earlier = EarlierRun(RunFolder(path.absolute()), setup)
    reused = earlier.count_matching(rows)
    return PlannedReuse(path, earlier.run_id, reused, len(rows) * setup.samples)


def _tokens(requests: Sequence[Request]) -> TokenCounts:
    lengths = sorted(_lengths(requests)) or [0]
    median, total = lengths[len(lengths) // 2], sum(lengths)
    most_new = sum(r.decoding.max_new_tokens for r in requests)
    return TokenCounts(lengths[0], median, lengths[-1], total, most_new)


def _batches(setup: Setup, requests: Sequence[Request], limits: BatchLimits) -> Batches:
    size = setup.job.batching.part_rows * setup.samples
    parts = [requests[at : at + size] for at in range(0, len(requests), size)]
    arranged = [sort_by_length(part) if limits.sort == "length" else part for part in parts]
    batches = [batch for part in arranged for batch in cut_batches(part, limits)]
    unsorted = cut_batches(requests, replace(limits, sort="none"))
    return Batches(
        count=len(batches),
        most_rows=max(map(len, batches), default=0),
        most_tokens=max(map(_padded_tokens, batches), default=0),
        padding=padding_share(map(_lengths, batches)),
        padding_unsorted=padding_share(map(_lengths, unsorted)),
    )


def _padded_tokens(batch: Sequence[Request]) -> int:
    return len(batch) * (max(_lengths(batch)) + max(r.decoding.max_new_tokens for r in batch))


def _lengths(batch: Sequence[Request]) -> list[int]:
    return [len(r.token_ids) for r in batch]


_NOT_THE_OWNER = "it belongs to another user: choose another folder with --output FOLDER"


def _output(setup: Setup) -> OutputState:
    folder = RunFolder(Path(setup.job.output.path))
    if folder.is_private_readable and exists(folder.matrix):
        why = "it contains the runs of a matrix: choose another folder with --output FOLDER"
        return OutputState("new", 0, why)
    if not folder.is_private_readable:
        return OutputState("complete" if folder.complete else "incomplete", 0, _NOT_THE_OWNER)
    if found := find_obstacle(folder.path):
        return OutputState("new", 0, f"{found}: choose another folder with --output FOLDER")
    recorded = read_identity(folder) if exists(folder.path) else None
    if recorded is None:
        return OutputState("new", 0, "")
    refusal, changes = "", []
    try:
        check_same_run(folder, recorded, new_identity(setup))
        if is_complete(folder, recorded):
            changes = publication_changes(PublishedRun(folder), setup.job)
    except StateError as error:
        refusal = str(error)
    parts = list_folder(folder.parts, ".bgpart")
    return OutputState(find_state(folder), len(parts), refusal, changes)
