"""Attention of one new token of each row over the row's prefix and its own pages.

    for each row      scores of all its keys, a softmax for each head, the values weighted by it
    for each block    a block is one kv head in one page; while it is summed, the next one is prefetched

Why not torch: decode attention reads all keys and values once and computes little. `embedding_bag` waits for memory most of
that time, and the operations between its calls (masks, exponentials, writes of new keys, prefixes) take as long again.
"""

from collections.abc import Callable

import numpy as np

from batchgen.engines.torch.continuous.forward.kernels.jit import (
    Floats,
    Ints,
    called,
    fetch,
    inlined,
    kernel,
)
from batchgen.engines.torch.continuous.forward.kernels.softmax import softmax

_LINE = 64
"""Bytes of a cache line."""
_LANES = 16
"""Tokens whose scores are computed together: as many as fit in the widest vector registers."""

_ZERO = np.float32(0)


@inlined
def _fetch_rows(block: Ints, first: int) -> None:
    """Prefetch four rows of a block, starting at row `first`; see `_blocks`."""
    for row in range(first, min(first + 4, block[1])):
        for line in range(block[3]):
            fetch(block[0] + row * block[2] + line * _LINE)


@called
def _blocks(keys: Floats, values: Floats, pages: Ints, lengths: Ints) -> Ints:
    """The blocks in the order in which they are read, and an empty one at the end.

    Returns:
        int64 [blocks + 1, 4]: address, rows, bytes from row to row, cache lines of a row.
    """
    heads, width, size = keys.shape[1:]
    high = values.shape[3]
    count = 0
    for row in range(len(lengths)):
        count += 2 * heads * (-(-lengths[row] // size))
    blocks = np.zeros((count + 1, 4), np.int64)
    at = 0
    for row in range(len(lengths)):
        used = -(-lengths[row] // size)
        for number in range(2 * used * heads):
            turn, head = number // heads, number % heads
            page = pages[row, turn % used] * heads + head
            tokens = min(size, lengths[row] - turn % used * size)
            if turn < used:
                blocks[at, 0] = keys.ctypes.data + page * width * size * 4
                blocks[at, 1], blocks[at, 2] = width, size * 4
                blocks[at, 3] = -(-tokens * 4 // _LINE)
            else:
                blocks[at, 0] = values.ctypes.data + page * size * high * 4
                blocks[at, 1], blocks[at, 2] = tokens, high * 4
                blocks[at, 3] = -(-high * 4 // _LINE)
            at += 1
    return blocks


@inlined
def _store(k: Floats, v: Floats, keys: Floats, values: Floats, place: int) -> None:
    """Put a token's keys [kv heads, width] and values [kv heads, high] into its page."""
    for head in range(len(k)):
        for d in range(k.shape[1]):
            keys[head, d, place] = k[head, d]
        for d in range(v.shape[1]):
            values[head, place, d] = v[head, d]


@inlined
def _scaled(shape: tuple[int, int], q: Floats, scale: np.float32, queries: Floats) -> None:
    """Queries [kv heads, group, width] of q [heads, width], scaled."""
    group, width = shape
    for head in range(len(q)):
        for d in range(width):
            queries[head // group, head % group, d] = q[head, d] * scale


@inlined
def _put(shape: tuple[int, int], sums: Floats, out: Floats) -> None:
    """Sums [kv heads, group, width] as out [heads, width]."""
    group, width = shape
    for head in range(len(out)):
        for d in range(width):
            out[head, d] = sums[head // group, head % group, d]


@inlined
def _add_scores(
    shape: tuple[int, int], queries: Floats, keys: Floats, scores: Floats, count: int, next_block: Ints
) -> None:  # fmt: skip
    """Add to scores [group, count] those of queries [group, width] and a block of keys [width, count]."""
    group, width = shape
    for d in range(0, width, 4):
        _fetch_rows(next_block, d)
        a, b, c, e = keys[d], keys[d + 1], keys[d + 2], keys[d + 3]
        for t in range(count):
            for g in range(group):
                scores[g, t] += (
                    queries[g, d] * a[t]
                    + queries[g, d + 1] * b[t]
                    + queries[g, d + 2] * c[t]
                    + queries[g, d + 3] * e[t]
                )


@inlined
def _add_values(
    shape: tuple[int, int], weights: Floats, values: Floats, sums: Floats, count: int, next_block: Ints
) -> None:  # fmt: skip
    """Add to sums [group, width] `count` values [count, width] by weights [group, count]; the count is a multiple of four."""
    group, width = shape
    for t in range(0, count, 4):
        _fetch_rows(next_block, t)
        a, b, c, e = values[t], values[t + 1], values[t + 2], values[t + 3]
        for d in range(width):
            for g in range(group):
                sums[g, d] += (
                    weights[g, t] * a[d]
                    + weights[g, t + 1] * b[d]
                    + weights[g, t + 2] * c[d]
                    + weights[g, t + 3] * e[d]
                )


@inlined
def _prefix_scores(shape: tuple[int, int], queries: Floats, keys: Floats, scores: Floats) -> None:
    """Scores [group, tokens] of queries [group, width] and keys [tokens, width], which all rows read, so that they are in cache."""
    group, width = shape
    for t in range(len(keys)):
        for g in range(group):
            total = _ZERO
            for d in range(width):
                total += queries[g, d] * keys[t, d]
            scores[g, t] = total


@inlined
def _prefix_values(
    shape: tuple[int, int], weights: Floats, values: Floats, sums: Floats, nothing: Ints
) -> None:
    """Add to sums [group, width] values [tokens, width] by weights [group, tokens]."""
    group, width = shape
    fours = len(values) // 4 * 4
    _add_values(shape, weights, values, sums, fours, nothing)
    for t in range(fours, len(values)):
        for d in range(width):
            for g in range(group):
                sums[g, d] += weights[g, t] * values[t, d]


def attend(group: int, width: int, high: int) -> Callable[..., None]:  # noqa: PLR0915  all of a row's computation in one loop
    """Compile decode attention for `group` query heads per kv head, keys of `width` and values of `high` numbers.

    The arguments of the kernel, in this order:
        q: float32 [rows, heads, width].
        k: float32 [rows, kv heads, width], of the new tokens.
        v: float32 [rows, kv heads, high], of the new tokens.
        keys: float32 [pages, kv heads, width, page size]; the new ones are written.
        values: float32 [pages, kv heads, page size, high]; the new ones are written.
        prefix_keys: float32 [kv heads, arena, width].
        prefix_values: float32 [kv heads, arena, high].
        pages: int64 [rows, most pages], the pages of each row in order.
        lengths: int64 [rows], tokens in each row's own pages, including the new one.
        prefixes: int64 [rows, 2], first and last + 1 place of each row's prefix.
        scale: float32, of the scores.
        out: float32 [rows, heads, high], the result.
        mass: float32 [rows, heads], the result: log of the sum of exponentials of the scores.

    The width and the page size are multiples of four.
    """

    def decode(  # noqa: PLR0915  the same
        q: Floats, k: Floats, v: Floats,
        keys: Floats, values: Floats, prefix_keys: Floats, prefix_values: Floats,
        pages: Ints, lengths: Ints, prefixes: Ints,
        scale: np.float32, out: Floats, mass: Floats,
    ) -> None:  # fmt: skip
        heads, size = keys.shape[1], keys.shape[3]
        room = pages.shape[1] * size + np.max(prefixes[:, 1] - prefixes[:, 0]) + 2 * _LANES
        scores = np.empty((heads, group, room), np.float32)
        exponents = np.empty(room, np.int32)
        queries = np.empty((heads, group, width), np.float32)
        sums = np.empty((heads, group, high), np.float32)
        blocks = _blocks(keys, values, pages, lengths)
        nothing, next_block = blocks[-1], 1
        for row in range(len(lengths)):
            count, used = lengths[row], -(-lengths[row] // size)
            page, place = pages[row, used - 1], (count - 1) % size
            _store(k[row], v[row], keys[page], values[page], place)
            _scaled((group, width), q[row], scale, queries)
            sums[:] = _ZERO
            # Scores of the prefix, then the row's own, each padded to whole lanes.
            start, stop = prefixes[row]
            own = -(-(stop - start) // _LANES) * _LANES
            end = own + -(-count // _LANES) * _LANES
            scores[:, :, :own] = -np.inf
            scores[:, :, own:end] = _ZERO
            for head in range(heads):
                _prefix_scores(
                    (group, width), queries[head], prefix_keys[head, start:stop], scores[head]
                )
            for block in range(used * heads):
                first, head = own + block // heads * size, block % heads
                _add_scores(
                    (group, width),
                    queries[head],
                    keys[pages[row, block // heads], head],
                    scores[head, :, first : first + size],
                    min(size, end - first),
                    blocks[next_block],
                )
                next_block += 1
            scores[:, :, own + count : end] = -np.inf
            for head in range(heads * group):
                part = scores[head // group, head % group, :end]
                mass[row, head] = softmax(part, exponents)
            # Places after a row's tokens have weight 0, not nearly 0.
            scores[:, :, own + count : end] = _ZERO
            for head in range(heads):
                _prefix_values(
                    (group, high),
                    scores[head],
                    prefix_values[head, start:stop],
                    sums[head],
                    nothing,
                )
            for block in range(used * heads):
                first, head = own + block // heads * size, block % heads
                _add_values(
                    (group, high),
                    scores[head, :, first : first + size],
                    values[pages[row, block // heads], head],
                    sums[head],
                    min(size, -(-(own + count - first) // 4) * 4),
                    blocks[next_block],
                )
                next_block += 1
            _put((group, high), sums, out[row])

    return kernel(
        "void(float32[:,:,:], float32[:,:,:], float32[:,:,:],"
        " float32[:,:,:,::1], float32[:,:,:,::1], float32[:,:,::1], float32[:,:,::1],"
        " int64[:,::1], int64[::1], int64[:,::1],"
        " float32, float32[:,:,::1], float32[:,::1])",
        decode,
    )
