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

from batchgen.engines.torch.continuous.continuous_tier import Machine, Shape, SlotTier
from batchgen.engines.torch.continuous.kv_store import Sizes, Store, own_zeros
from batchgen.engines.torch.continuous.workers import Forward, OneLane, Wide
from batchgen.engines.torch.select.continuous_probe import Recorder
from batchgen.engines.torch.select.parity_probe import Record
from batchgen.engines.torch.tier import Setting
from batchgen.planning.slot_plan import PAGE_TOKENS
from batchgen.records import Request, ResolvedDecoding

_SIZES = Sizes(pages=16, page_size=PAGE_TOKENS, arena=PAGE_TOKENS)
_WHOLE = Shape(rows=12, step_tokens=512, share=False)
_BEGINNING = 18
_MANY, _LENGTH = 8, 28
"""Prompts, and their length, that make a step large."""
_GIANT = 2 * PAGE_TOKENS + 20
"""Tokens of a row that has more pages than the others."""


@dataclass(frozen=True, slots=True)
class Independence:
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
class _Way:
    name: str
    rows: Sequence[Request]
    shape: Shape


def batch_independence(
    forward: Forward, store: Store, logits: Wide, device: torch.device
) -> Independence:
    """Try whether logits are the same bits alone and beside others.

    Args:
        forward: runs steps.
        store: of the trial: its layers have the model's shapes.
        logits: what `forward` gives back.
        device: of the model.
    """
    room = Store.like(store, _SIZES, own_zeros)

    def run(rows: Sequence[Request], shape: Shape, tokens: Record) -> Record:
        record = Record(tokens.tokens)
        machine = Machine(OneLane(forward), room, Recorder(record), device)
        setting = Setting(lambda _: "", lambda: False, padding_tokens=0)
        for _ in SlotTier(machine, shape, setting).generate(rows):
            pass
        return record

    long, short, twin, giant, *many = _requests(logits.vocab)
    alone = run([long, short], replace(_WHOLE, rows=1), Record())
    ways = (
        _Way("beside another row", [long, short], _WHOLE),
        _Way("beside a much longer row", [long, short, giant], _WHOLE),
        _Way("behind a row", [long, short], replace(_WHOLE, step_tokens=len(long.token_ids) + 4)),
        _Way("with a shared beginning", [long, twin], replace(_WHOLE, share=True)),
        _Way("in a large step", [long, short, *many], _WHOLE),
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
    return Independence(same, changed)


def _requests(vocab: int) -> list[Request]:
    """A long row and a short one, one that begins as the long one does, a giant, and some that make a step large."""
    source = torch.Generator().manual_seed(0)
    drawn = torch.randint(vocab, (_MANY + 2, _LENGTH), generator=source).tolist()
    giant = torch.randint(vocab, (_GIANT,), generator=source).tolist()
    beginning = drawn[0][:_BEGINNING]
    prompts = [drawn[0][:22], drawn[1][:9], [*beginning, *drawn[1][9:11]], giant, *drawn[2:]]
    two = ResolvedDecoding(max_new_tokens=2)
    return [Request(index, 0, prompt, two, 0) for index, prompt in enumerate(prompts)]
