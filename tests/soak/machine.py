"""Random sequences of starts, kills, edits, full disks and flipped bits: the answers equal those of a run without faults, or there are none."""

import random
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from batchgen.storage.failpoints import POINTS
from tests.soak.harness import Reader, Work, flip

FULL = ("ENOSPC", "EDQUOT", "EFBIG", "EIO")
REFUSING = [point for point in POINTS if "before" in point or "half" in point]
"""Behind the others no call of the operating system is left that could fail."""


class Machine(RuleBasedStateMachine):
    """One job and all its faults. `work` must be set before the machine runs."""

    work: Work

    def __init__(self) -> None:
        super().__init__()
        self.work.clear()
        self.work.write_input()
        self.edited = False
        self.damaged: Path | None = None
        self.saved = 0

    def sound(self) -> bool:
        """Whether the input and the saved state are intact."""
        return not self.edited and self.damaged is None

    @precondition(sound)
    @rule(point=st.sampled_from(POINTS), count=st.integers(1, 4))
    def killed_at(self, point: str, count: int) -> None:
        ended = self.work.run(fail_at=f"{point}:{count}")
        assert ended.killed or ended.code == 0, ended.output
        self.nothing_lost()

    @precondition(sound)
    @rule(after=st.floats(0, 0.4))
    def killed_after(self, after: float) -> None:
        ended = self.work.run(kill_after=after)
        assert ended.killed or ended.code == 0, ended.output
        self.nothing_lost()

    @precondition(sound)
    @rule(point=st.sampled_from(REFUSING), error=st.sampled_from(FULL))
    def disk_full(self, point: str, error: str) -> None:
        ended = self.work.run(fail_at=f"{point}={error}")
        assert ended.code in (0, 5), ended.output
        assert "Traceback" not in ended.output
        self.nothing_lost()

    @precondition(sound)
    @rule(row=st.integers(0, 10_000))
    def input_edited(self, row: int) -> None:
        self.work.write_input(edited=row)
        self.edited = True

    @precondition(lambda self: self.edited)
    @rule()
    def edited_input_is_refused(self) -> None:
        if self.work.out.run.exists():
            ended = self.work.run()
            assert ended.code == 6, ended.output
            assert "rows.jsonl changed" in ended.output
        self.work.write_input()
        self.edited = False

    @precondition(sound)
    @rule(seed=st.integers(0, 2**32))
    def bit_flipped(self, seed: int) -> None:
        chance = random.Random(seed)
        files = sorted(p for p in self.work.out.path.rglob("*") if p.is_file() and p.stat().st_size)
        if files:
            self.damaged = chance.choice(files)
            flip(self.damaged, chance)

    @precondition(lambda self: self.damaged is not None)
    @rule()
    def damage_is_found_or_harmless(self) -> None:
        assert self.damaged is not None
        ended = self.work.run()
        assert ended.code in (0, 5, 6), ended.output
        if ended.code:
            assert self.damaged.name in ended.output, ended.output
            assert self.work.run("--fresh").code == 0
        self.damaged = None
        self.resumed()

    @precondition(sound)
    @rule()
    def resumed(self) -> None:
        ended = self.work.run()
        assert ended.code == 0, ended.output
        self.work.check()
        self.saved = self.work.rows

    @invariant()
    def published_files_are_whole(self) -> None:
        if self.damaged is None:
            reader = Reader(self.work)
            reader.look()
            assert reader.bad == []

    def nothing_lost(self) -> None:
        now = self.work.saved()
        assert now >= self.saved, "something that was saved has been lost"
        self.saved = now


def run_machine(work: Work, seconds: float) -> int:
    """Run random sequences until the time is over. Returns their number."""
    end = time.monotonic() + seconds
    sequences = 0
    while time.monotonic() < end:
        run_state_machine_as_test(
            type("Machine", (Machine,), {"work": work}),
            settings=settings(
                max_examples=5,
                stateful_step_count=12,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        sequences += 5
    return sequences
