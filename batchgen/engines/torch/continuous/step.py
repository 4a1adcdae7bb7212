"""One step as tensors: tokens, positions, where their keys are stored and what they attend to.

The tokens of a step are concatenated, without padding:

    prefill   [prefix prefix prefix | row row | row row row row | row]
    decode    [row | row | row | ...]       longest first, in groups of similar length

Built once per step and used by every layer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from batchgen.decoding.upload import upload_together
from batchgen.engines.torch.continuous.kv_store import KVStoreSizes, PageRun, SlotMapping
from batchgen.planning.sequences import Prefix, ScheduledSequence, Step, StepKind


@dataclass(frozen=True, slots=True)
class RowPiece:
    """A segment of a row or prefix in a prefill: tokens first..last-1 of the forward, after `past` tokens in its own pages.

    Attributes:
        pages: int64, those with the past; empty without one.
        shared: tokens in a prefix, before the row's own.
    """

    first: int
    last: int
    past: int
    pages: Tensor
    shared: int


@dataclass(frozen=True, slots=True)
class PrefixReach:
    """Tokens first..last-1 of the forward attend to a prefix of `length` tokens in `pages`, int64."""

    pages: Tensor
    length: int
    first: int
    last: int


@dataclass(slots=True)
class DecodeGroup:
    """Rows first..last-1 of a decode step, of similar length.

    Attributes:
        pages: int64 [rows, pages of the longest], padded with any page.
        lengths: int64 [rows]: own tokens including the new one.
        plans: indices that `paged_attention.py` computes from the pages, cached for all layers.
    """

    first: int
    last: int
    pages: Tensor
    lengths: Tensor
    plans: dict[object, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepBatch:
    """The tensors of a step.

    Attributes:
        token_ids: int64 [tokens].
        positions: int64 [tokens].
        drawn: int64, indices of the tokens whose logits are needed.
        slot_mapping: where the tokens are stored, or
        runs: the same for consecutive tokens.
        pieces: of a prefill, and
        groups: of a decode.
        reaches: which tokens attend to which prefix.
        pages: int64 [rows, most pages], all pages of each row or prefix in order, those of its prefix first; and
        seen: int64 [tokens, 3], of each token its row, the tokens that it attends to, and those of them in a prefix:
            for kernels of a CPU, empty on other devices.
    """

    kind: StepKind
    token_ids: Tensor
    positions: Tensor
    drawn: Tensor
    slot_mapping: SlotMapping
    runs: tuple[PageRun, ...]
    pieces: tuple[RowPiece, ...]
    groups: tuple[DecodeGroup, ...]
    reaches: tuple[PrefixReach, ...]
    pages: Tensor
    seen: Tensor


def build_step_batch(step: Step, sizes: KVStoreSizes, device: torch.device) -> StepBatch:
    """The tensors of a step, for which its rows already have pages. Another device gets them by one copy."""
    on_cpu = device.type == "cpu"
    if step.kind is StepKind.DECODE:
        batch = _decode(step.rows, sizes, on_cpu=on_cpu)
    else:
        batch = _prefill(step, sizes, on_cpu=on_cpu)
    return batch if on_cpu else _on_device(batch, device)


def _on_device(batch: StepBatch, device: torch.device) -> StepBatch:
    slots = batch.slot_mapping
    uploaded = iter(
        upload_together(
            [
                *(batch.token_ids, batch.positions, batch.drawn, slots.pages, slots.offsets),
                *(piece.pages for piece in batch.pieces),
                *(one for group in batch.groups for one in (group.pages, group.lengths)),
                *(reach.pages for reach in batch.reaches),
            ],
            device,
        )
    )
    return replace(
        batch,
        token_ids=next(uploaded),
        positions=next(uploaded),
        drawn=next(uploaded),
        slot_mapping=SlotMapping(next(uploaded), next(uploaded)),
        pieces=tuple(replace(piece, pages=next(uploaded)) for piece in batch.pieces),
        groups=tuple(
            replace(group, pages=next(uploaded), lengths=next(uploaded)) for group in batch.groups
        ),
        reaches=tuple(replace(reach, pages=next(uploaded)) for reach in batch.reaches),
    )


def _prefill(step: Step, sizes: KVStoreSizes, *, on_cpu: bool) -> StepBatch:
    token_ids: list[int] = []
    positions: list[int] = []
    drawn: list[int] = []
    runs: list[PageRun] = []
    pieces: list[RowPiece] = []
    reaches: list[_Reach] = []
    tables: list[list[int]] = []
    seen: list[tuple[int, int, int]] = []
    for segment in step.segments:
        owner, first = segment.owner, len(token_ids)
        last = first + segment.count
        start = owner.computed if isinstance(owner, Prefix) else owner.cached
        token_ids += owner.token_ids[start : start + segment.count]
        positions += range(start, start + segment.count)
        drawn += range(last - segment.drawn, last)
        prefix = None if isinstance(owner, Prefix) else owner.prefix
        pages = _held(owner, sizes) if isinstance(owner, Prefix) else owner.pages
        shared = 0 if prefix is None else len(prefix.token_ids)
        past = start - shared
        seen += [(len(tables), at + 1, shared) for at in range(start, start + segment.count)]
        tables.append(pages if prefix is None else _held(prefix, sizes) + pages)
        runs += _runs(pages, sizes.page_size, past, range(first, last))
        held = pages[: -(-past // sizes.page_size)]
        pieces.append(RowPiece(first, last, past, _ints(held), shared))
        if prefix is not None:
            _reach(reaches, prefix, _held(prefix, sizes), (first, last))
    # On a CPU, runs replace the mapping.
    slots = [(r.page, r.offset + n) for r in runs if not on_cpu for n in range(r.last - r.first)]
    return StepBatch(
        kind=step.kind,
        token_ids=_ints(token_ids),
        positions=_ints(positions),
        drawn=_ints(drawn),
        slot_mapping=SlotMapping(
            _ints([page for page, _ in slots]), _ints([at for _, at in slots])
        ),
        runs=tuple(runs) if on_cpu else (),
        pieces=tuple(pieces),
        groups=(),
        reaches=tuple(PrefixReach(_ints(r.pages), r.length, r.first, r.last) for r in reaches),
        pages=_padded(tables if on_cpu else []),
        seen=torch.tensor(seen if on_cpu else []),
    )


def _runs(pages: Sequence[int], size: int, past: int, tokens: range) -> Iterator[PageRun]:
    """Where tokens after `past` others are stored in a row's pages, page by page."""
    first = tokens.start
    while first < tokens.stop:
        page, offset = divmod(past, size)
        count = min(size - offset, tokens.stop - first)
        yield PageRun(pages[page], offset, first, first + count)
        first, past = first + count, past + count


