"""Attention of tokens over the pages of their rows: prompts and new tokens, with and without a shared prefix.

    pages of a token     [prefix][prefix][pre.|][own][own][o.|]     every page but the last of the prefix and the last is full
    its scores           contiguous, in the order of its tokens

    for each tile        tokens with pages in common, and for each kv head
        scores           of all tokens in the pages that they have in common, then of each token in its other pages
        softmax          of each token and head
        values           in the same order

A token's numbers are the same, bit by bit, in any tile: each score and each value is one chain of additions in the order of
the tokens (`product.py`), and the softmax sees the same scores, whether the prefix is shared or not. While a block (one kv
head in one page) is computed, the next one is prefetched.

Why not torch: it reads all keys and values with more operations between its calls, and its results depend on their shapes.
"""

from collections.abc import Callable

import numpy as np

from batchgen.engines.torch.continuous.forward.kernels.jit import (
    Floats,
    Ints,
    Numbers,
    called,
    inlined,
    kernel,
    wide,
)
from batchgen.engines.torch.continuous.forward.kernels.product import LINE, add_product, lanes_of
from batchgen.engines.torch.continuous.forward.kernels.softmax import softmax

_ZERO = np.float32(0)
_COLUMNS = 8
_PADDING = 16
"""The softmax sees a multiple of so many scores."""


