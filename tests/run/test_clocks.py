"""Clocks that are wrong, far ahead, or set back: a run starts, stops, resumes, and its answers are those of any other day."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Self

import pytest

from batchgen.__main__ import call
from batchgen.jobfile.load import load_job
from batchgen.output.published_run import read_manifest
from batchgen.run.run import run
from tests.soak.harness import OF_THE_RUN

MakeJob = Callable[..., Path]
ROWS = [{"q": f"row {n}"} for n in range(40)]


class Clock(datetime):
    """The class `datetime` with a clock that a test sets; it runs a second at each look."""

    moment: ClassVar[datetime] = datetime(2026, 1, 1, tzinfo=UTC)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        Clock.moment += timedelta(seconds=1)
        there = Clock.moment.astimezone(tz)
        naive = there if tz is not None else there.replace(tzinfo=None)
        return cls.fromisoformat(naive.isoformat())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the clock of batchgen."""

    def set_clock(text: str) -> None:
        Clock.moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
        for name, module in list(sys.modules.items()):
            if not name.startswith("batchgen."):
                continue
            if getattr(module, "datetime", None) is datetime:
                monkeypatch.setattr(module, "datetime", Clock)
            if getattr(getattr(module, "dt", None), "datetime", None) is datetime:
                names = {**vars(module.dt), "datetime": Clock}
                monkeypatch.setattr(module, "dt", SimpleNamespace(**names))

    return set_clock


@pytest.mark.parametrize(
    ("start", "resume"),
    [
        pytest.param("2028-02-29T11:59:50", "2028-03-01T00:00:10", id="leap day"),
        pytest.param("2038-01-19T03:14:00", "2038-01-19T03:14:20", id="2038"),
        pytest.param("2100-02-28T11:00:00", "2100-03-01T11:00:00", id="2100"),
        pytest.param("2026-11-29T12:00:00", "2026-11-29T11:00:00", id="an hour back"),
        pytest.param("2026-11-29T12:00:00", "1970-01-01T00:00:00", id="back to the epoch"),
    ],
)
def test_a_run_does_not_depend_on_the_clock(
    make_job: MakeJob, clock: Callable[[str], None], start: str, resume: str
) -> None:
    """The run stops in the middle, and is resumed when the clock shows another time."""
    job = make_job(ROWS, batching={"part_rows": 10}, prompt={"user": "{{ q }} for ever"})
    whole = run(load_job(job, overrides=["output.path=whole"])).frame()
    clock(start)
    looks = iter(range(25))
    stopped = run(load_job(job), stop=lambda: next(looks, None) is None)
    assert stopped.outcome == "stopped"
    clock(resume)
    done = run(load_job(job))
    assert done.outcome == "done"
    assert done.resumed_rows > 0
    assert done.frame().drop(OF_THE_RUN).equals(whole.drop(OF_THE_RUN))
    content = read_manifest(done.folder).content
    assert content["started_at"][:10] == start[:10]
    assert content["finished_at"][:10] == resume[:10]
    assert content["seconds"] >= 0
    for command in ("verify", "status", "show"):
        assert call([command, str(done.folder.path)]) == 0


def test_the_date_of_a_leap_day_is_that_of_the_run(
    make_job: MakeJob, clock: Callable[[str], None]
) -> None:
    job = make_job(ROWS, prompt={"user": "${date} {{ q }}"}, output={"path": "out/${date}"})
    clock("2028-02-29T12:00:00")
    assert call(["run", str(job), "-q"]) == 0
    assert (job.parent / "out" / "2028-02-29" / "manifest.json").exists()
