"""Parity probe of the continuous tier: finds a forward pass that matches `generate`.

    our forward for the model's family  >  the model's own forward on packed batches  >  not this tier

The prompts run in chunks and in pages of four tokens, so that attention to earlier chunks and pages is tested.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.continuous_tier import (
    BatchShape,
    ContinuousTier,
    StepBackend,
)
from batchgen.engines.torch.continuous.forward.llama import LlamaForward
from batchgen.engines.torch.continuous.forward.processor import has_bfloat16_products
from batchgen.engines.torch.continuous.forward.transformers_model import TransformersForward
from batchgen.engines.torch.continuous.kv_store import KVStore, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.row_counts import ProductRows
from batchgen.engines.torch.continuous.token_picker import SampledRow, SampledToken
from batchgen.engines.torch.continuous.workers import Forward, InProcess, LogitsSpec
from batchgen.engines.torch.memory import out_of_memory
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.select.parity_probe import (
    LENGTHS,
    LogitRecord,
    disparity_text,
    logit_tolerance,
    parity_text,
    record_reference,
)
from batchgen.engines.torch.select.row_count_probe import probe_row_counts
from batchgen.engines.torch.select.tier_cache import TierRecord
from batchgen.engines.torch.tier import NoText, TierOptions
from batchgen.planning.kv_cache_plan import PROBE_PAGE_TOKENS
from batchgen.records import Request

OWN_FORWARD = "continuous, own forward"
_SHAPE = BatchShape(rows=3, step_tokens=6)
_SIZES = KVStoreSizes(pages=64, page_size=PROBE_PAGE_TOKENS, arena=64)


@dataclass(frozen=True, slots=True)
class ProbedForward:
    """A forward pass that passed the probe.

    Attributes:
        store: the store of the probe: its layers have the model's shapes.
        logits: width and dtype of its output.
        reason: its difference from `generate`, and why a faster one was rejected.
        row_counts: at which its products are computed; empty for any.
    """

    forward: Forward
    store: KVStore
    logits: LogitsSpec
    name: str
    reason: str
    row_counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class UnsupportedForward:
    """Why the continuous tier cannot run this model."""

    reason: str


def probe_continuous(
    loaded: LoadedModel, packable: int, *, cached: TierRecord | None = None
) -> ProbedForward | UnsupportedForward:
    """Find a forward pass for the continuous tier.

    Args:
        loaded: the model.
        packable: most bytes of a packed copy of its weights.
        cached: of the one forward to check, with one prompt; all are probed if it is None.

    Raises:
        ModelError: the model cannot generate at all.
    """
    if loaded.encoder_decoder:
        return UnsupportedForward(disparity_text("continuous", "encoder and decoder"))
    requests, alone = record_reference(loaded, len(LENGTHS) if cached is None else 1)
    rejected: list[str] = []
    for name, make in _candidates(loaded, packable):
        forward = make() if cached is None or cached.tier == name else None
        if forward is None:
            continue
        counts = (
            _use_row_counts(forward, loaded, cached) if isinstance(forward, LlamaForward) else ()
        )
        store, record = KVStore(_SIZES, private_zeros), LogitRecord(alone.tokens)
        recorder = LogitRecorder(record)
        backend = StepBackend(InProcess(forward), store, recorder, loaded.device)
        difference = _difference(backend, requests, record, alone)
        if isinstance(difference, float) and difference <= logit_tolerance(loaded):
            reason = "; ".join([*rejected, parity_text(difference)])
            logits = LogitsSpec(len(next(iter(record.logits.values()))), recorder.dtype)
            return ProbedForward(forward, store, logits, name, reason, counts)
        rejected.append(disparity_text(name, difference))
    return UnsupportedForward("; ".join(rejected))


def _candidates(
    loaded: LoadedModel, packable: int
) -> Iterator[tuple[str, Callable[[], Forward | None]]]:
    yield OWN_FORWARD, lambda: LlamaForward.of(loaded.model, packable, loaded.release)
    yield "continuous", lambda: TransformersForward(loaded.model)


def _use_row_counts(
    forward: LlamaForward, loaded: LoadedModel, cached: TierRecord | None
) -> tuple[int, ...]:
    """Make products of bfloat16 independent of the number of rows where the processor computes them; returns the counts."""
    if loaded.device.type != "cpu" or loaded.dtype != torch.bfloat16 or not has_bfloat16_products():
        return ()
    if cached is not None:
        counts = ProductRows(cached.row_counts) if cached.row_counts else None
    else:
        counts = probe_row_counts(forward.products())
    if counts is None:
        return ()
    forward.use_row_counts(counts)
    return counts.counts


def _difference(
    backend: StepBackend, requests: Sequence[Request], record: LogitRecord, alone: LogitRecord
) -> float | str:
    """The largest difference of logits, in units of their standard deviation; or the error that stopped the model."""
    try:
        run_requests(backend, _SHAPE, requests)
    except Exception as error:
        # The model's code may fail in any way: then this tier cannot run it.
        if out_of_memory(error):
            raise
        return type(error).__name__
    return record.distance(alone)


def run_requests(backend: StepBackend, shape: BatchShape, requests: Sequence[Request]) -> None:
    """Run requests in the continuous tier, for the records of its sampler."""
    options = TierOptions(NoText(), lambda: False, padding_tokens=0)
    for _ in ContinuousTier(backend, shape, options).generate(requests):
        pass


class LogitRecorder:
    """Takes the tokens of an earlier record, and records the logits."""

    def __init__(self, record: LogitRecord) -> None:
        self._record = record
        self.dtype = torch.float32

    def sample(self, rows: Sequence[SampledRow], logits: Tensor) -> list[SampledToken]:
        self.dtype = logits.dtype
        tokens = [
            self._record.note((row.request.index, row.step), one)
            for row, one in zip(rows, logits, strict=True)
        ]
        return [SampledToken(token, finite=True, logprob=0.0) for token in tokens]