@inlined
def _start(number: int, shared: int, size: int) -> int:
    """The first token of a row's page."""
    of_prefix = -(-shared // size)
    return number * size if number < of_prefix else shared + (number - of_prefix) * size


@inlined
def _used(count: int, shared: int, size: int) -> int:
    """The number of pages with a row's first tokens."""
    if count <= shared:
        return -(-count // size)
    return -(-shared // size) + -(-(count - shared) // size)


@inlined
def _put_blocks(
    blocks: Ints, arrays: tuple[Numbers, Numbers], pages: Ints, head: tuple[int, int], token: Ints,
    numbers: tuple[int, int], queries: tuple[int, int],
) -> None:  # fmt: skip
    """The blocks of a token's pages `numbers`, for the kv head, of keys or values."""
    keys, values = arrays
    (width, size), high, item = keys.shape[2:], values.shape[3], keys.itemsize
    row, count, shared = token
    for number in range(numbers[0], numbers[1]):
        begin = _start(number, shared, size)
        end = min(begin + size, shared if begin < shared else count)
        block, page = blocks[number - numbers[0]], pages[row, number] * len(keys[0]) + head[0]
        if head[1] == 0:
            block[0] = keys.ctypes.data + page * width * size * item
            block[1], block[2], block[3] = width, size * item, -(-(end - begin) * item // LINE)
        else:
            block[0] = values.ctypes.data + page * size * high * item
            block[1], block[2], block[3] = end - begin, high * item, -(-high * item // LINE)
        block[4], block[5], block[6], block[7] = begin, end - begin, queries[0], queries[1]


@called
def _blocks(
    keys: Numbers, values: Numbers, pages: Ints, tokens: Ints, tiles: Ints, group: int
) -> tuple[Ints, Ints]:
    """The blocks in the order in which they are read, and an empty one at the end.

    Returns:
        int64 [blocks + 1, 8]: address, rows, bytes from row to row, cache lines of a row; first token and number of tokens; first
        row of the queries and number of these rows.
        int64 [tiles]: blocks of keys of each tile, for one kv head; as many are of values.
    """
    heads, size = keys.shape[1], keys.shape[3]
    used = np.zeros(len(tokens), np.int64)
    counts = np.zeros(len(tiles), np.int64)
    for tile in range(len(tiles)):
        first, last, common = tiles[tile]
        counts[tile] = common
        for token in range(first, last):
            used[token] = max(common, _used(tokens[token, 1], tokens[token, 2], size))
            counts[tile] += used[token] - common
    blocks = np.zeros((2 * heads * np.sum(counts) + 1, _COLUMNS), np.int64)
    at = 0
    for tile in range(len(tiles)):
        first, last, common = tiles[tile]
        for turn in range(2 * heads):
            head = turn // 2, turn % 2
            # The last token sees most.
            queries = 0, (last - first) * group
            _put_blocks(
                blocks[at:], (keys, values), pages, head, tokens[last - 1], (0, common), queries
            )
            at += common
            for token in range(first, last):
                queries = (token - first) * group, group
                numbers = common, used[token]
                _put_blocks(
                    blocks[at:], (keys, values), pages, head, tokens[token], numbers, queries
                )
                at += used[token] - common
    return blocks, counts


@inlined
def _store(k: Numbers, v: Numbers, keys: Numbers, values: Numbers, place: int) -> None:
    """Put a token's keys [kv heads, width] and values [kv heads, high] into its page."""
    for head in range(len(k)):
        for d in range(k.shape[1]):
            keys[head, d, place] = k[head, d]
        for d in range(v.shape[1]):
            values[head, place, d] = v[head, d]


@inlined
def _run(tokens: Ints, first: int, most: int) -> int:
    """The number of tokens from `first` on, at most so many, that follow each other in a row."""
    row, count, shared = tokens[first]
    last = first + 1
    while (
        last < min(first + most, len(tokens))
        and tokens[last, 0] == row
        and tokens[last, 1] == count + last - first
        and tokens[last, 2] == shared
    ):
        last += 1
    return last - first


@inlined
def _store_run(k: Numbers, v: Numbers, keys: Numbers, values: Numbers, place: int) -> None:
    """Put keys [tokens, width] and values [tokens, high] of one head into its part of a page, from a place on."""
    for d in range(k.shape[1]):
        for n in range(len(k)):
            keys[d, place + n] = k[n, d]
    for n in range(len(v)):
        for d in range(v.shape[1]):
            values[place + n, d] = v[n, d]


@inlined
def put_tokens(
    k: Numbers, v: Numbers, keys: Numbers, values: Numbers, pages: Ints, tokens: Ints
) -> None:
    """The kernel `put`: tokens that follow each other in a page are stored together, since its keys are transposed."""
    size, token = keys.shape[3], 0
    while token < len(tokens):
        row, count, shared = tokens[token]
        own = count - shared - 1
        page, place = pages[row, -(-shared // size) + own // size], own % size
        run = _run(tokens, token, size - place)
        last = token + run
        for head in range(k.shape[1]):
            _store_run(
                k[token:last, head],
                v[token:last, head],
                keys[page, head],
                values[page, head],
                place,
            )
        token += run


def put(number: str) -> Callable[..., None]:
    """Compile the storing of new keys and values; the arguments are those of `attend`, in this order: k, v, keys, values, pages, tokens."""

    def store(
        k: Numbers, v: Numbers, keys: Numbers, values: Numbers, pages: Ints, tokens: Ints
    ) -> None:
        put_tokens(k, v, keys, values, pages, tokens)

    return kernel(
        f"void({number}[:,:,:], {number}[:,:,:], {number}[:,:,:,::1], {number}[:,:,:,::1], int64[:,::1], int64[:,::1])",
        store,
    )


@inlined
def _scaled(group: int, q: Numbers, head: int, scale: np.float32, queries: Floats) -> None:
    """Queries [tokens x group, width] of a kv head in q [tokens, heads, width], scaled."""
    for row in range(len(q) * group):
        for d in range(q.shape[2]):
            queries[row, d] = wide(q[row // group, head * group + row % group, d]) * scale


@inlined
def attend_tiles(  # noqa: C901, PLR0915  all of a tile's computation in one loop
    group: int, widths: tuple[int, int, int, int], q: Numbers, k: Numbers, v: Numbers, keys: Numbers, values: Numbers,
    pages: Ints, tokens: Ints, tiles: Ints,
    scale: np.float32, out: Floats, mass: Floats,
) -> None:  # fmt: skip
    """The kernel `attend`; constant: query heads per kv head, numbers of a key and of a value, columns of them at a time."""
    width, high, key_lanes, value_lanes = widths
    heads, size = keys.shape[1], keys.shape[3]
    most = np.max(tiles[:, 1] - tiles[:, 0]) * group
    room = np.max(tokens[:, 1]) // _PADDING * _PADDING + 3 * _PADDING
    scores = np.empty((most, room), np.float32)
    exponents = np.empty(room, np.int32)
    queries = np.empty((most, width), np.float32)
    sums = np.empty((most, high), np.float32)
    a, b, c = queries.ctypes.data, scores.ctypes.data, sums.ctypes.data
    blocks, counts = _blocks(keys, values, pages, tokens, tiles, group)
    at = 0
    for tile in range(len(tiles)):  # noqa: PLR1702  the same
        first, last = tiles[tile, 0], tiles[tile, 1]
        rows, half, shared = (last - first) * group, counts[tile], tokens[first, 2]
        for token in range(first, min(last, len(k))):
            own = tokens[token, 1] - shared - 1
            page = pages[tokens[token, 0], -(-shared // size) + own // size]
            _store(k[token], v[token], keys[page], values[page], own % size)
        for head in range(heads):
            _scaled(group, q[first:last], head, scale, queries)
            scores[:rows] = _ZERO
            sums[:rows] = _ZERO
            for index in range(at, at + half):
                block = blocks[index]
                row, begin = block[6], block[4]
                columns = -(-block[5] // key_lanes) * key_lanes
                add_product(
                    key_lanes, a + row * width * 4, width * 4, block[0], block[2],
                    b + (row * room + begin) * 4, room * 4,
                    (block[7], columns, width), blocks[index + 1], keys,
                )  # fmt: skip
                if begin < shared:
                    scores[row : row + block[7], begin + block[5] : begin + columns] = _ZERO
            at += half
            for row in range(rows):
                count = tokens[first + row // group, 1]
                end = -(-count // _PADDING) * _PADDING
                scores[row, count:end] = -np.inf
                mass[first + row // group, head * group + row % group] = softmax(
                    scores[row, :end], exponents
                )
                # Places after a token have weight 0, not nearly 0.
                scores[row, count:] = _ZERO
            for index in range(at, at + half):
                block = blocks[index]
                row = block[6]
                add_product(
                    value_lanes, b + (row * room + block[4]) * 4, room * 4, block[0], block[2],
                    c + row * high * 4, high * 4,
                    (block[7], high, block[5]), blocks[index + 1], values,
                )  # fmt: skip
            at += half
            for row in range(rows):
                out[first + row // group, head * group + row % group] = sums[row]


def attend(group: int, widths: tuple[int, int, int], number: str) -> Callable[..., None]:
    """Compile attention for `group` query heads per kv head; `widths`: numbers of a key and of a value, tokens of a page.

    A number is a float32, or an int16 with the bits of a bfloat16. The arguments of the kernel, in this order:
        q: numbers [tokens, heads, width].
        k: numbers [tokens, kv heads, width]; empty if they are stored.
        v: numbers [tokens, kv heads, high]; empty if they are stored.
        keys: numbers [pages, kv heads, width, page size].
        values: numbers [pages, kv heads, page size, high].
        pages: int64 [rows, most pages], the pages of each row in order, those of its prefix first.
        tokens: int64 [tokens, 3], of each token: its row, the tokens that it attends to, and those of them in a prefix.
        tiles: int64 [tiles, 3]: first and last + 1 token, all with the same prefix, and the number of first pages in common; with k,
            none of them has a new token.
        scale: float32, of the scores.
        out: float32 [tokens, heads, high], the result.
        mass: float32 [tokens, heads], the result: log of the sum of exponentials of the scores.

    The numbers of a value and the page size are multiples of four.
    """
    width, high, page = widths
    key_lanes, value_lanes = lanes_of(page), lanes_of(high)

    def paged(
        q: Numbers, k: Numbers, v: Numbers, keys: Numbers, values: Numbers,
        pages: Ints, tokens: Ints, tiles: Ints,
        scale: np.float32, out: Floats, mass: Floats,
    ) -> None:  # fmt: skip
        attend_tiles(
            group, (width, high, key_lanes, value_lanes), q, k, v, keys, values, pages, tokens, tiles, scale, out, mass
        )  # fmt: skip

    return kernel(
        f"void({number}[:,:,:], {number}[:,:,:], {number}[:,:,:],"
        f" {number}[:,:,:,::1], {number}[:,:,:,::1],"
        " int64[:,::1], int64[:,::1], int64[:,::1],"
        " float32, float32[:,:,::1], float32[:,::1])",
        paged,
    )
