"""Parity probe of the continuous tier: finds a forward pass that matches `generate`.

    our forward for the model's family  >  the model's own forward on packed batches  >  not this tier

The prompts run in chunks and in pages of four tokens, so that attention to earlier chunks and pages is tested.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from batchgen.engines.torch.continuous.continuous_tier import (
    BatchShape,
    ContinuousTier,
    StepBackend,
)
from batchgen.engines.torch.continuous.forward.llama import LlamaForward
from batchgen.engines.torch.continuous.forward.transformers_model import TransformersForward
from batchgen.engines.torch.continuous.kv_store import KVStore, KVStoreSizes, private_zeros
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
from batchgen.engines.torch.tier import TierOptions
from batchgen.records import Request

OWN_FORWARD = "continuous, own forward"
_SHAPE = BatchShape(rows=3, step_tokens=6)
_SIZES = KVStoreSizes(pages=64, page_size=4, arena=64)


@dataclass(frozen=True, slots=True)
class ProbedForward:
    """A forward pass that passed the probe.

    Attributes:
        forward: runs steps.
        store: the store of the probe: its layers have the model's shapes.
        logits: width and dtype of its output.
        reason: its difference from `generate`, and why a faster one was rejected.
    """

    forward: Forward
    store: KVStore
    logits: LogitsSpec
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class UnsupportedForward:
    """Why the continuous tier cannot run this model."""

    reason: str


def probe_continuous(
    loaded: LoadedModel, room: int, *, only: str | None = None
) -> ProbedForward | UnsupportedForward:
    """Find a forward pass for the continuous tier.

    Args:
        loaded: the model.
        room: bytes that a packed copy of its weights may take.
        only: name of the one forward to check, with one prompt; all are probed if it is None.

    Raises:
        ModelError: the model cannot generate at all.
    """
    if loaded.encoder_decoder:
        return UnsupportedForward(disparity_text("continuous", "encoder and decoder"))
    requests, alone = record_reference(loaded, len(LENGTHS) if only is None else 1)
    refused: list[str] = []
    for name, make in _candidates(loaded, room):
        forward = make() if only in (None, name) else None
        if forward is None:
            continue
        store, record = KVStore(_SIZES, private_zeros), LogitRecord(alone.tokens)
        machine = StepBackend(InProcess(forward), store, LogitRecorder(record), loaded.device)
        found = _difference(machine, requests, record, alone)
        if isinstance(found, float) and found <= logit_tolerance(loaded):
            reason = "; ".join([*refused, parity_text(found)])
            logits = next(iter(record.logits.values()))
            return ProbedForward(
                forward, store, LogitsSpec(len(logits), loaded.dtype), name, reason
            )
        refused.append(disparity_text(name, found))
    return UnsupportedForward("; ".join(refused))


def _candidates(
    loaded: LoadedModel, room: int
) -> Iterator[tuple[str, Callable[[], Forward | None]]]:
    yield OWN_FORWARD, lambda: LlamaForward.of(loaded.model, room)
    yield "continuous", lambda: TransformersForward(loaded.model)


def _difference(
    machine: StepBackend, requests: Sequence[Request], record: LogitRecord, alone: LogitRecord
) -> float | str:
    """The largest difference of logits, in units of their standard deviation; or the error that stopped the model."""
    setting = TierOptions(lambda _: "", lambda: False, padding_tokens=0)
    try:
        for _ in ContinuousTier(machine, _SHAPE, setting).generate(requests):
            pass
    except Exception as error:
        # The model's code may fail in any way: then this tier cannot run it.
        if out_of_memory(error):
            raise
        return type(error).__name__
    return record.distance(alone)


class LogitRecorder:
    """Picks the tokens of an earlier record, and keeps the logits."""

    def __init__(self, record: LogitRecord) -> None:
        self._record = record

    def pick(self, asked: Sequence[SampledRow], logits: Tensor) -> list[SampledToken]:
        """See `Picks`."""
        return [
            SampledToken(
                self._record.note((one.request.index, one.step), row), finite=True, logprob=0.0
            )
            for one, row in zip(asked, logits, strict=True)
        ]
