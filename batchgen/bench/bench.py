"""What engines make of one workload on this machine: each measured in a process of its own, one after the other.

    rows of a job ──> requests ──> continuous, static, generate, vllm ──> figures

The contenders are in `contenders.py`. Writes nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from batchgen.bench.contenders import (
    CONTENDERS,
    BenchWork,
    Contender,
    MachinePeak,
    Measured,
    NotMeasured,
    measure_contender,
    measure_machine_peak,
)
from batchgen.bench.isolated_process import ProcessDied, run_in_process
from batchgen.errors import DataError, ModelError, UsageError
from batchgen.jobfile.load import LoadedJob
from batchgen.planning.required_flops import AnsweredRequest, ModelFlops, measure_useful_work
from batchgen.records import Failure, Request
from batchgen.run.requests import PendingRow
from batchgen.run.setup import Setup, set_up


@dataclass(frozen=True, slots=True)
class EngineResult:
    """How one engine did. Shares are None where the engine does not say what they need.

    Attributes:
        seconds: from the loaded model to the last token.
        useful_token_share: of the tokens that went through the layers, those that were no padding and no repeats.
        mfu: share of the measured peak that useful arithmetic reached.
    """

    load_seconds: float
    seconds: float
    new_tokens: int
    useful_token_share: float | None
    mfu: float | None

    @property
    def new_tokens_per_second(self) -> float:
        """Over all rows."""
        return self.new_tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Workload:
    """What was answered.

    Attributes:
        refused: of the rows, those that no engine was asked about, since their prompt failed.
        most_new_tokens: that all answers together could have.
    """

    name: str
    model: str
    parameters: int
    dtype: str
    rows: int
    refused: int
    prompt_tokens: int
    most_new_tokens: int


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was found out; `engines` in the order in which they ran."""

    machine: MachinePeak
    workload: Workload
    engines: Mapping[Contender, EngineResult | NotMeasured]


def bench(
    loaded: LoadedJob,
    *,
    say: Callable[[str], None] = lambda _: None,
    terminal: TextIO | None = None,
) -> Benchmark:
    """Measure every engine that is here with all rows of a job.

    Args:
        loaded: the job.
        say: told, in a sentence, what is being waited for.
        terminal: where bars may be drawn while a model is fetched.

    Raises:
        UsageError: the job has no model to measure.
        DataError: none of the rows can be asked.
        ModelError: no engine can run the model.
        BatchgenError: input, job or model stand in the way.
    """
    setup = set_up(loaded, say, terminal)
    asked = list(_pending_rows(setup))
    work = _work(setup, asked)
    say("measuring the machine")
    machine = run_in_process(measure_machine_peak, work.device, work.dtype)
    found: dict[Contender, Measured | NotMeasured] = {}
    for contender in CONTENDERS:
        say(f"measuring {contender}")
        found[contender] = _outcome(contender, work)
    costs = _costs(found)
    return Benchmark(
        machine=machine,
        workload=_workload(setup, work, asked),
        engines={name: _figures(work, one, costs, machine) for name, one in found.items()},
    )


def _pending_rows(setup: Setup) -> Iterator[PendingRow]:
    chunks = setup.reading.source.chunks(setup.survey, rows=setup.job.batching.part_rows)
    for chunk in chunks:
        yield from setup.asking.ask(chunk.rows(setup.asking.columns), chunk.failures)


def _work(setup: Setup, asked: Sequence[PendingRow]) -> BenchWork:
    model, job = setup.model, setup.job
    if model is None:
        raise UsageError("without a model there is nothing to measure", hint="Name one: --model.")
    from batchgen.engines.torch.estimate import estimate_torch_engine

    estimate = estimate_torch_engine(
        model.resolved.folder, job.model, batching=job.batching, workers_asked=job.run.workers
    )
    requests = [r for a in asked for r in _requests(setup, a)]
    if not requests:
        raise DataError(
            f"none of {len(asked):,} rows can be asked: their prompts fail",
            hint="`batchgen plan` says why.",
        )
    return BenchWork(
        model=model.resolved,
        spec=job.model,
        device=estimate.device,
        dtype=estimate.dtype,
        batching=job.batching,
        workers=job.run.workers,
        requests=tuple(requests),
    )


def _requests(setup: Setup, asked: PendingRow) -> list[Request]:
    if isinstance(asked.settings, Failure):
        return []
    return setup.asking.requests(asked, asked.settings)


def _workload(setup: Setup, work: BenchWork, asked: Sequence[PendingRow]) -> Workload:
    return Workload(
        name=setup.job.name,
        model=work.model.name,
        parameters=setup.model.card.parameters if setup.model else 0,
        dtype=work.dtype,
        rows=len(asked),
        refused=sum(isinstance(one.settings, Failure) for one in asked),
        prompt_tokens=sum(len(one.token_ids) for one in work.requests),
        most_new_tokens=sum(one.decoding.max_new_tokens for one in work.requests),
    )


def _outcome(contender: Contender, work: BenchWork) -> Measured | NotMeasured:
    try:
        return run_in_process(measure_contender, contender, work)
    except ProcessDied as died:
        return NotMeasured(f"its process ended with {died.exit_code}: perhaps for want of memory")


def _costs(found: Mapping[Contender, Measured | NotMeasured]) -> ModelFlops | None:
    """The model's costs, from whoever knew them.

    Raises:
        ModelError: nobody could run the model at all.
    """
    measured = [one for one in found.values() if isinstance(one, Measured)]
    if not measured:
        reasons = [
            f"{name}: {one.reason}" for name, one in found.items() if isinstance(one, NotMeasured)
        ]
        raise ModelError("no engine can run this model", hint="\n  ".join(reasons))
    return next((one.costs for one in measured if one.costs is not None), None)


def _figures(
    work: BenchWork, outcome: Measured | NotMeasured, costs: ModelFlops | None, machine: MachinePeak
) -> EngineResult | NotMeasured:
    if isinstance(outcome, NotMeasured):
        return outcome
    share = mfu = None
    if costs is not None:
        pairs = zip(work.requests, outcome.new_tokens, strict=True)
        needed = measure_useful_work(
            [AnsweredRequest(request, new) for request, new in pairs if new], costs
        )
        mfu = needed.operations / (outcome.seconds * (outcome.peak or machine.peak))
        share = needed.tokens / outcome.computed_tokens if outcome.computed_tokens else None
    return EngineResult(
        load_seconds=outcome.load_seconds,
        seconds=outcome.seconds,
        new_tokens=sum(outcome.new_tokens),
        useful_token_share=share,
        mfu=mfu,
    )
