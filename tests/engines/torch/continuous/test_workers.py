"""Worker processes compute parts of a step: the answers are those of one process, and no process is left."""

import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from batchgen.engines.torch.continuous.continuous_tier import BatchShape
from batchgen.engines.torch.continuous.forward.products.linear import packing_works
from batchgen.engines.torch.continuous.forward.transformers_model import TransformersForward
from batchgen.engines.torch.continuous.kv_store import (
    KVStore,
    KVStoreSizes,
    private_zeros,
    shared_zeros,
)
from batchgen.engines.torch.continuous.step import StepBatch, build_step_batch
from batchgen.engines.torch.continuous.token_picker import SampledRow, SampledToken, TokenSampler
from batchgen.engines.torch.continuous.workers import ForkedWorkers, Forward, InProcess, LogitsSpec
from batchgen.engines.torch.select.row_count_probe import threads
from batchgen.errors import ResourceError
from batchgen.planning.sequences import ScheduledSequence, Segment, Step, StepKind
from batchgen.planning.step_split import StepSplitter
from batchgen.records import Completion, Request, ResolvedDecoding
from tests.engines.torch.continuous.tiny_continuous_tier import Capacity, own_forward, slots
from tests.engines.torch.tiny_models import (
    CPU,
    VOCABULARY,
    by_row,
    prompts,
    requests,
    tiny_model,
)

PARTS = StepSplitter(2, 1, learns=False)
BREAK, KILL, STARVE, CRASH = 90, 91, 92, 93
"""Tokens that let a part fail."""


def part(token: int) -> StepBatch:
    """A part of one token."""
    row = ScheduledSequence(0, [token], prompt=1, limit=1, pages=[0])
    return build_step_batch(
        Step(StepKind.PREFILL, (Segment(row, 1, drawn=1),)), KVStoreSizes(1, 4, 0), CPU
    )


def forward(batch: StepBatch, _store: KVStore) -> Tensor:
    """Records which process computed which token."""
    token = int(batch.token_ids[0])
    if token == BREAK:
        raise ZeroDivisionError
    if token == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    if token == CRASH:
        os.kill(os.getpid(), signal.SIGSEGV)
    if token == STARVE:
        raise torch.OutOfMemoryError
    return torch.tensor([[os.getpid(), token]], dtype=torch.float64)


@contextmanager
def two_workers(to_run: Forward = forward) -> Iterator[ForkedWorkers]:
    workers = ForkedWorkers(to_run, PARTS, rows=4, logits=LogitsSpec(2, torch.float64))
    try:
        yield workers
    finally:
        workers.close()


STORE = KVStore(KVStoreSizes(4, 4, 0), private_zeros)


def run(workers: ForkedWorkers, *tokens: int) -> tuple[list[int], list[int]]:
    """The tokens that each process computed."""
    made = workers.compute([part(token) for token in tokens], STORE).long()
    return made[:, 0].tolist(), made[:, 1].tolist()


def test_parts_are_computed_in_separate_processes_and_returned_in_order() -> None:
    with two_workers() as workers:
        pids, tokens = run(workers, 5, 6)
        assert tokens == [5, 6]
        assert len({*pids, os.getpid()}) == 3
        assert run(workers, 8, 7) == (pids, [8, 7])
        assert workers.tokens_elsewhere == 4


def test_a_step_that_is_not_split_is_computed_in_this_process() -> None:
    with two_workers() as workers:
        assert run(workers, 5) == ([os.getpid()], [5])
        assert workers.tokens_elsewhere == 0


def test_an_error_in_a_worker_is_reported_and_the_workers_continue() -> None:
    with two_workers() as workers:
        pids, _ = run(workers, 5, 6)
        with pytest.raises(RuntimeError, match="a worker failed: ZeroDivisionError"):
            run(workers, BREAK, 6)
        assert run(workers, 7, 8) == (pids, [7, 8])


def test_a_part_that_does_not_fit_is_a_memory_error_and_the_workers_continue() -> None:
    with two_workers() as workers:
        pids, _ = run(workers, 5, 6)
        with pytest.raises(MemoryError):
            run(workers, 5, STARVE)
        assert run(workers, 7, 8) == (pids, [7, 8])


def test_close_ends_and_reaps_all() -> None:
    with two_workers() as workers:
        pids, _ = run(workers, 5, 6)
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    workers.close()


