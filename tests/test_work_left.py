"""The time left of a run, against a simulated engine whose every token takes one second."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from batchgen.records import InFlight
from batchgen.work_left import RowCounts

AT_ONCE = 50


@dataclass
class SimulatedRow:
    prompt: int
    new: int
    done: int = 0


class SimulatedRun:
    """Rows enter in order while there is capacity, which takes a second a prompt token, and each step adds a token to every row."""

    def __init__(self, rows: Sequence[tuple[int, int]], most_new: int) -> None:
        self.now = 0.0
        self.active: list[SimulatedRow] = []
        self.waiting = [SimulatedRow(*row) for row in rows]
        self.counts = RowCounts(len(rows), 0, self.in_flight, lambda: self.now)
        prompts = sum(row.prompt for row in self.waiting)
        self.counts.begin(len(rows), prompts, len(rows) * most_new)

    def in_flight(self) -> InFlight:
        return InFlight(len(self.active), sum(row.done for row in self.active))

    def steps(self) -> Iterator[float]:
        """The estimate after each step, and the time at which it was made."""
        while self.active or self.waiting:
            while self.waiting and len(self.active) < AT_ONCE:
                self.active.append(self.waiting.pop(0))
                self.now += self.active[-1].prompt
            for row in self.active:
                row.done += 1
                self.now += 1
            for row in [row for row in self.active if row.done == row.new]:
                self.active.remove(row)
                self.counts.add(1, row.new, 0, prompt_tokens=row.prompt)
            left = self.counts.seconds_left
            assert left is not None
            yield left


@pytest.mark.parametrize(
    ("rows", "within"),
    [
        pytest.param([(40, 64)] * 200, 0.02, id="all alike"),
        pytest.param([(40, 64)] * 60, 0.02, id="hardly more than fit"),
        pytest.param([(400 - i, 30) for i in range(300)], 0.25, id="longest prompt first"),
        pytest.param(
            [(40, 128 - i // 2) for i in range(240)],
            0.6,
            id="longest answer first, which nothing announces",
        ),
        pytest.param([(40, 8 + 37 * i % 120) for i in range(300)], 0.25, id="mixed answers"),
    ],
)
def test_the_estimate_is_near_the_time_that_the_rest_takes(
    rows: list[tuple[int, int]], within: float
) -> None:
    run = SimulatedRun(rows, max(new for _, new in rows))
    estimates = [(run.now, left) for left in run.steps()]
    total = run.now
    for share in (0.25, 0.5, 0.75):
        at, left = next(one for one in estimates if one[0] >= share * total)
        assert left == pytest.approx(total - at, abs=within * total)
    assert estimates[-1][1] == 0


def test_a_count_of_rows_predicts_nothing_where_rows_end_together() -> None:
    """The case that made an estimate of 24 minutes of 40 seconds: 300 rows, 244 in flight, the first 12 finished after a minute."""
    now = 0.0
    counts = RowCounts(300, 0, lambda: InFlight(244, 7740), lambda: now)
    counts.begin(300, 24_987, 300 * 64)
    counts.add(12, 760, 0, prompt_tokens=2400)
    now = 60.0
    assert counts.seconds_left == pytest.approx(40, abs=20)


def test_without_requests_of_its_own_it_counts_rows() -> None:
    now = 0.0
    counts = RowCounts(100, 20, InFlight, lambda: now)
    assert counts.seconds_left is None
    counts.add(40, 0, 0)
    now = 10.0
    assert counts.seconds_left == pytest.approx(10)
    counts.add(40, 0, 0)
    assert counts.seconds_left == 0
