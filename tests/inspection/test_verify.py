"""`verify` detects every change in a run's folder, and `purge` deletes exactly its private state."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchgen.__main__ import call
from batchgen.errors import LockedError, StateError, UsageError
from batchgen.inspection.purge import purge
from batchgen.inspection.verify import verify
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.lock import hold_lock
from batchgen.state.run_folder import RunFolder

MakeJob = Callable[..., Path]
ROWS = [{"q": "canary " * (n % 5), "n": n} for n in range(1, 12)]


@pytest.fixture
def complete(make_job: MakeJob) -> RunFolder:
    job = make_job(ROWS, batching={"part_rows": 4}, run={"max_error_rate": 1})
    return run(load_job(job)).folder


@pytest.fixture
def unfinished(make_job: MakeJob) -> RunFolder:
    """Stopped with a sealed part of four answers, and two in the journal."""
    left = iter(range(5))
    job = make_job(ROWS, batching={"part_rows": 4}, run={"max_error_rate": 1})
    return run(load_job(job), stop=lambda: next(left, None) is None).folder


def flip(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def test_an_intact_folder_is_verified(
    complete: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(verify(complete).issues) == []
    assert call(["verify", str(complete.path)]) == 0
    assert capsys.readouterr().out == "ok       complete · 3 files checked\n"


def test_an_unfinished_run_is_checked_part_by_part(unfinished: RunFolder) -> None:
    found = verify(unfinished)
    assert list(found.issues) == []
    assert found.state == "incomplete"
    assert found.checked == [
        ".batchgen/run.json",
        ".batchgen/parts/00000.bgpart",
        ".batchgen/journal.sqlite3",
    ]


def test_every_flipped_bit_of_a_published_file_is_detected(complete: RunFolder) -> None:
    chance = random.Random(7)
    whole = complete.responses.read_bytes()
    for _ in range(100):
        flip(complete.responses, chance.randrange(len(whole)), chance.randrange(8))
        (finding,) = verify(complete).issues
        assert finding.file == "responses.parquet"
        assert finding.problem.startswith("has sha256 ")
        complete.responses.write_bytes(whole)
    assert list(verify(complete).issues) == []


def test_every_flipped_bit_of_the_manifest_is_detected(complete: RunFolder) -> None:
    chance = random.Random(7)
    whole = complete.manifest.read_bytes()
    for _ in range(100):
        flip(complete.manifest, chance.randrange(len(whole)), chance.randrange(8))
        findings = verify(complete).issues
        assert {finding.file for finding in findings} == {"manifest.json"}
        complete.manifest.write_bytes(whole)


@pytest.mark.parametrize("name", ["run", "part", "record", "journal"])
def test_flipped_bits_in_private_state_are_detected(unfinished: RunFolder, name: str) -> None:
    part = unfinished.parts / "00000.bgpart"
    path = {
        "run": unfinished.run,
        "part": part,
        "record": part.with_suffix(".json"),
        "journal": unfinished.journal,
    }[name]
    whole = path.read_bytes()
    # A database has unused pages; the answer is at the position of its text.
    places = [whole.find(b"canary")] if name == "journal" else range(0, len(whole), 97)
    for place in places:
        flip(path, place, 1)
        assert verify(unfinished).issues, place
        path.write_bytes(whole)


def without_the_file(folder: RunFolder) -> None:
    folder.responses.unlink()


def cut_short(folder: RunFolder) -> None:
    folder.responses.write_bytes(folder.responses.read_bytes()[:-9])


def with_another_file_of_a_run(folder: RunFolder) -> None:
    table = pq.read_table(folder.responses).slice(1)
    pq.write_table(table, folder.responses)


def without_its_identity(folder: RunFolder) -> None:
    folder.run.unlink()


DAMAGE: dict[Callable[[RunFolder], None], tuple[str, str]] = {
    without_the_file: ("responses.parquet", "is missing"),
    cut_short: ("responses.parquet", "bytes, expected"),
    with_another_file_of_a_run: ("responses.parquet", "expected"),
    without_its_identity: (".batchgen/run.json", "is missing"),
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_verify_names_the_damage_and_exits_with_6(
    complete: RunFolder,
    damage: Callable[[RunFolder], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(complete)
    file, printed = DAMAGE[damage]
    assert call(["verify", str(complete.path)]) == 6
    out = capsys.readouterr().out
    assert f"damaged  {file} " in out
    assert printed in out
    assert call(["verify", str(complete.path), "--json"]) == 6
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["findings"][0]["file"] == file


def rewritten(folder: RunFolder, **changes: Any) -> None:
    """A manifest that was edited, with a recomputed hash."""
    content = json.loads(folder.manifest.read_text())
    content.pop("check")
    folder.write_json(folder.manifest, content | changes, stage="manifest")


def test_the_counts_of_the_manifest_are_checked(complete: RunFolder) -> None:
    counts = json.loads(complete.manifest.read_text())["counts"]
    rewritten(complete, counts=counts | {"failed": 5, "rows": 99})
    problems = [finding.problem for finding in verify(complete).issues]
    assert problems == [
        "has 99 as rows, counted 11",
        f"has 5 as failed, counted {counts['failed']}",
    ]
    rewritten(complete, counts=counts, fingerprint="f" * 64)
    problems = [finding.problem for finding in verify(complete).issues]
    assert problems == [
        "has another fingerprint than .batchgen/run.json",
        "has settings that do not match their fingerprint",
        "was made by another job than the manifest",
    ]


def test_an_unknown_file_among_the_parts_is_reported(make_job: MakeJob) -> None:
    folder = run(load_job(make_job(ROWS, output={"layout": "parts"}))).folder
    assert list(verify(folder).issues) == []
    (folder.response_parts / "part-99999.parquet").write_text("x")
    (finding,) = verify(folder).issues
    assert (finding.file, finding.problem) == (
        "responses/part-99999.parquet",
        "is not in the manifest",
    )


def test_a_folder_without_a_run_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("verify", "purge"):
        assert call([command, str(tmp_path)]) == 2
        assert "not the output folder of a run" in capsys.readouterr().err


def test_purging_a_complete_run_keeps_its_answers(complete: RunFolder) -> None:
    before = complete.responses.read_bytes()
    (complete.scratch / "left").write_text("canary")
    done = purge(complete, lambda _: False)
    assert done.removed == [".batchgen/tmp"]
    assert done.lost == 0
    assert complete.responses.read_bytes() == before
    assert list(verify(complete).issues) == []
    assert sorted(p.name for p in complete.private.iterdir()) == ["lock", "run.json"]


def test_purging_an_unfinished_run_needs_confirmation_and_deletes_all(
    unfinished: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="6 saved answers would be lost"):
        purge(unfinished, lambda _: False)
    assert list(verify(unfinished).issues) == []
    assert call(["purge", str(unfinished.path)]) == 2
    assert "--yes" in capsys.readouterr().err
    assert call(["purge", str(unfinished.path), "--yes", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["lost"] == 6
    assert ".batchgen/journal.sqlite3" in done["removed"]
    left = [p for p in unfinished.path.rglob("*") if p.is_file()]
    assert [p.name for p in left] == ["lock"]
    assert not any(b"canary" in p.read_bytes() for p in left)


def test_a_purged_job_can_run_again(make_job: MakeJob) -> None:
    job = make_job(ROWS, run={"max_error_rate": 1})
    stopped = run(load_job(job), stop=lambda: True)
    purge(stopped.folder, lambda _: True)
    assert run(load_job(job)).outcome == "done"
    purge(stopped.folder, lambda _: False)
    assert run(load_job(job)).outcome == "already complete"


def test_a_running_run_is_not_purged(complete: RunFolder) -> None:
    with hold_lock(complete.lock), pytest.raises(LockedError):
        purge(complete, lambda _: True)


def test_damaged_state_is_not_purged_without_confirmation(unfinished: RunFolder) -> None:
    unfinished.run.write_text("{")
    with pytest.raises(StateError, match="is damaged"):
        purge(unfinished, lambda _: True)


EXACT = {"reference": "want", "metrics": ["exact"]}
ANSWERS = [{"q": "a", "want": "x"}, {"q": "b", "want": "y"}]


def gated(make_job: MakeJob, name: str, *, least: float) -> Path:
    evaluate = EXACT | {"gates": [{"metric": "exact", "min": least}]}
    return make_job(
        [*ANSWERS, {"q": name, "want": "z"}],
        evaluate=evaluate,
        output={"path": "out", "publish": "gated"},
    )


def test_scored_answers_are_verified_with_their_scores(make_job: MakeJob) -> None:
    folder = run(load_job(make_job(ANSWERS, evaluate=EXACT))).folder
    found = verify(folder)
    assert list(found.issues) == []
    assert {"metrics.parquet", "scores.parquet"} <= set(found.checked)
    flip(folder.path / "metrics.parquet", 40, 1)
    assert [f.file for f in verify(folder).issues] == ["metrics.parquet"]


def test_withheld_answers_are_intact_and_deleted_only_with_confirmation(
    make_job: MakeJob,
) -> None:
    good = run(load_job(gated(make_job, "first", least=0.0)))
    withheld = run(load_job(gated(make_job, "second", least=1.0)), start="fresh")
    assert withheld.outcome == "withheld"
    assert verify(good.folder).state == "withheld"
    assert list(verify(good.folder).issues) == []
    with pytest.raises(UsageError, match="3 saved answers would be lost"):
        purge(good.folder, lambda _: False)
    before = good.folder.responses.read_bytes()
    assert purge(good.folder, lambda _: True).lost == 3
    assert good.folder.responses.read_bytes() == before
    assert list(verify(good.folder).issues) == []
