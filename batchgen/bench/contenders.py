"""The engines that `bench` compares; each is measured in a process of its own.

    continuous, static    the tiers of our engine, each forced
    generate              length-sorted `model.generate`, in `engines/torch/generate/baseline.py`
    vllm                  if it is installed

All have the same token ids, limits and end tokens; the time is taken from the loaded model to the last token.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from batchgen.errors import BatchgenError, UsageError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.models.find_model import ResolvedModel
from batchgen.planning.host_processor import read_processor
from batchgen.planning.required_flops import ModelFlops
from batchgen.prompts.answer_text import AnswerText
from batchgen.records import Request
from batchgen.section import Auto

if TYPE_CHECKING:
    from batchgen.engines.torch.engine import TorchEngine

Contender = Literal["continuous", "static", "generate", "vllm"]
CONTENDERS: tuple[Contender, ...] = ("continuous", "static", "generate", "vllm")


@dataclass(frozen=True, slots=True)
class BenchWork:
    """Requests and model of a benchmark; `device` and `dtype` are of our engine, such as "cpu" and "float32"."""

    model: ResolvedModel
    spec: ModelSpec
    device: str
    dtype: str
    batching: Batching
    workers: int | Auto
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of a contender; None where it was not measured.

    Attributes:
        seconds: from the loaded model to the last token.
        new_tokens: of each request, in the order of the requests; 0 for one that failed.
        computed_tokens: including padding and recomputed tokens.
        peak: floating-point operations a second, measured by the same process.
    """

    load_seconds: float
    seconds: float
    new_tokens: tuple[int, ...]
    computed_tokens: int | None = None
    costs: ModelFlops | None = None
    peak: float | None = None


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """A contender that did not run."""

    reason: str


@dataclass(frozen=True, slots=True)
class MachinePeak:
    """The measured limits of the machine.

    Attributes:
        peak: floating-point operations a second of a large matrix product in the model's dtype.
        bandwidth: bytes a second read from memory.
        threads: of torch, on a CPU.
    """

    device: str
    peak: float
    bandwidth: float
    threads: int


def measure_machine_peak(device: str, dtype: str) -> MachinePeak:
    """Measure the limits of the machine; takes a second or two."""
    import torch

    from batchgen.engines.torch.utilization.peak import measure_bandwidth, measure_peak_flops

    measured = torch.device(device)
    return MachinePeak(
        device=torch.cuda.get_device_name(measured)
        if measured.type == "cuda"
        else read_processor().name or "CPU",
        peak=measure_peak_flops(measured, getattr(torch, dtype)),
        bandwidth=measure_bandwidth(measured),
        threads=torch.get_num_threads(),
    )


def measure_contender(contender: Contender, work: BenchWork) -> Measured | NotMeasured:
    """Load the model and answer the work, in a process of its own: it does not free memory, nor restore threads or stdout."""
    run: Mapping[Contender, Callable[[BenchWork], Measured | NotMeasured]] = {
        "continuous": _continuous,
        "static": _static,
        "generate": _generate,
        "vllm": _vllm,
    }
    try:
        return run[contender](work)
    except BatchgenError as error:
        return NotMeasured(error.message)
    except Exception as error:  # noqa: BLE001  a contender that fails in any way must not stop the others
        # The message may quote a prompt.
        return NotMeasured(f"failed: {type(error).__name__}")


def _continuous(work: BenchWork) -> Measured | NotMeasured:
    from batchgen.engines.torch.engine import TorchEngine

    return _tier(work, TorchEngine)


def _static(work: BenchWork) -> Measured | NotMeasured:
    from batchgen.engines.torch.engine import TorchEngine

    class StaticEngine(TorchEngine):
        fastest_tier = "static"

    return _tier(work, StaticEngine)


