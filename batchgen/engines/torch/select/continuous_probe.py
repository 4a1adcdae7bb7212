"""Whether a model can run on slots, and by which forward: the same trial that the other tiers stand.

    our own forward of the family  >  the model's own forward, packed  >  not on slots

The trial's prompts run in chunks and in pages of four tokens, so that attention to the past is in it.
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
    LogitRecord,
    disparity_text,
    logit_tolerance,
    parity_text,
    record_reference,
)
from batchgen.engines.torch.tier import TierOptions
from batchgen.records import Request

OWN_FORWARD = "slots, own forward"
_SHAPE = BatchShape(rows=3, step_tokens=6)
_SIZES = KVStoreSizes(pages=64, page_size=4, arena=64)


@dataclass(frozen=True, slots=True)
class ProbedForward:
    """A forward that answers right.

    Attributes:
        forward: runs steps.
        store: what it wrote into: its layers have the model's shapes.
        logits: what it gives back.
        name: which one it is.
        reason: how close it is, and why no faster one was taken.
    """

    forward: Forward
    store: KVStore
    logits: LogitsSpec
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class UnsupportedForward:
    """Why no forward can run this model on slots."""

    reason: str


def probe_continuous(loaded: LoadedModel, room: int) -> ProbedForward | UnsupportedForward:
    """Find a forward for slots.

    Args:
        loaded: the model.
        room: bytes that a packed copy of its weights may take.

    Raises:
        ModelError: the model cannot generate at all.
    """
    if loaded.encoder_decoder:
        return UnsupportedForward(disparity_text("slots", "encoder and decoder"))
    requests, alone = record_reference(loaded)
    refused: list[str] = []
    for name, make in _candidates(loaded, room):
        forward = make()
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


def forward_named(loaded: LoadedModel, name: str, room: int) -> Forward | None:
    """The forward that an earlier trial found; None if there is none of that name for this model."""
    return next((make() for known, make in _candidates(loaded, room) if known == name), None)


def _candidates(
    loaded: LoadedModel, room: int
) -> Iterator[tuple[str, Callable[[], Forward | None]]]:
    yield OWN_FORWARD, lambda: LlamaForward.of(loaded.model, room)
    yield "slots", lambda: TransformersForward(loaded.model)


def _difference(
    machine: StepBackend, requests: Sequence[Request], record: LogitRecord, alone: LogitRecord
) -> float | str:
    """The largest difference of logits, in units of their spread; or why the model cannot run."""
    setting = TierOptions(lambda _: "", lambda: False, padding_tokens=0)
    try:
        for _ in ContinuousTier(machine, _SHAPE, setting).generate(requests):
            pass
    except Exception as error:
        # A model's own code may fail in any way: then this tier is not for it.
        if out_of_memory(error):
            raise
        return type(error).__name__
    return record.distance(alone)


class LogitRecorder:
    """Draws the tokens of an earlier record, and keeps the logits."""

    def __init__(self, record: LogitRecord) -> None:
        """Draw and keep in `record`."""
        self._record = record

    def pick(self, asked: Sequence[SampledRow], logits: Tensor) -> list[SampledToken]:
        """See `engine.Picks`."""
        return [
            SampledToken(
                self._record.note((one.request.index, one.step), row), finite=True, logprob=0.0
            )
            for one, row in zip(asked, logits, strict=True)
        ]