@pytest.mark.parametrize("tokens", [(KILL, 6), (6, KILL)], ids=["first", "last"])
def test_a_worker_killed_during_a_step_ends_the_run(tokens: tuple[int, int]) -> None:
    with two_workers() as workers:
        pids, _ = run(workers, 5, 6)
        victim = pids[tokens.index(KILL)]
        with pytest.raises(ResourceError, match=f"process {victim}.*has died"):
            run(workers, *tokens)
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (KILL, "has died, killed by SIGKILL, most likely because memory ran out"),
        (CRASH, "has died of the signal SIGSEGV"),
    ],
)
def test_the_error_names_the_signal(token: int, reason: str) -> None:
    with two_workers() as workers, pytest.raises(ResourceError, match=reason):
        run(workers, 5, token)


def test_a_worker_killed_between_steps_ends_the_run() -> None:
    with two_workers() as workers:
        (pid, _), _ = run(workers, 5, 6)
        os.kill(pid, signal.SIGKILL)
        # Ended but not reaped: `close` does that.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ResourceError, match=f"process {pid}.*has died"):
            run(workers, 5, 6)


def test_a_stopped_worker_delays_a_step_and_changes_nothing() -> None:
    """Such as by a debugger, or by the freezer of a control group."""
    with two_workers() as workers:
        (pid, other), _ = run(workers, 5, 6)
        os.kill(pid, signal.SIGSTOP)
        timer = threading.Timer(0.3, os.kill, (pid, signal.SIGCONT))
        timer.start()
        began = time.monotonic()
        assert run(workers, 7, 8) == ([pid, other], [7, 8])
        assert time.monotonic() - began > 0.2
        timer.join()


def test_workers_ignore_signals_to_the_process_group() -> None:
    with two_workers() as workers:
        pids, _ = run(workers, 5, 6)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pids[0], number)
        assert run(workers, 7, 8) == (pids, [7, 8])


def test_the_error_names_a_worker_that_cannot_start() -> None:
    workers = ForkedWorkers(forward, PARTS, rows=8, logits=LogitsSpec(4, torch.float64))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # No more open files are allowed, so there is no pipe to a worker.
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most[1]))
    try:
        with pytest.raises(ResourceError, match="cannot start a worker process"):
            run(workers, 5, 6)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)


def test_logits_that_do_not_fit_are_a_resource_error() -> None:
    # More than the address space.
    workers = ForkedWorkers(forward, PARTS, rows=2**20, logits=LogitsSpec(2**38, torch.float64))
    with pytest.raises(ResourceError, match="keys, values and logits"):
        run(workers, 5, 6)


PARENT = """
import fcntl, os, sys, time
import torch
sys.path.insert(0, {root!r})
from tests.engines.torch.continuous.test_workers import STORE, part, two_workers
held = open(sys.argv[1], "w")
fcntl.flock(held, fcntl.LOCK_EX)
with two_workers() as workers:
    made = workers.compute([part(5), part(6)], STORE)
    print(*made[:, 0].long().tolist(), flush=True)
    time.sleep(60)
"""


def test_workers_inherit_no_files_and_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    root = str(Path(__file__).parents[4])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(root=root), str(lock)],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        for pid in pids:
            assert len(list(Path(f"/proc/{pid}/fd").iterdir())) == 1, "its pipe, nothing else"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    with lock.open("w") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    wait_for_end(pids)


def wait_for_end(pids: Sequence[int]) -> None:
    for _ in range(200):
        if not any(map(alive, pids)):
            return
        time.sleep(0.05)
    pytest.fail("workers outlive their parent")


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    state = re.search(r"^State:\s+(\S)", status, re.MULTILINE)
    return state is not None and state[1] not in "ZX"


# The same answers.

DECODINGS = (
    ResolvedDecoding(max_new_tokens=9),
    ResolvedDecoding(max_new_tokens=5, temperature=1.1, top_p=0.9),
    ResolvedDecoding(max_new_tokens=12, repetition_penalty=1.3),
)
SYSTEMS = prompts(7, seed=7)[4:7:2]