def _held(prefix: Prefix, sizes: KVStoreSizes) -> list[int]:
    if prefix.arena_range is None:
        raise ValueError(f"prefix {prefix.number} is in a step but not in the arena")
    return sizes.arena_pages(prefix.arena_range)


def _decode(rows: list[ScheduledSequence], sizes: KVStoreSizes, *, on_cpu: bool) -> StepBatch:
    page_size = sizes.page_size
    own = [row.own for row in rows]
    used = [row.pages[n // page_size] for row, n in zip(rows, own, strict=True)]
    reaches: list[_Reach] = []
    for at, row in enumerate(rows):
        if row.prefix is not None:
            _reach(reaches, row.prefix, _held(row.prefix, sizes), (at, at + 1))
    return StepBatch(
        kind=StepKind.DECODE,
        token_ids=_ints([row.token_ids[-1] for row in rows]),
        positions=_ints([row.cached for row in rows]),
        drawn=torch.arange(len(rows)),
        runs=(),
        slot_mapping=SlotMapping(_ints(used), _ints([n % page_size for n in own])),
        pieces=(),
        groups=tuple(
            _group(rows[first:last], first)
            for first, last in group_rows([-(-(n + 1) // page_size) for n in own])
        ),
        reaches=tuple(PrefixReach(_ints(r.pages), r.length, r.first, r.last) for r in reaches),
        pages=_padded(
            [(_held(row.prefix, sizes) if row.prefix else []) + row.pages for row in rows if on_cpu]
        ),
        seen=torch.tensor(
            [(at, row.cached + 1, row.shared) for at, row in enumerate(rows) if on_cpu]
        ),
    )


def _group(rows: list[ScheduledSequence], first: int) -> DecodeGroup:
    held = [len(row.pages) for row in rows]
    used = max(held)
    pages = [row.pages + [row.pages[0]] * (used - n) for row, n in zip(rows, held, strict=True)]
    lengths = _ints([row.own + 1 for row in rows])
    return DecodeGroup(first, first + len(rows), torch.tensor(pages), lengths)


_GROUP_COST = 24
"""Cost of another group, in pages read: a dozen more calls in every layer."""


def group_rows(pages: Sequence[int]) -> list[tuple[int, int]]:
    """Cut rows into runs, as (first, last + 1), so that few pages are read beyond the rows' own.

    A run reads as many pages for each row as its longest row has. Dynamic programming over the rows at which
    the number of pages changes finds the cheapest cut.
    """
    borders = [0, *(i for i in range(1, len(pages)) if pages[i] != pages[i - 1]), len(pages)]
    best: list[tuple[int, int]] = [(0, 0)]
    for at in range(1, len(borders)):
        options = []
        highest = 0
        for back in range(at - 1, max(-1, at - 33), -1):
            highest = max(highest, max(pages[borders[back] : borders[back + 1]]))
            cost = best[back][0] + _GROUP_COST + highest * (borders[at] - borders[back])
            options.append((cost, back))
        best.append(min(options))
    runs: list[tuple[int, int]] = []
    at = len(borders) - 1
    while at > 0:
        back = best[at][1]
        runs.append((borders[back], borders[at]))
        at = back
    return runs[::-1]


class _Reach(NamedTuple):
    """A `PrefixReach` before it is a tensor."""

    pages: Sequence[int]
    length: int
    first: int
    last: int


def _reach(
    reaches: list[_Reach], prefix: Prefix, pages: Sequence[int], tokens: tuple[int, int]
) -> None:
    """Add tokens that attend to a prefix; adjacent ones with the same prefix are merged."""
    (first, last), length = tokens, len(prefix.token_ids)
    if reaches and reaches[-1].last == first and reaches[-1].pages == pages:
        first = reaches.pop().first
    reaches.append(_Reach(pages, length, first, last))


def _padded(tables: Sequence[Sequence[int]]) -> Tensor:
    most = max((len(pages) for pages in tables), default=0)
    return torch.tensor([[*pages, *[0] * (most - len(pages))] for pages in tables])


def _ints(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)
