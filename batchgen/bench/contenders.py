"""The engines that `bench` compares; each is measured in a process of its own.

    continuous, static    the tiers of our engine, each forced
    generate              length-sorted `model.generate`, in `engines/torch/generate/baseline.py`
    vllm                  if it is installed          (this one and the next two: `other_engines.py`)
    openvino              if it is installed, with a converted model
    openai                with a server that offers the model

All have the same token ids, limits and end tokens; the time is taken from the loaded model to the last token.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchgen.bench.bench_work import BenchWork, Contender, Measured, NotMeasured
from batchgen.bench.other_engines import (
    load_work_tokenizer,
    measure_openai,
    measure_openvino,
    measure_vllm,
)
from batchgen.errors import BatchgenError
from batchgen.planning.host_processor import read_processor
from batchgen.prompts.answer_text import AnswerText

if TYPE_CHECKING:
    from batchgen.engines.torch.engine import TorchEngine


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
        "vllm": measure_vllm,
        "openvino": measure_openvino,
        "openai": measure_openai,
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

    tokenizer = load_work_tokenizer(work)
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

    tokenizer = load_work_tokenizer(work)
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
