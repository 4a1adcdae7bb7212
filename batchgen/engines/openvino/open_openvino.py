"""Loads a converted model with OpenVINO GenAI. This is the only file that imports the library."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai

from batchgen.engines.openvino.installed_openvino import PACKAGE
from batchgen.engines.openvino.invariance_probe import ProbedAnswer, measure_invariance
from batchgen.engines.openvino.invariance_record import (
    InvarianceRecord,
    known_invariance,
    save_invariance,
)
from batchgen.engines.openvino.openvino_capacity import (
    OpenvinoCapacity,
    plan_capacity,
    vocabulary_size,
)
from batchgen.engines.openvino.openvino_engine import NAME, OpenvinoEngine, OpenvinoPipeline
from batchgen.errors import ModelError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.records import AnswerDecoder, Request, ResolvedDecoding

_DEVICE = "CPU"


def open_openvino_engine(
    folder: Path,
    model: ModelSpec,
    *,
    batching: Batching,
    decode: AnswerDecoder,
    should_stop: Callable[[], bool],
) -> OpenvinoEngine:
    """Load the model, and measure whether its answers depend on other rows in flight, if no earlier run has.

    Raises:
        ModelError: OpenVINO cannot load it.
        ResourceError: not enough memory.
    """
    capacity = plan_capacity(folder, model, batching)
    pipeline = OpenvinoPipeline(_load(folder, capacity), openvino_genai, _tensor)
    vocab_size = vocabulary_size(folder)
    known = known_invariance(folder, capacity)
    if known is None:
        known = measure_invariance(lambda prompts, new: _answer(pipeline, prompts, new), vocab_size)
        save_invariance(folder, capacity, known)
    return OpenvinoEngine(
        pipeline,
        capacity=capacity,
        vocab_size=vocab_size,
        decode=decode,
        should_stop=should_stop,
        facts=_facts(capacity, known),
    )


def _load(folder: Path, capacity: OpenvinoCapacity) -> Any:  # noqa: ANN401  (a ContinuousBatchingPipeline)
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.num_kv_blocks = capacity.blocks
    scheduler.max_num_seqs = capacity.rows
    scheduler.max_num_batched_tokens = capacity.step_tokens
    scheduler.enable_prefix_caching = True
    try:
        return openvino_genai.ContinuousBatchingPipeline(
            folder, scheduler, _DEVICE, capacity.properties
        )
    except RuntimeError as error:
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        raise ModelError(
            f"{folder}: OpenVINO GenAI cannot load the model: {lines[-1][:300] if lines else error!r}",
            hint="Convert the model again with optimum-intel, or choose another model.",
        ) from error


def _tensor(token_ids: Sequence[int]) -> Any:  # noqa: ANN401  (an openvino.Tensor)
    return openvino.Tensor(np.array([token_ids], dtype=np.int64))


def _answer(
    pipeline: OpenvinoPipeline, prompts: Sequence[Sequence[int]], new_tokens: int
) -> list[ProbedAnswer]:
    decoding = ResolvedDecoding(max_new_tokens=new_tokens, logprobs=True)
    handles = [
        pipeline.add(Request(number, 0, prompt, decoding, seed=0))
        for number, prompt in enumerate(prompts)
    ]
    while pipeline.busy:
        pipeline.step()
    outputs = [handle.read_all()[0] for handle in handles]
    return [
        ProbedAnswer(tuple(one.generated_ids), tuple(one.generated_log_probs)) for one in outputs
    ]


def _facts(capacity: OpenvinoCapacity, invariance: InvarianceRecord) -> dict[str, object]:
    return {
        "engine": NAME,
        "device": _DEVICE.lower(),
        "dtype": capacity.dtype,
        "weights_stored_as": capacity.header.stored_as,
        "rows": capacity.rows,
        "cache_tokens": capacity.tokens,
        "kv_bytes_per_token": capacity.kv_bytes_per_token,
        "openvino_genai": version(PACKAGE),
        "batch_invariant": invariance.invariant,
        "batch_invariant_reason": invariance.reason,
    }
