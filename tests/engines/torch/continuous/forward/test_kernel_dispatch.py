"""Attention compiled by numba: equal to float64 within rounding, and bit-identical in any batch and any steps."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward import kernel_dispatch as compiled
from batchgen.engines.torch.continuous.forward.attention import (
    AttentionRule,
    LayerQkv,
    PartialAttention,
)
from batchgen.engines.torch.continuous.forward.kernel_dispatch import (
    TokenLayout,
    kernel_attention,
    kernel_supports_attention,
)
from batchgen.engines.torch.continuous.forward.processor import has_bfloat16_products
from batchgen.engines.torch.continuous.forward.step_attention import StepAttention
from batchgen.engines.torch.continuous.kv_store import KVLayer, KVStore, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.step import build_step_batch
from batchgen.planning.sequences import Prefix, ScheduledSequence, Segment, Step, StepKind

pytestmark = pytest.mark.skipif(find_spec("numba") is None, reason="no numba for this Python")

LENGTHS = [1, 7, 8, 9, 16, 40, 33, 15]
PREFIXES = [0, 21, 0, 21, 21, 1, 0, 64]
"""Tokens of each row's own, and of its prefix; the three rows with 21 have the same one."""
HEADS, PAGE = 2, 8
HALF = torch.bfloat16
DTYPES = (torch.float32, HALF)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def pages_of(tokens: int) -> int:
    return -(-tokens // PAGE)


def filled(layer: KVLayer) -> KVLayer:
    layer.keys.copy_(drawn(*layer.keys.shape))
    layer.values.copy_(drawn(*layer.values.shape))
    return layer


def case(
    group: int, width: int, high: int, dtype: torch.dtype = torch.float32
) -> tuple[LayerQkv, KVLayer, TokenLayout]:
    rows = len(LENGTHS)
    shapes = ((rows, group * HEADS, width), (rows, HEADS, width), (rows, HEADS, high))
    q, k, v = (drawn(*shape).to(dtype) for shape in shapes)
    new = LayerQkv(0, q, k, v, AttentionRule(0.3))
    prefixes = {shared: pages_of(shared) for shared in PREFIXES}
    held = [*prefixes.values(), *map(pages_of, LENGTHS)]
    order = torch.randperm(sum(held), generator=torch.Generator().manual_seed(0)).split(held)
    of_prefixes = dict(zip(prefixes, order[: len(prefixes)], strict=True))
    own = order[len(prefixes) :]
    pages = [torch.cat([of_prefixes[n], o]) for n, o in zip(PREFIXES, own, strict=True)]
    counts = [(n, own + shared, shared) for n, (own, shared) in enumerate(zip(LENGTHS, PREFIXES, strict=True))]  # fmt: skip
    layer = KVLayer.like(new.k, new.v, KVStoreSizes(sum(held), PAGE, 0), private_zeros)
    padded = torch.nn.utils.rnn.pad_sequence(pages, batch_first=True)
    return new, filled(layer), TokenLayout(padded, torch.tensor(counts))


def copied(layer: KVLayer) -> KVLayer:
    return KVLayer(layer.keys.clone(), layer.values.clone())


def read(layer: KVLayer, held: TokenLayout, row: int) -> tuple[Tensor, Tensor]:
    """Keys and values of a row, those of its prefix first."""
    of_prefix = pages_of(PREFIXES[row])
    shared = layer.read(held.pages[row, :of_prefix], PREFIXES[row])
    own = layer.read(held.pages[row, of_prefix:], LENGTHS[row])
    keys, values = (torch.cat(parts, dim=1) for parts in zip(shared, own, strict=True))
    return keys, values


def wanted(new: LayerQkv, layer: KVLayer, held: TokenLayout, scale: float) -> PartialAttention:
    """Reference attention in float64, row by row, on the layer after the new tokens are stored."""
    values, mass = [], []
    for row in range(len(LENGTHS)):
        keys, seen = (tensor.double() for tensor in read(layer, held, row))
        q = new.q[row].double().view(HEADS, -1, new.q.shape[2])
        scores = q @ keys.transpose(1, 2) * scale
        values.append((scores.softmax(-1) @ seen).flatten(0, 1))
        mass.append(scores.logsumexp(-1).flatten())
    return PartialAttention(torch.stack(values), torch.stack(mass))


def last_place(held: TokenLayout, row: int) -> tuple[int, int]:
    """Page and offset of a row's new token."""
    number, offset = divmod(LENGTHS[row] - 1, PAGE)
    return int(held.pages[row, pages_of(PREFIXES[row]) + number]), offset


@pytest.mark.parametrize(
    ("group", "width", "high"),
    [(1, 8, 8), (3, 64, 64), (4, 12, 20)],
    ids=["every head its own keys", "the demo model's", "values of another width"],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_is_that_of_float64(
    group: int, width: int, high: int, dtype: torch.dtype
) -> None:
    assert compiled.attention_works(group, (width, high, PAGE), dtype)
    new, layer, held = case(group, width, high, dtype)
    before = copied(layer)
    found = kernel_attention(new, layer, held, stored=False)
    for row in range(len(LENGTHS)):
        page, place = last_place(held, row)
        before.keys[page, :, :, place] = new.k[row]
        before.values[page, :, place] = new.v[row]
    assert torch.equal(layer.keys, before.keys)
    assert torch.equal(layer.values, before.values)
    oracle = wanted(new, before, held, 0.3)
    assert found.values.dtype == torch.float32
    torch.testing.assert_close(found.values.double(), oracle.values, rtol=0, atol=2e-6)
    torch.testing.assert_close(found.mass.double(), oracle.mass, rtol=1e-6, atol=2e-6)


TOKENS = 45


def prompt(dtype: torch.dtype) -> LayerQkv:
    q, k, v = (drawn(TOKENS, heads, 64).to(dtype) for heads in (6, 2, 2))
    return LayerQkv(0, q, k, v, AttentionRule(0.3))


def attended(new: LayerQkv, shared: int, *cuts: int) -> Tensor:
    """Attention of a prompt's tokens after a shared prefix, in steps that end at `cuts`."""
    store = KVStore(KVStoreSizes(8, PAGE, 8 * PAGE), private_zeros)
    row = ScheduledSequence(0, [0] * TOKENS, TOKENS, 9, pages=[5, 1, 4, 0, 7, 2])
    owners: list[tuple[ScheduledSequence | Prefix, int]] = [(row, end) for end in cuts]
    if shared:
        prefix = Prefix(1, [0] * shared, users=2, arena_range=range(PAGE, PAGE + shared))
        row.prefix, row.cached = prefix, shared
        owners.insert(0, (prefix, shared))
    found, begin = [], 0
    for owner, end in owners:
        step = Step(StepKind.PREFILL, (Segment(owner, end - begin, 0),))
        batch = build_step_batch(step, store.sizes, torch.device("cpu"))
        at = slice(begin, end)
        found.append(
            StepAttention(batch, store)(replace(new, q=new.q[at], k=new.k[at], v=new.v[at]))
        )
        if isinstance(owner, ScheduledSequence):
            owner.cached = end
        begin = end
    return torch.cat(found)


@pytest.mark.parametrize(
    ("shared", "cuts"),
    [(0, (1, 2, 8, 9, 30, TOKENS)), (21, (TOKENS,)), (8, (33, TOKENS)), (44, (TOKENS,))],
    ids=["in many steps", "after a prefix", "both", "one token after a prefix"],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_prompt_has_the_same_bits_in_any_steps_and_with_any_prefix(
    shared: int, cuts: tuple[int, ...], dtype: torch.dtype
) -> None:
    new = prompt(dtype)
    assert torch.equal(attended(new, shared, *cuts), attended(new, 0, TOKENS))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_token_has_the_same_bits_in_a_prompt_and_decoded(dtype: torch.dtype) -> None:
    new = prompt(dtype)
    whole = attended(new, 0, TOKENS)
    store = KVStore(KVStoreSizes(6, PAGE, 0), private_zeros)
    row = ScheduledSequence(0, [0], 1, TOKENS, pages=list(range(6)))
    for at in range(TOKENS):
        step = Step(StepKind.DECODE, (Segment(row, 1, 1),))
        batch = build_step_batch(step, store.sizes, torch.device("cpu"))
        one = slice(at, at + 1)
        fresh = replace(new, q=new.q[one], k=new.k[one], v=new.v[one])
        assert torch.equal(StepAttention(batch, store)(fresh), whole[one])
        row.cached += 1
        row.token_ids.append(0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_merges_parts_to_the_same_attention(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = prompt(dtype)
    whole = attended(new, 0, TOKENS)
    monkeypatch.setattr(compiled, "kernel_supports_attention", lambda *_: False)
    rounding = torch.finfo(dtype).eps if dtype == HALF else 0.0
    # Where the processor multiplies bfloat16, torch also rounds weights of values.
    smallest = max(1e-5, 2 * rounding) if has_bfloat16_products() else 1e-5
    for shared, cuts in ((0, (8, 30, TOKENS)), (21, (33, TOKENS))):
        found = attended(new, shared, *cuts)
        torch.testing.assert_close(found, whole, rtol=rounding, atol=smallest)


def test_scores_far_apart_neither_overflow_nor_vanish() -> None:
    new, layer, held = case(1, 8, 8)
    new = replace(new, q=new.q * 300, rule=AttentionRule(1.0))
    found = kernel_attention(new, layer, held, stored=False)
    oracle = wanted(new, layer, held, 1.0)
    torch.testing.assert_close(found.values.double(), oracle.values, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.mass.double(), oracle.mass, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_bit_identical_in_any_batch(dtype: torch.dtype) -> None:
    new, layer, held = case(3, 64, 64, dtype)
    together = kernel_attention(new, layer, held, stored=False)
    for row in range(len(LENGTHS)):
        one = slice(row, row + 1)
        alone = kernel_attention(
            replace(new, q=new.q[one], k=new.k[one], v=new.v[one]),
            layer,
            TokenLayout(held.pages[one], held.seen[one] * torch.tensor([0, 1, 1])),
            stored=False,
        )
        assert torch.equal(alone.values, together.values[one])
        assert torch.equal(alone.mass, together.mass[one])


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_nonfinite_values_affect_only_their_row(odd: float, where: str) -> None:
    new, layer, held = case(1, 8, 8)
    clean = kernel_attention(new, layer, held, stored=False).values
    tensor = getattr(new, where).clone()
    tensor[3, 0, 1] = odd
    found = kernel_attention(replace(new, **{where: tensor}), layer, held, stored=False).values
    oracle = wanted(replace(new, **{where: tensor}), layer, held, 0.3).values
    assert torch.equal(found.isfinite(), oracle.isfinite())
    others = [row for row in range(len(LENGTHS)) if row != 3]
    assert torch.equal(found[others], clean[others])


def test_memory_after_the_tokens_of_a_row_is_not_read() -> None:
    new, layer, held = case(1, 8, 8)
    clean = kernel_attention(new, layer, held, stored=False).values
    for row in range(len(LENGTHS)):
        page, place = last_place(held, row)
        layer.keys[page, :, :, place + 1 :] = torch.nan
        layer.values[page, :, place + 1 :] = torch.nan
        of_prefix, used = pages_of(PREFIXES[row]), PREFIXES[row] % PAGE
        if used:
            layer.keys[held.pages[row, of_prefix - 1], :, :, used:] = torch.nan
            layer.values[held.pages[row, of_prefix - 1], :, used:] = torch.nan
    assert torch.equal(kernel_attention(new, layer, held, stored=False).values, clean)


def test_tiles_have_tokens_of_one_row_or_rows_with_one_prefix() -> None:
    _, _, held = case(1, 8, 8)
    alone = [(0, 1, 0), (1, 2, 3), (2, 3, 0), (3, 5, 3), (5, 6, 1), (6, 7, 0), (7, 8, 8)]
    assert held.tiles(8, PAGE).tolist() == [list(tile) for tile in alone]
    seen = [(0, count, 5) for count in range(11, 21)]
    prompt = TokenLayout(torch.zeros(1, 3, dtype=torch.int64), torch.tensor(seen))
    assert prompt.tiles(4, PAGE).tolist() == [[0, 4, 3], [4, 8, 3], [8, 10, 3]]


@pytest.mark.parametrize(("threads", "runs"), [(1, 1), (2, 2), (3, 3), (50, 4)])
def test_threads_compute_runs_of_tiles_with_the_same_bits(threads: int, runs: int) -> None:
    new, layer, held = case(3, 64, 64)
    wanted = kernel_attention(new, copied(layer), held, stored=False)
    tokens = sum(LENGTHS) + sum(PREFIXES)
    enough = TokenLayout(held.pages, held.seen)
    tiles = enough.tiles(8, PAGE)
    many = enough.runs(tiles, threads, token_bytes=8_000_000 // tokens + 1)
    assert len(many) == runs
    key = len(tiles), torch.get_num_threads(), new.k[0].nbytes + new.v[0].nbytes
    enough.plans[key] = many
    found = kernel_attention(new, copied(layer), enough, stored=False)
    assert torch.equal(found.values, wanted.values)
    assert torch.equal(found.mass, wanted.mass)


def test_other_kinds_of_attention_use_torch() -> None:
    new, layer, _ = case(1, 8, 8)
    assert kernel_supports_attention(new, layer)
    assert not kernel_supports_attention(replace(new, q=new.q.double()), layer)
    assert not kernel_supports_attention(replace(new, rule=AttentionRule(1.0, window=4)), layer)
    assert not kernel_supports_attention(replace(new, rule=AttentionRule(1.0, softcap=30.0)), layer)
    assert not compiled.attention_works(1, (8, 6, 8))
    assert not compiled.attention_works(1, (8, 8, 6))
    assert not compiled.attention_works(17, (8, 8, 8))


IMPORTS = """
from batchgen.engines.torch.continuous.forward import kernel_dispatch as compiled
from batchgen.engines.torch.continuous.forward.kernel_check import kernel_facts
from batchgen.engines.torch.continuous.forward import row_kernels
"""


def printed(program: str, **environment: str) -> str:
    """The output of a program in a separate process."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{IMPORTS}\n{program}",
        ],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return done.stdout.strip()


WORKS = "print(row_kernels.norm_works(), compiled.attention_works(1, (8, 8, 8)))"
JIT = "batchgen.engines.torch.continuous.forward.kernels.jit"
FACTS = "import torch; f = kernel_facts(torch.ones(1)); print(f['attention'], f['norm'], sep='|')"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        pytest.param(
            "import sys; sys.modules['numba'] = None", "numba is not installed", id="not installed"
        ),
        pytest.param(
            "import numba; numba.config.DISABLE_JIT = 1",
            "NUMBA_DISABLE_JIT is set",
            id="switched off",
            marks=pytest.mark.soak,
        ),
        pytest.param(
            f"import sys; sys.modules[{JIT!r}] = None",
            f"ModuleNotFoundError: import of {JIT} halted; None in sys.modules",
            id="a module of our own is missing",
            marks=pytest.mark.soak,
        ),
        pytest.param(
            "compiled.drawn = row_kernels.drawn = lambda *shape: torch.full(shape, torch.nan)",
            "its results differ from those of torch",
            id="wrong results",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_torch_replaces_kernels_that_cannot_be_used_and_the_facts_have_the_reason(
    program: str, reason: str
) -> None:
    found = printed(f"import torch\n{program}\n{WORKS}\n{FACTS}").splitlines()
    assert found == ["False False", f"torch: {reason}|torch: {reason}"]


@pytest.mark.soak
@pytest.mark.parametrize("broken", ["__init__.py", "extending.py"])
def test_torch_replaces_kernels_where_numba_is_broken(tmp_path: Path, broken: str) -> None:
    package = tmp_path / "numba"
    package.mkdir()
    (package / "__init__.py").write_text("class config: DISABLE_JIT = 0")
    (package / broken).write_text("raise ImportError('Numba needs an older NumPy')")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    works, facts = printed(f"{program}\n{WORKS}\n{FACTS}").splitlines()
    assert works == "False False"
    assert facts.startswith("torch: ImportError: ")


@pytest.mark.soak
def test_the_facts_name_the_kernels_in_use() -> None:
    assert printed(f"{WORKS}\n{FACTS}").splitlines() == ["True True", "numba|numba"]
    double = FACTS.replace("ones(1)", "ones(1).double()")
    assert printed(f"{WORKS}\n{double}").splitlines() == ["True True", "torch|torch"]


@pytest.mark.soak
def test_each_kernel_is_cached_in_separate_files(tmp_path: Path) -> None:
    # Two processes that start at once could corrupt a cache that numba shares between kernels.
    submitted = "print(*(compiled.attention_works(1, (8, high, 8)) for high in (8, 12)))"
    assert printed(submitted, NUMBA_CACHE_DIR=str(tmp_path)) == "True True"
    for ending in ("nbi", "1.nbc"):
        assert len(list(tmp_path.rglob(f"*.{ending}"))) == 2


@pytest.mark.soak
def test_a_broken_or_missing_cache_only_recompiles_kernels(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    submitted = "print(row_kernels.norm_works())"
    assert printed(submitted, NUMBA_CACHE_DIR=str(cache)) == "True"
    kept = list(cache.rglob("*.nb?"))
    assert len(kept) == 2
    for file in kept:
        file.write_bytes(file.read_bytes()[:100])
    assert printed(submitted, NUMBA_CACHE_DIR=str(cache)) == "True"
    assert printed(submitted, NUMBA_CACHE_DIR="/dev/null/nowhere") == "True"


BITS = """
import hashlib, torch
from batchgen.engines.torch.continuous.forward.products.compiled_linear import CompiledLinear, products_work
for page in {pages}:
    case = compiled._case(3, (64, 64, page), torch.float32)
    part = compiled.kernel_attention(*case, stored=False)
    print(page, hashlib.sha256(part.values.numpy().tobytes()).hexdigest())
if products_work():
    gate, up, x = (row_kernels.drawn(*shape) for shape in ((128, 40), (192, 40), (7, 40)))
    gated = CompiledLinear(gate, None).gated(x, CompiledLinear(up[:128], None))
    print("gated", hashlib.sha256(gated.numpy().tobytes()).hexdigest())
from batchgen.engines.torch.continuous.forward.products.tile_linear import tiles_work
if tiles_work():
    from tests.engines.torch.continuous.forward.test_compiled_layers import logit_bits
    print("layers", logit_bits("qwen3"))
"""


@pytest.mark.soak
def test_kernels_compute_the_same_bits_when_they_are_compiled_and_when_they_are_loaded(
    tmp_path: Path,
) -> None:
    # A row that a run repeats on the next day must have the same answer.
    first = printed(BITS.format(pages=(4, 64)), NUMBA_CACHE_DIR=str(tmp_path))
    for pages in ((4, 64), (64, 4)):
        later = printed(BITS.format(pages=pages), NUMBA_CACHE_DIR=str(tmp_path))
        assert sorted(later.splitlines()) == sorted(first.splitlines())