class Watching(TokenSampler):
    """A picker that keeps the logits of each row and step."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.logits: dict[tuple[int, int], Tensor] = {}

    def sample(self, submitted: Sequence[SampledRow], logits: Tensor) -> list[SampledToken]:
        for one, row in zip(submitted, logits, strict=True):
            self.logits[one.request.index, one.step] = row.clone()
        return super().sample(submitted, logits)


def many(*, shared: bool) -> list[Request]:
    """24 rows; if `shared`, each dozen has a common prefix."""
    token_ids = [p for seed in range(3) for p in prompts(8, seed)]
    if shared:
        token_ids = [SYSTEMS[n // 12] + p for n, p in enumerate(token_ids)]
    return requests(token_ids, *DECODINGS)


CAPACITY = Capacity(BatchShape(32, 160, window=12), KVStoreSizes(200, 8, 40))
FEWEST = 8
"""Tokens of a part: full steps are split, those of the last rows are not."""
UNCUT = Capacity(BatchShape(32, 640, window=24), KVStoreSizes(200, 8, 40))
"""One step takes all prompts: the number of workers does not change where prompts are split."""


def prepared(to_run: Forward) -> KVStore:
    """A store whose layers are allocated before a process is forked."""
    small = KVStore(KVStoreSizes(4, 8, 0), private_zeros)
    list(slots(to_run, store=small).generate(requests([[5, 6]], DECODINGS[0])))
    return KVStore.like(small, CAPACITY.sizes, shared_zeros)


class LosingElsewhere:
    """A forward that runs out of memory twice, only in workers."""

    def __init__(self, to_run: Forward) -> None:
        self._to_run = to_run
        self._here = os.getpid()
        self._steps = 0

    def __call__(self, batch: StepBatch, store: KVStore) -> Tensor:
        logits = self._to_run(batch, store)
        self._steps += os.getpid() != self._here
        if self._steps in {3, 5}:
            raise torch.OutOfMemoryError
        return logits


def answered(
    to_run: Forward, submitted: Sequence[Request], count: int, capacity: Capacity = CAPACITY
) -> tuple[dict[int, Completion], Watching, dict[str, object]]:
    store, watching = prepared(to_run), Watching()
    stored = next(iter(store.layers.values())).keys.dtype
    spec = LogitsSpec(VOCABULARY, torch.promote_types(stored, torch.float32))
    splitter = StepSplitter(count, FEWEST, learns=False)
    workers = ForkedWorkers(to_run, splitter, 32, spec) if count > 1 else None
    tier = slots(
        to_run, capacity, store=store, sampler=watching, workers=workers or InProcess(to_run)
    )
    try:
        found = by_row(tier.generate(submitted))
    finally:
        if workers is not None:
            workers.close()
    assert workers is None or workers.tokens_elsewhere > 100
    return found, watching, dict(tier.facts())


class WatchingHere:
    """A forward that keeps the number of tokens of the decode steps in this process."""

    def __init__(self, to_run: Forward) -> None:
        self._to_run = to_run
        self.decoded: list[int] = []

    def __call__(self, batch: StepBatch, store: KVStore) -> Tensor:
        if batch.kind is StepKind.DECODE:
            self.decoded.append(len(batch.token_ids))
        return self._to_run(batch, store)


@pytest.mark.skipif(not packing_works(), reason="no packed products on this machine")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_workers_and_the_threads_of_the_tail_are_bit_identical_to_one_thread(
    dtype: torch.dtype,
) -> None:
    to_run = own_forward(tiny_model("llama", dtype))
    submitted = many(shared=False)
    one, one_watched, _ = answered(to_run, submitted, 1, UNCUT)
    here = WatchingHere(to_run)
    with threads(2):
        two, two_watched, _ = answered(here, submitted, 2, UNCUT)
    assert here.decoded
    assert max(here.decoded) < 2 * FEWEST, "larger steps are split"
    assert two == one
    assert two_watched.logits.keys() == one_watched.logits.keys()
    # In a prefill a part may draw a single token, and a product with a single row has different last bits.
    decoded = [place for place in one_watched.logits if place[1] > 0]
    assert len(decoded) > 100
    for place in decoded:
        assert torch.equal(two_watched.logits[place], one_watched.logits[place])


def test_workers_with_shared_prefixes_answer_the_same() -> None:
    to_run = own_forward(tiny_model("llama"))
    submitted = many(shared=True)
    one, _, _ = answered(to_run, submitted, 1)
    for count in (2, 3):
        found, _, facts = answered(to_run, submitted, count)
        assert found == one
        # The first is computed before the workers are forked, the second afterwards.
        assert facts["prefixes"] == 2


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_workers_of_a_wrapped_family_answer_the_same(family: str) -> None:
    to_run = TransformersForward(tiny_model(family))
    submitted = many(shared=True)
    one, _, _ = answered(to_run, submitted, 1)
    for count in (2, 3):
        found, _, facts = answered(to_run, submitted, count)
        assert found == one
        assert facts["prefixes"] == 2


def test_a_worker_out_of_memory_reduces_the_rows_and_continues() -> None:
    to_run = own_forward(tiny_model("llama"))
    submitted = many(shared=True)
    one, _, _ = answered(to_run, submitted, 1)
    found, _, facts = answered(LosingElsewhere(to_run), submitted, 2)
    assert found == one
    assert facts["out_of_memory"] == 2
    assert facts["max_rows"] == 8
