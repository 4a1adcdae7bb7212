"""Whether a row's logits depend on what runs beside it, to the last bit: tried at start, never promised.

A few short prompts run alone, and then in each way in which neighbours change a step:

    beside another row            products with more rows
    beside a much longer row      decode looks at as many pages as the longest row of a group has
    behind a row                  the step's token budget cuts the prompt
    with a shared beginning       attention is merged of two parts
    in a large step               products with so many rows that another kernel takes them

Lanes cut steps in parts, which is beside fewer rows again. Knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from batchgen.engines.torch.continuous.continuous_tier import (
    BatchShape,
    ContinuousTier,
    StepBackend,
)
from batchgen.engines.torch.continuous.kv_store import KVStore, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.workers import Forward, InProcess, LogitsSpec
from batchgen.engines.torch.select.continuous_probe import LogitRecorder
from batchgen.engines.torch.select.parity_probe import LogitRecord
from batchgen.engines.torch.tier import TierOptions
from batchgen.planning.slot_plan import PAGE_TOKENS
from batchgen.records import Request, ResolvedDecoding

_SIZES = KVStoreSizes(pages=16, page_size=PAGE_TOKENS, arena=PAGE_TOKENS)
_WHOLE = BatchShape(rows=12, step_tokens=512, share=False)
_BEGINNING = 18
_MANY, _LENGTH = 8, 28
"""Prompts, and their length, that make a step large."""
_GIANT = 2 * PAGE_TOKENS + 20
"""Tokens of a row that has more pages than the others."""


@dataclass(frozen=True, slots=True)
class BatchInvariance:
    """What was found.

    Attributes:
        same: ways in which no bit changed.
        changed: ways in which one did.
    """

    same: Sequence[str]
    changed: Sequence[str]

    @property
    def holds(self) -> bool:
        """Whether a row's bits never depend on its neighbours."""
        return bool(self.same) and not self.changed

    @property
    def reason(self) -> str:
        """What was found, in words."""
        if not self.same and not self.changed:
            return "padded batches are not tried"
        said = []
        if self.changed:
            said.append(f"a row's logits have other last bits {', '.join(self.changed)}")
        if self.same:
            said.append(f"the same bits {', '.join(self.same)}")
        return "; ".join(said)


@dataclass(frozen=True, slots=True)
class _BatchVariant:
    name: str
    rows: Sequence[Request]
    shape: BatchShape


def probe_batch_invariance(
    forward: Forward, store: KVStore, logits: LogitsSpec, device: torch.device
) -> BatchInvariance:
    """Try whether logits are the same bits alone and beside others.

    Args:
        forward: runs steps.
        store: of the trial: its layers have the model's shapes.
        logits: what `forward` gives back.
        device: of the model.
    """
    room = KVStore.like(store, _SIZES, private_zeros)

    def run(rows: Sequence[Request], shape: BatchShape, tokens: LogitRecord) -> LogitRecord:
        record = LogitRecord(tokens.tokens)
        machine = StepBackend(InProcess(forward), room, LogitRecorder(record), device)
        setting = TierOptions(lambda _: "", lambda: False, padding_tokens=0)
        for _ in ContinuousTier(machine, shape, setting).generate(rows):
            pass
        return record

    long, short, twin, giant, *many = _requests(logits.vocab)
    alone = run([long, short], replace(_WHOLE, rows=1), LogitRecord())
    ways = (
        _BatchVariant("beside another row", [long, short], _WHOLE),
        _BatchVariant("beside a much longer row", [long, short, giant], _WHOLE),
        _BatchVariant(
            "behind a row", [long, short], replace(_WHOLE, step_tokens=len(long.token_ids) + 4)
        ),
        _BatchVariant("with a shared beginning", [long, twin], replace(_WHOLE, share=True)),
        _BatchVariant("in a large step", [long, short, *many], _WHOLE),
    )
    same: list[str] = []
    changed: list[str] = []
    for way in ways:
        together = run(way.rows, way.shape, alone)
        alike = all(
            torch.equal(together.logits[place], bits)
            for place, bits in alone.logits.items()
            if place in together.logits
        )
        (same if alike else changed).append(way.name)
    return BatchInvariance(same, changed)


def _requests(vocab: int) -> list[Request]:
    """A long row and a short one, one that begins as the long one does, a giant, and some that make a step large."""
    source = torch.Generator().manual_seed(0)
    drawn = torch.randint(vocab, (_MANY + 2, _LENGTH), generator=source).tolist()
    giant = torch.randint(vocab, (_GIANT,), generator=source).tolist()
    beginning = drawn[0][:_BEGINNING]
    prompts = [drawn[0][:22], drawn[1][:9], [*beginning, *drawn[1][9:11]], giant, *drawn[2:]]
    two = ResolvedDecoding(max_new_tokens=2)
    return [Request(index, 0, prompt, two, 0) for index, prompt in enumerate(prompts)]