def _tier(work: BenchWork, engine_type: "type[TorchEngine]") -> Measured | NotMeasured:
    from batchgen.engines.torch.model import load_model
    from batchgen.engines.torch.utilization.flops import model_flops
    from batchgen.planning.batches import sort_by_length

    tokenizer = _tokenizer(work)
    begin = time.perf_counter()
    loaded = load_model(work.model.folder, work.spec)
    engine = engine_type(
        loaded,
        batching=work.batching,
        workers=work.workers,
        decode=AnswerText(tokenizer),
        should_stop=lambda: False,
    )
    load_seconds = time.perf_counter() - begin
    tier: Mapping[str, Any] = engine.facts()
    if not tier["tier"].startswith(engine_type.fastest_tier):
        return NotMeasured(f"does not support this model: {tier['tier_reason']}")
    begin = time.perf_counter()
    done = list(engine.generate(sort_by_length(work.requests)))
    seconds = time.perf_counter() - begin
    facts: Mapping[str, Any] = engine.facts()
    lengths = {(one.index, one.sample): len(one.token_ids) for one in done}
    return Measured(
        load_seconds=load_seconds,
        seconds=seconds,
        new_tokens=tuple(lengths[one.index, one.sample] for one in work.requests),
        computed_tokens=facts.get("computed_tokens"),
        costs=model_flops(loaded.model),
        peak=facts.get("peak_flop_per_second"),
    )


def _generate(work: BenchWork) -> Measured:
    from batchgen.engines.torch.generate.baseline import sorted_generate
    from batchgen.engines.torch.model import load_model
    from batchgen.engines.torch.utilization.flops import TokenCounter, model_flops
    from batchgen.engines.torch.utilization.peak import measure_peak_flops

    tokenizer = _tokenizer(work)
    begin = time.perf_counter()
    loaded = load_model(work.model.folder, work.spec)
    count = TokenCounter(loaded.model)
    ready = time.perf_counter()
    lengths = sorted_generate(loaded, work.requests, tokenizer)
    end = time.perf_counter()
    return Measured(
        load_seconds=ready - begin,
        seconds=end - ready,
        new_tokens=tuple(lengths),
        computed_tokens=count.tokens,
        costs=model_flops(loaded.model),
        peak=measure_peak_flops(loaded.device, loaded.dtype),
    )


def _vllm(work: BenchWork) -> Measured | NotMeasured:
    if find_spec("vllm") is None:
        return NotMeasured("not installed")
    from batchgen.engines.engine_registry import find_engine, open_engine
    from batchgen.planning.batches import sort_by_length

    check_vllm_settings(work.requests)
    longest = max(len(one.token_ids) + one.decoding.max_new_tokens for one in work.requests)
    changes: dict[str, Any] = {"engine": "vllm", "dtype": work.dtype, "max_model_len": longest}
    if work.spec.engine != "vllm":
        changes["engine_args"] = {}
    spec, tokenizer = work.spec.model_copy(update=changes), _tokenizer(work)
    if spec.adapter is not None and (check := find_engine("vllm").check_adapter) is not None:
        check(spec, folder=work.model.folder)
    begin = time.perf_counter()
    engine = open_engine(
        spec,
        folder=work.model.folder,
        batching=work.batching.model_copy(update={"max_tokens": "auto"}),
        decode=AnswerText(tokenizer),
        should_stop=lambda: False,
    )
    ready = time.perf_counter()
    try:
        done = list(engine.generate(sort_by_length(work.requests)))
        end = time.perf_counter()
    finally:
        engine.close()
    lengths = {(one.index, one.sample): len(one.token_ids) for one in done}
    return Measured(
        load_seconds=ready - begin,
        seconds=end - ready,
        new_tokens=tuple(lengths[one.index, one.sample] for one in work.requests),
    )


def check_vllm_settings(requests: Iterable[Request]) -> None:
    """Check that engine vllm supports the decoding settings of the requests.

    Raises:
        UsageError: it does not support one of them.
    """
    for decoding in (request.decoding for request in requests):
        unsupported = {
            "num_beams": decoding.num_beams > 1,
            "no_repeat_ngram_size": decoding.no_repeat_ngram_size > 0,
            "generation_kwargs": bool(decoding.generation_kwargs),
        }
        if used := [name for name, is_used in unsupported.items() if is_used]:
            raise UsageError(f"vLLM does not support {' and '.join(used)}, which the job sets")


def _tokenizer(work: BenchWork) -> Any:  # noqa: ANN401  (a PreTrainedTokenizerBase)
    from batchgen.models.tokenizer import load_tokenizer

    return load_tokenizer(work.model, work.spec)
