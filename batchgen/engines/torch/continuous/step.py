"""One step as tensors: tokens, positions, where their keys are stored and what they attend to.

The tokens of a step are concatenated, without padding:

    prefill   [prefix prefix prefix | row row | row row row row | row]
    decode    [row | row | row | ...]       longest first, in groups of similar length

Built once per step and used by every layer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.kv_store import PageRun, SlotMapping
from batchgen.planning.sequences import Prefix, ScheduledSequence, Step, StepKind


@dataclass(frozen=True, slots=True)
class RowPiece:
    """A segment of a row in a prefill: tokens first..last-1 of the forward, after `past` tokens in the row's own pages.

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
class PrefixPiece:
    """A segment of a prefix: tokens first..last-1 of the forward, after `past` tokens that begin at `start`."""

    first: int
    last: int
    past: int
    start: int


@dataclass(frozen=True, slots=True)
class PrefixReach:
    """Tokens first..last-1 of the forward attend to a prefix at `slots` of the arena."""

    slots: range
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
        runs: the same for consecutive tokens; prefixes have neither.
        pieces: of a prefill, and
        groups: of a decode.
        reaches: which tokens attend to which prefix.
    """

    kind: StepKind
    token_ids: Tensor
    positions: Tensor
    drawn: Tensor
    slot_mapping: SlotMapping
    runs: tuple[PageRun, ...]
    pieces: tuple[RowPiece | PrefixPiece, ...]
    groups: tuple[DecodeGroup, ...]
    reaches: tuple[PrefixReach, ...]


def build_step_batch(step: Step, page_size: int, device: torch.device) -> StepBatch:
    """The tensors of a step, for which its rows already have pages."""
    if step.kind is StepKind.DECODE:
        return _decode(step.rows, page_size, device)
    return _prefill(step, page_size, device)


def _prefill(step: Step, page_size: int, device: torch.device) -> StepBatch:
    token_ids: list[int] = []
    positions: list[int] = []
    drawn: list[int] = []
    runs: list[PageRun] = []
    pieces: list[RowPiece | PrefixPiece] = []
    reaches: list[PrefixReach] = []
    on_cpu = device.type == "cpu"
    for segment in step.segments:
        owner, first = segment.owner, len(token_ids)
        last = first + segment.count
        start = owner.computed if isinstance(owner, Prefix) else owner.cached
        token_ids += owner.token_ids[start : start + segment.count]
        positions += range(start, start + segment.count)
        drawn += range(last - segment.drawn, last)
        if isinstance(owner, Prefix):
            pieces.append(PrefixPiece(first, last, start, _held(owner).start))
            continue
        past = owner.own
        runs += _runs(owner.pages, page_size, past, range(first, last))
        held = owner.pages[: -(-past // page_size)]
        pieces.append(RowPiece(first, last, past, _ints(held, device), owner.shared))
        if owner.prefix is not None:
            _reach(reaches, owner.prefix, first, last)
    # On a CPU, runs replace the mapping.
    slots = [(r.page, r.offset + n) for r in runs if not on_cpu for n in range(r.last - r.first)]
    return StepBatch(
        kind=step.kind,
        token_ids=_ints(token_ids, device),
        positions=_ints(positions, device),
        drawn=_ints(drawn, device),
        slot_mapping=SlotMapping(
            _ints([page for page, _ in slots], device), _ints([at for _, at in slots], device)
        ),
        runs=tuple(runs) if on_cpu else (),
        pieces=tuple(pieces),
        groups=(),
        reaches=tuple(reaches),
    )


def _runs(pages: Sequence[int], size: int, past: int, tokens: range) -> Iterator[PageRun]:
    """Where tokens after `past` others are stored in a row's pages, page by page."""
    first = tokens.start
    while first < tokens.stop:
        page, offset = divmod(past, size)
        count = min(size - offset, tokens.stop - first)
        yield PageRun(pages[page], offset, first, first + count)
        first, past = first + count, past + count


def _held(prefix: Prefix) -> range:
    if prefix.arena_range is None:
        raise ValueError(f"prefix {prefix.number} is in a step but not in the arena")
    return prefix.arena_range


def _decode(rows: list[ScheduledSequence], page_size: int, device: torch.device) -> StepBatch:
    own = [row.own for row in rows]
    used = [row.pages[n // page_size] for row, n in zip(rows, own, strict=True)]
    reaches: list[PrefixReach] = []
    for at, row in enumerate(rows):
        if row.prefix is not None:
            _reach(reaches, row.prefix, at, at + 1)
    return StepBatch(
        kind=StepKind.DECODE,
        token_ids=_ints([row.token_ids[-1] for row in rows], device),
        positions=_ints([row.cached for row in rows], device),
        drawn=torch.arange(len(rows), device=device),
        runs=(),
        slot_mapping=SlotMapping(_ints(used, device), _ints([n % page_size for n in own], device)),
        pieces=(),
        groups=tuple(
            _group(rows[first:last], first, device)
            for first, last in group_rows([-(-(n + 1) // page_size) for n in own])
        ),
        reaches=tuple(reaches),
    )


def _group(rows: list[ScheduledSequence], first: int, device: torch.device) -> DecodeGroup:
    held = [len(row.pages) for row in rows]
    used = max(held)
    pages = [row.pages + [row.pages[0]] * (used - n) for row, n in zip(rows, held, strict=True)]
    lengths = _ints([row.own + 1 for row in rows], device)
    return DecodeGroup(first, first + len(rows), torch.tensor(pages, device=device), lengths)


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


def _reach(reaches: list[PrefixReach], prefix: Prefix, first: int, last: int) -> None:
    """Add tokens that attend to a prefix; adjacent ones with the same prefix are merged."""
    slots = _held(prefix)
    if reaches and reaches[-1].slots == slots and reaches[-1].last == first:
        first = reaches.pop().first
    reaches.append(PrefixReach(slots, first, last))


def _ints(values: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)
