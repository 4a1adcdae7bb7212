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
from batchgen.planning.batches import BatchLimits, cut_batches, padding_share, sort_by_length
from batchgen.progress import SILENT, Reporter
from batchgen.records import Failure, Request
from batchgen.run.setup import Setup, new_identity, set_up
from batchgen.state.identity import check_same_run, read_identity
from batchgen.state.run_folder import RunFolder

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
    """What the output folder contains; `refusal` is why `run` would reject it, empty if it would not."""

    state: Literal["new", "incomplete", "complete"]
    sealed_parts: int
    refusal: str


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as the model receives it, including control tokens."""

    id: str
    tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What `run` would do.

    Attributes:
        rows_counted: the rows that tokens, batches and failures cover: the first 20,000.
        failures: number of rows that will have no answer, by failure code.
    """

    setup: Setup
    rows_counted: int
    tokens: TokenCounts
    batches: Batches
    engine: Estimate
    failures: Mapping[str, int]
    prompts: Sequence[RenderedPrompt]
    output: OutputState


def plan(loaded: LoadedJob, *, prompts: int = 2, reporter: Reporter = SILENT) -> Plan:
    """Predict what a run would do. The plan includes the first `prompts` rendered prompts.

    Raises:
        BatchgenError: the run could not start.
    """
    setup = set_up(loaded, reporter)
    rows = list(islice(setup.pending_rows(), ROWS_COUNTED))
    requests = setup.request_builder.build_requests(rows)
    estimate = estimate_engine(
        loaded.job.model,
        folder=setup.model.resolved.folder if setup.model else None,
        batching=loaded.job.batching,
        workers=loaded.job.run.workers,
    )
    shown = [row for row in rows[:prompts] if row.token_ids]
    show = setup.tokenizer.show
    return Plan(
        setup=setup,
        rows_counted=len(rows),
        tokens=_tokens(requests),
        batches=_batches(setup, requests, estimate.limits),
        engine=estimate,
        failures=Counter(r.decoding.code for r in rows if isinstance(r.decoding, Failure)),
        prompts=[RenderedPrompt(r.id, len(r.token_ids), show(r.token_ids)) for r in shown],
        output=_output(setup),
    )


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


def _output(setup: Setup) -> OutputState:
    folder = RunFolder(Path(setup.job.output.path))
    recorded = read_identity(folder) if folder.path.exists() else None
    if recorded is None:
        return OutputState("new", 0, "")
    refusal = ""
    try:
        check_same_run(folder, recorded, new_identity(setup))
    except StateError as error:
        refusal = str(error)
    state: Literal["complete", "incomplete"] = "complete" if folder.complete else "incomplete"
    return OutputState(state, len(list(folder.parts.glob("*.bgpart"))), refusal)
