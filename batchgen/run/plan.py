"""What a run would do, without loading a weight: rows, tokens, batches, padding, memory, prompts.

Knows nothing of how it is printed: that is `cli/plan.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO

from batchgen.engines.contract import Estimate
from batchgen.engines.registry import estimate_engine
from batchgen.errors import StateError
from batchgen.jobfile.load import LoadedJob
from batchgen.planning.batches import BatchLimits, cut_batches, padding_share, sort_by_length
from batchgen.records import Failure, Request
from batchgen.run.requests import PendingRow
from batchgen.run.setup import Setup, new_identity, set_up
from batchgen.state.identity import check_same_run, read_identity
from batchgen.state.run_folder import RunFolder

ROWS_COUNTED = 20_000
"""Most rows that are rendered and tokenized for a plan."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Prompt lengths, over the rows that were counted; `most_new` is the most that answers can have."""

    least: int
    median: int
    most: int
    total: int
    most_new: int


@dataclass(frozen=True, slots=True)
class Batches:
    """How the rows would be put together; `most_tokens` is rows x (longest prompt + max_new_tokens)."""

    count: int
    most_rows: int
    most_tokens: int
    padding: float
    padding_unsorted: float


@dataclass(frozen=True, slots=True)
class OutputState:
    """What the output folder holds; `refusal` is why a run there would be refused, empty if it would not."""

    state: Literal["new", "incomplete", "complete"]
    sealed_parts: int
    refusal: str


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as the model gets it, control tokens and all."""

    id: str
    tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What `run` would do.

    Attributes:
        rows_counted: rows that tokens, batches and failures speak of: the first 20,000.
        failures: rows that will have no answer, by code.
    """

    setup: Setup
    rows_counted: int
    tokens: TokenCounts
    batches: Batches
    engine: Estimate
    failures: Mapping[str, int]
    prompts: Sequence[RenderedPrompt]
    output: OutputState


def plan(
    loaded: LoadedJob,
    *,
    prompts: int = 2,
    say: Callable[[str], None] = lambda _: None,
    terminal: TextIO | None = None,
) -> Plan:
    """Find out what a run would do.

    Args:
        loaded: the job.
        prompts: how many rendered prompts to show.
        say: told, in a sentence, what is being waited for.
        terminal: where bars may be drawn while a model is fetched.

    Raises:
        BatchgenError: the run could not start.
    """
    setup = set_up(loaded, say, terminal)
    asked = list(islice(_pending_rows(setup), ROWS_COUNTED))
    requests = [r for a in asked for r in _requests(setup, a)]
    estimate = estimate_engine(
        loaded.job.model,
        folder=setup.model.resolved.folder if setup.model else None,
        batching=loaded.job.batching,
        workers=loaded.job.run.workers,
    )
    return Plan(
        setup=setup,
        rows_counted=len(asked),
        tokens=_tokens(requests),
        batches=_batches(setup, requests, estimate.limits),
        engine=estimate,
        failures=Counter(a.settings.code for a in asked if isinstance(a.settings, Failure)),
        prompts=[
            RenderedPrompt(a.id, len(a.token_ids), setup.tokenizer.show(a.token_ids))
            for a in asked[:prompts]
            if a.token_ids
        ],
        output=_output(setup),
    )


def _pending_rows(setup: Setup) -> Iterator[PendingRow]:
    chunks = setup.reading.source.chunks(setup.survey, rows=setup.job.batching.part_rows)
    for chunk in chunks:
        yield from setup.asking.ask(chunk.rows(setup.asking.columns), chunk.failures)


def _requests(setup: Setup, asked: PendingRow) -> list[Request]:
    if isinstance(asked.settings, Failure):
        return []
    return setup.asking.requests(asked, asked.settings)


def _tokens(requests: Sequence[Request]) -> TokenCounts:
    lengths = sorted(len(r.token_ids) for r in requests) or [0]
    return TokenCounts(
        least=lengths[0],
        median=lengths[len(lengths) // 2],
        most=lengths[-1],
        total=sum(lengths),
        most_new=sum(r.decoding.max_new_tokens for r in requests),
    )


def _batches(setup: Setup, requests: Sequence[Request], limits: BatchLimits) -> Batches:
    size = setup.job.batching.part_rows * setup.asking.samples
    parts = [requests[at : at + size] for at in range(0, len(requests), size)]
    arranged = [sort_by_length(part) if limits.sort == "length" else part for part in parts]
    batches = [batch for part in arranged for batch in cut_batches(part, limits)]
    unsorted = cut_batches(requests, replace(limits, sort="none"))
    return Batches(
        count=len(batches),
        most_rows=max(map(len, batches), default=0),
        most_tokens=max((_cells(batch) for batch in batches), default=0),
        padding=padding_share(map(_lengths, batches)),
        padding_unsorted=padding_share(map(_lengths, unsorted)),
    )


def _cells(batch: Sequence[Request]) -> int:
    new = max(r.decoding.max_new_tokens for r in batch)
    return len(batch) * (max(_lengths(batch)) + new)


def _lengths(batch: Sequence[Request]) -> list[int]:
    return [len(r.token_ids) for r in batch]


def _output(setup: Setup) -> OutputState:
    folder = RunFolder(Path(setup.job.output.path))
    if not folder.path.exists():
        return OutputState("new", 0, "")
    known = read_identity(folder)
    if known is None:
        return OutputState("new", 0, "")
    sealed = len(list(folder.parts.glob("*.bgpart")))
    state: Literal["complete", "incomplete"] = "complete" if folder.complete else "incomplete"
    try:
        check_same_run(folder, known, new_identity(setup))
    except StateError as error:
        return OutputState(state, sealed, str(error))
    return OutputState(state, sealed, "")
