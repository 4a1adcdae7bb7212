"""Claims under any interleaving: workers that die, stop and wake; each part is made, and no claim belongs to two."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from batchgen.errors import StateError
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.claims import FolderClaims, PartClaims

EXPIRY = 10.0


@dataclass
class Memory:
    """Claims in memory: `create` is atomic, as link() is."""

    made: dict[int, list[str]] = field(default_factory=dict)
    beats: dict[str, int | None] = field(default_factory=dict)
    looks: int = 0

    def is_claimed(self, part: int) -> bool:
        self.looks += 1
        return part in self.made

    def newest(self, part: int) -> tuple[int, str] | None:
        owners = self.made.get(part)
        return (len(owners) - 1, owners[-1]) if owners else None

    def create(self, part: int, claim: int, owner: str) -> bool:
        owners = self.made.setdefault(part, [])
        if claim != len(owners):
            return False
        owners.append(owner)
        return True

    def beat(self, owner: str) -> int | None:
        return self.beats[owner]


@dataclass
class Worker:
    claims: PartClaims
    open: set[int] = field(default_factory=set)
    awake: bool = True


class ClaimMachine(RuleBasedStateMachine):
    """Workers with a part in hand; a stopped one keeps it, and may wake after it was taken over."""

    @initialize(parts=st.integers(1, 8), workers=st.integers(1, 4))
    def begin(self, parts: int, workers: int) -> None:
        self.store, self.now, self.parts = Memory(), 0.0, parts
        self.sealed: dict[int, str] = {}
        self.workers: dict[str, Worker] = {}
        self.silent_since: dict[str, float] = {}
        self.taken_from_the_living: set[int] = set()
        for number in range(workers):
            self.hire(f"w{number}")

    def hire(self, name: str) -> None:
        self.store.beats[name], self.silent_since[name] = 0, self.now
        claims = PartClaims(
            self.store,
            name,
            missing=self.missing,
            is_sealed=lambda part: part in self.sealed,
            clock=lambda: self.now,
            expiry=EXPIRY,
        )
        self.workers[name] = Worker(claims)

    def missing(self) -> list[int]:
        return [part for part in range(self.parts) if part not in self.sealed]

    def pick(self, data: st.DataObject, *, awake: bool) -> str | None:
        names = [name for name, worker in self.workers.items() if worker.awake is awake]
        return data.draw(st.sampled_from(names)) if names else None

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        if (name := self.pick(data, awake=True)) is None:
            return
        before = {part: list(owners) for part, owners in self.store.made.items()}
        part = self.workers[name].claims.take()
        if part is None:
            return
        assert part in self.missing()
        self.workers[name].open.add(part)
        for owner in before.get(part, [])[-1:]:
            if owner in self.workers and owner != name:
                self.taken_from_the_living.add(part)
            gone = self.store.beats[owner] is None or owner == name
            assert gone or self.now - self.silent_since[owner] >= EXPIRY

    @rule(data=st.data())
    def seal(self, data: st.DataObject) -> None:
        name = self.pick(data, awake=True)
        if name is None or not self.workers[name].open:
            return
        part = data.draw(st.sampled_from(sorted(self.workers[name].open)))
        self.workers[name].open.discard(part)
        self.sealed.setdefault(part, name)  # link(): the first one counts

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        if (name := self.pick(data, awake=True)) is not None:
            del self.workers[name]
            self.store.beats[name] = None

    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        if (name := self.pick(data, awake=True)) is not None:
            self.workers[name].awake = False

    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        if (name := self.pick(data, awake=False)) is not None:
            self.workers[name].awake = True

    @rule(seconds=st.sampled_from([1.0, 4.0, EXPIRY]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for name, worker in self.workers.items():
            if worker.awake:
                self.store.beats[name] = (self.store.beats[name] or 0) + 1
                self.silent_since[name] = self.now

    @invariant()
    def nobody_makes_a_part_that_an_awake_worker_has(self) -> None:
        """Unless the claim was taken over while its holder was silent."""
        for part in range(getattr(self, "parts", 0)):
            holders = [n for n, worker in self.workers.items() if part in worker.open]
            assert set(holders) <= set(self.store.made.get(part, []))
            assert len(holders) <= 1 or part in self.taken_from_the_living

    def teardown(self) -> None:
        """One more worker, given time, makes whatever is left."""
        if not hasattr(self, "store"):
            return
        for name in [n for n, worker in self.workers.items() if worker.awake]:
            del self.workers[name]
            self.store.beats[name] = None
        self.hire("last")
        for _ in range(4 * self.parts + 4):
            part = self.workers["last"].claims.take()
            if part is None:
                self.wait(EXPIRY)
            else:
                self.sealed.setdefault(part, "last")
        assert sorted(self.sealed) == list(range(self.parts))


ClaimMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestClaims = ClaimMachine.TestCase


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "out")
    made.create()
    return made


def test_each_claim_in_a_folder_is_made_once(folder: RunFolder) -> None:
    store = FolderClaims(folder)
    won: list[tuple[int, str]] = []

    def race(name: str) -> None:
        won.extend((part, name) for part in range(20) if store.create(part, 0, name))

    threads = [threading.Thread(target=race, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(part for part, _ in won) == list(range(20))
    assert {part: store.newest(part) for part in range(20)} == {
        part: (0, name) for part, name in won
    }


def test_the_newest_claim_counts(folder: RunFolder) -> None:
    store = FolderClaims(folder)
    assert store.newest(7) is None
    assert not store.is_claimed(7)
    assert store.create(7, 0, "a")
    assert store.create(7, 1, "b")
    assert not store.create(7, 1, "c")
    assert store.create(7, 1, "b"), "the answer to the first request was lost"
    assert store.newest(7) == (1, "b")
    assert store.is_claimed(7)
    assert store.beat("never joined") is None


def test_what_is_no_claim_is_named(folder: RunFolder) -> None:
    store = FolderClaims(folder)
    store.create(7, 0, "a")
    (folder.claims / "00008.0").write_text("a")
    with pytest.raises(StateError, match=r"00008\.0 is not a claim"):
        store.newest(8)


def claims_of(store: FolderClaims | Memory, name: str, parts: int) -> PartClaims:
    return PartClaims(
        store,
        name,
        missing=lambda: range(parts),
        is_sealed=lambda _: False,
        clock=lambda: 0.0,
        expiry=EXPIRY,
    )


def test_a_worker_gets_its_own_claims_back_after_a_restart(folder: RunFolder) -> None:
    first = claims_of(FolderClaims(folder), "a", 3)
    assert [first.take() for _ in range(2)] == [0, 1]
    again = claims_of(FolderClaims(folder), "a", 3)
    assert [again.take() for _ in range(4)] == [2, 0, 1, None]


def test_a_part_that_was_sealed_before_it_was_claimed_is_not_made(folder: RunFolder) -> None:
    sealed = set[int]()
    claims = PartClaims(
        FolderClaims(folder),
        "a",
        missing=lambda: range(3),
        is_sealed=sealed.__contains__,
        clock=lambda: 0.0,
        expiry=EXPIRY,
    )
    sealed |= {0, 2}
    assert [claims.take(), claims.take()] == [1, None]


@pytest.mark.parametrize("parts", [500, 50_000])
def test_the_looks_for_a_part_do_not_grow_with_the_number_of_parts(parts: int) -> None:
    store, workers = Memory(), 64
    everyone = [claims_of(store, f"w{number}", parts) for number in range(workers)]
    taken = [claims.take() for _ in range(parts // workers) for claims in everyone]
    assert len({*taken}) == len(taken)
    assert store.looks <= 14 * len(taken)  # 2 log2(64) + 2
