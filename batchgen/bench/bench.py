"""Measures every engine on this machine with one workload, one after the other, each in a process of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from batchgen.bench.bench_work import (
    CONTENDERS,
    NOWHERE_ELSE,
    BenchWork,
    Contender,
    Measured,
    NotMeasured,
    OtherForms,
)
from batchgen.bench.contenders import MachinePeak, measure_contender, measure_machine_peak
from batchgen.bench.isolated_process import ProcessDied, run_in_process
from batchgen.errors import DataError, ModelError, UsageError
from batchgen.job.spec import ModelSpec
from batchgen.jobfile.load import LoadedJob
from batchgen.models.local_model import LocalModel
from batchgen.planning.required_flops import (
    AnsweredRequest,
    ModelFlops,
    measure_useful_work,
    utilization_share,
)
from batchgen.progress import SILENT, Reporter
from batchgen.records import Failure
from batchgen.run.requests import PendingRow
from batchgen.run.setup import Setup, set_up


@dataclass(frozen=True, slots=True)
class EngineResult:
    """The result of one engine. Shares are None where the engine does not report what they are computed from.

    Attributes:
        seconds: from the loaded model to the last token.
        useful_token_share: of the computed tokens, those that are neither padding nor recomputed.
        mfu: useful floating-point operations a second, as a share of the measured peak; None if that is not
            known, or was measured too low.
    """

    load_seconds: float
    seconds: float
    new_tokens: int
    useful_token_share: float | None
    mfu: float | None

    @property
    def new_tokens_per_second(self) -> float:
        return self.new_tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Workload:
    """The rows that every engine answered.

    Attributes:
        refused: of the rows, those whose prompt failed; they are sent to no engine.
        most_new_tokens: the largest possible number of new tokens in total.
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
    """The results; `engines` in the order in which they ran."""

    machine: MachinePeak
    workload: Workload
    engines: Mapping[Contender, EngineResult | NotMeasured]


def bench(
    loaded: LoadedJob, *, others: OtherForms = NOWHERE_ELSE, reporter: Reporter = SILENT
) -> Benchmark:
    """Measure every installed engine with all rows of a job.

    Args:
        loaded: the job.
        others: the same model elsewhere, besides where the job names it.
        reporter: shows what is measured.

    Raises:
        UsageError: the job has no model to measure.
        DataError: every row fails before it reaches an engine.
        ModelError: no engine can run the model.
        BatchgenError: something is wrong with the input, the job or the model.
    """
    setup = set_up(loaded, reporter)
    if setup.request_builder.preparer.asks_later:
        raise UsageError(
            "bench sends every engine the same prompts, and this job's later turns depend on the answers to earlier ones",
            hint="Measure a job without prompt.turns and input.columns.turns, or recorded answers with prompt.replay.",
        )
    rows = list(setup.pending_rows())
    work = _work(setup, rows, others)
    reporter.info("measuring the machine")
    machine = run_in_process(measure_machine_peak, work.device, work.dtype)
    results: dict[Contender, Measured | NotMeasured] = {}
    for contender in CONTENDERS:
        reporter.info(f"measuring {contender}")
        try:
            results[contender] = run_in_process(measure_contender, contender, work)
        except ProcessDied as died:
            results[contender] = NotMeasured(
                f"process exited with {died.exit_code}, probably out of memory"
            )
    measured = [one for one in results.values() if isinstance(one, Measured)]
    if not measured:
        reasons = [f"{n}: {r.reason}" for n, r in results.items() if isinstance(r, NotMeasured)]
        raise ModelError("\n  ".join(["no engine can run this model", *reasons]))
    costs = next((one.costs for one in measured if one.costs is not None), None)
    return Benchmark(
        machine=machine,
        workload=Workload(
            name=setup.job.name,
            model=work.model.name,
            parameters=setup.model.info.parameters if setup.model else 0,
            dtype=work.dtype,
            rows=len(rows),
            refused=sum(isinstance(row.decoding, Failure) for row in rows),
            prompt_tokens=sum(len(one.token_ids) for one in work.requests),
            most_new_tokens=sum(one.decoding.max_new_tokens for one in work.requests),
        ),
        engines={name: _figures(work, one, costs, machine) for name, one in results.items()},
    )


def _work(setup: Setup, rows: Sequence[PendingRow], others: OtherForms) -> BenchWork:
    model, job = setup.model, setup.job
    if model is None:
        raise UsageError("the job has no model to measure", hint="Name one with --model MODEL.")
    spec = setup.scoring_model.spec
    device, dtype = _computed(setup, model, spec)
    if spec.engine == "openvino":
        others = replace(others, converted=model.resolved.folder)
    if spec.base_url is not None:
        urls = (spec.base_url,) if isinstance(spec.base_url, str) else tuple(spec.base_url)
        others = replace(others, servers=urls)
    requests = setup.request_builder.build_requests(rows)
    if not requests:
        raise DataError(
            f"the prompts of all {len(rows):,} rows fail", hint="See why with `batchgen plan`."
        )
    return BenchWork(
        model=model.resolved,
        spec=spec,
        device=device,
        dtype=dtype,
        batching=job.batching,
        workers=job.run.workers,
        requests=tuple(requests),
        others=others,
    )


def _computed(setup: Setup, model: LocalModel, spec: ModelSpec) -> tuple[str, str]:
    """The device and the dtype in which our engine computes the model, or would."""
    if spec.engine in ("openvino", "openai"):
        return "cpu", setup.dtype.dtype if setup.dtype else "float32"
    from batchgen.engines.torch.estimate import estimate_torch_engine

    job = setup.job
    estimate = estimate_torch_engine(
        model.resolved.folder, spec, batching=job.batching, workers=job.run.workers
    )
    return estimate.device, estimate.dtype


def _figures(
    work: BenchWork, outcome: Measured | NotMeasured, costs: ModelFlops | None, machine: MachinePeak
) -> EngineResult | NotMeasured:
    if isinstance(outcome, NotMeasured):
        return outcome
    share = mfu = None
    if costs is not None:
        pairs = zip(work.requests, outcome.new_tokens, strict=True)
        needed = measure_useful_work((AnsweredRequest(*pair) for pair in pairs if pair[1]), costs)
        mfu = utilization_share(needed.flops, outcome.seconds * (outcome.peak or machine.peak))
        share = needed.tokens / outcome.computed_tokens if outcome.computed_tokens else None
    return EngineResult(
        load_seconds=outcome.load_seconds,
        seconds=outcome.seconds,
        new_tokens=sum(outcome.new_tokens),
        useful_token_share=share,
        mfu=mfu,
    )
