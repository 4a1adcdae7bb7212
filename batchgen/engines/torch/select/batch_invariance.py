"""Tests whether a row's logits are bit-identical in any batch. The result is reported, not guaranteed.

A few short prompts run alone, and then once for each way in which a batch changes a step:

    with another row              matrix products with more rows
    with a much longer row        decode reads as many pages as the longest row of a group has
    after a row                   the token budget of the step splits the prompt: torch merges attention from two parts
    with a shared prefix          its tokens are computed in an earlier step and stored in other pages; merged as well
    in a large step               products with so many rows that another kernel is used
    with one thread               a worker process computes a part of a step; the other cases use all threads
    computed again                an answer is part of a prefill after its row was preempted

Workers also make products with fewer rows: the first case again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from batchgen.engines.torch.continuous.continuous_tier import BatchShape, StepBackend
from batchgen.engines.torch.continuous.kv_store import KVStore, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.workers import Forward, InProcess, LogitsSpec
from batchgen.engines.torch.select.continuous_probe import LogitRecorder, run_requests
from batchgen.engines.torch.select.parity_probe import LogitRecord
from batchgen.engines.torch.select.row_count_probe import threads
from batchgen.planning.kv_cache_plan import PAGE_TOKENS
from batchgen.records import Request, ResolvedDecoding

_SIZES = KVStoreSizes(pages=16, page_size=PAGE_TOKENS, arena=PAGE_TOKENS)
_WHOLE = BatchShape(rows=12, step_tokens=512, share_prefixes=False)
_PREFIX = 18
_MANY, _LENGTH = 8, 28
"""Number and length of the prompts that make a step large."""
_ONE, _TWO = ResolvedDecoding(max_new_tokens=1), ResolvedDecoding(max_new_tokens=2)
_GIANT = 2 * PAGE_TOKENS + 20
"""Length of a row that has more pages than the others."""


_ROWS, _LONGER, _LARGE = "with another row", "with a much longer row", "in a large step"
_ONE_THREAD, _AGAIN = "with one thread", "computed again"


@dataclass(frozen=True, slots=True)
class BatchInvariance:
    """The tested batch compositions: those that changed no bit of the logits, and those that changed one."""

    unchanged: Sequence[str]
    changed: Sequence[str]

    @property
    def holds(self) -> bool:
        return bool(self.unchanged) and not self.changed

    @property
    def holds_for_splits(self) -> bool:
        """Whether a step without shared prefixes has the same bits in one process with all threads and in parts."""
        return set(self.unchanged) >= {_ROWS, _LONGER, _LARGE, _ONE_THREAD}

    @property
    def reason(self) -> str:
        if not self.unchanged and not self.changed:
            return "padded batches are not tested"
        parts = []
        if self.changed:
            parts.append(f"the last bits of a row's logits differ {', '.join(self.changed)}")
        if self.unchanged:
            parts.append(f"bit-identical {', '.join(self.unchanged)}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class _Composition:
    name: str
    rows: Sequence[Request]
    shape: BatchShape
    threads: int | None = None


def probe_batch_invariance(
    forward: Forward, store: KVStore, logits: LogitsSpec, device: torch.device, *, cuts: int = 1
) -> BatchInvariance:
    """Test whether logits are bit-identical alone and in a batch.

    Args:
        forward: runs the steps.
        store: its layers have the model's shapes.
        logits: of the forward.
        device: of the model.
        cuts: see `StepLimits`.
    """
    empty = KVStore.like(store, _SIZES, private_zeros)

    all_threads = torch.get_num_threads()

    def run(case: _Composition, tokens: LogitRecord) -> LogitRecord:
        record = LogitRecord(tokens.tokens)
        backend = StepBackend(InProcess(forward), empty, LogitRecorder(record), device)
        with threads(case.threads or all_threads):
            run_requests(backend, replace(case.shape, cuts=cuts), case.rows)
        return record

    long, short, twin, giant, *many = _requests(logits.vocab)
    alone = run(_Composition("alone", [long, short], replace(_WHOLE, rows=1)), LogitRecord())
    split = len(long.token_ids) + 4
    compositions = [
        _Composition(_ROWS, [long, short], _WHOLE),
        _Composition(_LONGER, [long, short, giant], _WHOLE),
        _Composition("after a row", [long, short], replace(_WHOLE, step_tokens=split)),
        _Composition("with a shared prefix", [long, twin], replace(_WHOLE, share_prefixes=True)),
        _Composition(_LARGE, [long, short, *many], _WHOLE),
    ]
    if all_threads > 1:
        compositions.append(_Composition(_ONE_THREAD, [long, short], _WHOLE, threads=1))
    unchanged: list[str] = []
    changed: list[str] = []
    for one in compositions:
        together = run(one, alone)
        alike = all(
            torch.equal(together.logits[key], bits)
            for key, bits in alone.logits.items()
            if key in together.logits
        )
        (unchanged if alike else changed).append(one.name)
    answered = replace(
        long, token_ids=[*long.token_ids, alone.tokens[long.index, 0]], decoding=_ONE
    )
    again = run(_Composition(_AGAIN, [answered], replace(_WHOLE, rows=1)), LogitRecord())
    alike = torch.equal(again.logits[long.index, 0], alone.logits[long.index, 1])
    (unchanged if alike else changed).append(_AGAIN)
    return BatchInvariance(unchanged, changed)


def _requests(vocab: int) -> list[Request]:
    """A long row, a short one, one with the prefix of the long one, a giant, and some that make a step large."""
    source = torch.Generator().manual_seed(0)
    drawn = torch.randint(vocab, (_MANY + 2, _LENGTH), generator=source).tolist()
    giant = torch.randint(vocab, (_GIANT,), generator=source).tolist()
    prefix = drawn[0][:_PREFIX]
    prompts = [drawn[0][:22], drawn[1][:9], [*prefix, *drawn[1][9:11]], giant, *drawn[2:]]
    return [Request(index, 0, prompt, _TWO, 0) for index, prompt in enumerate(prompts)]
