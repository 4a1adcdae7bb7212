"""`verify` detects every change in a run's folder, and `purge` deletes exactly its private state."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchgen.__main__ import call
from batchgen.errors import LockedError, StateError, UsageError
from batchgen.inspection.purge import purge
from batchgen.inspection.status import status
from batchgen.inspection.verify import verify
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.lock import hold_lock
from batchgen.state.run_folder import RunFolder
from batchgen.state.sqlite_journal import SqliteJournal, saved_answers
from batchgen.storage.sqlite import files_of

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


def edited_job(folder: RunFolder) -> str:
    folder.job.write_text(folder.job.read_text() + "# edited\n")
    return "job.yaml was edited or damaged"


def without_job(folder: RunFolder) -> str:
    folder.job.unlink()
    return "job.yaml is missing"


def job_is_a_link(folder: RunFolder) -> str:
    return link(folder.job)


def job_is_a_folder(folder: RunFolder) -> str:
    folder.job.unlink()
    folder.job.mkdir()
    return "job.yaml is a folder; expected a file"


def release_is_a_link(folder: RunFolder) -> str:
    folder.release.symlink_to(folder.release.with_name("nothing"))
    return ".batchgen/release.json is a link; expected a file"


def running_is_a_link(folder: RunFolder) -> str:
    folder.journal.with_suffix(".running").symlink_to("nothing")
    return ".batchgen/journal.running is a link; expected a file"


def run_json_is_a_pipe(folder: RunFolder) -> str:
    folder.run.unlink()
    os.mkfifo(folder.run)
    return ".batchgen/run.json is a pipe; expected a file"


def lock_is_a_folder(folder: RunFolder) -> str:
    folder.lock.unlink()
    folder.lock.mkdir()
    return ".batchgen/lock is a folder; expected a file"


def foreign_part(folder: RunFolder) -> str:
    (folder.parts / "notes.bgpart").write_text("x")
    return ".batchgen/parts/notes.bgpart is not a file of the run"


def leftover_part(folder: RunFolder) -> str:
    """Named like a part of the run: `run` deletes it, as what a killed process leaves after publishing."""
    (folder.parts / "00000.bgpart").write_text("x")
    return ".batchgen/parts/00000.bgpart is damaged"


def foreign_folder(folder: RunFolder) -> str:
    (folder.parts / "00009").mkdir()
    return ".batchgen/parts/00009 is not a file of the run"


def without_manifest(folder: RunFolder) -> str:
    folder.manifest.unlink()
    return "manifest.json is missing next to published files"


def nested_manifest(folder: RunFolder) -> str:
    folder.manifest.write_text("[" * 200_000)
    return "manifest.json is damaged: its JSON is nested too deeply"


def manifest_of_another_run(folder: RunFolder) -> str:
    other = run(load_job(folder.path.parent / "job.yaml", overrides=["output.path=other"])).folder
    for name in ("manifest.json", "responses.parquet", "job.yaml"):
        shutil.copy2(other.path / name, folder.path / name)
    return "manifest.json belongs to another run than .batchgen/run.json"


def answers_are_a_link(folder: RunFolder) -> str:
    return link(folder.responses)


def foreign_answers(folder: RunFolder) -> str:
    folder.response_parts.mkdir()
    (folder.response_parts / "part-00000.parquet").write_text("x")
    return "responses/part-00000.parquet is not in the manifest"


def scores_of_no_run(folder: RunFolder) -> str:
    folder.scores.write_text("x")
    return "scores.parquet is not in the manifest"


def sealed_is_a_link(folder: RunFolder) -> str:
    return link(folder.parts / "00000.bgpart")


def journal_is_a_link(folder: RunFolder) -> str:
    return link(folder.journal)


def record_is_nested(folder: RunFolder) -> str:
    (folder.parts / "00000.json").write_text("[" * 200_000)
    return ".batchgen/parts/00000.json is damaged: its JSON is nested too deeply"


def part_beyond_the_end(folder: RunFolder) -> str:
    shutil.copy2(folder.parts / "00000.bgpart", folder.parts / "00099.bgpart")
    return ".batchgen/parts/00099.bgpart is not a part of the run"


def part_of_another_size(folder: RunFolder) -> str:
    part = folder.parts / "00000.bgpart"
    pq.write_table(pq.read_table(part).slice(1), part)
    part.with_suffix(".json").unlink()
    return ".batchgen/parts/00000.bgpart has"


def link(path: Path) -> str:
    aside = path.parents[2] / f"moved-{path.name}"
    path.rename(aside)
    path.symlink_to(aside)
    inside = path.relative_to(path.parents[1 if path.parent.name == "out" else 2])
    name = inside.as_posix().removeprefix("out/")
    return f"{name} is a link; expected a file" if name != path.name else f"{name} is a link"


OF_BOTH = [edited_job, without_job, job_is_a_link, run_json_is_a_pipe, lock_is_a_folder]
OF_BOTH += [foreign_part, foreign_folder, job_is_a_folder, release_is_a_link, running_is_a_link]
OF_A_COMPLETE_RUN = [without_manifest, nested_manifest, manifest_of_another_run]
OF_A_COMPLETE_RUN += [leftover_part, answers_are_a_link, foreign_answers, scores_of_no_run]
OF_A_STOPPED_RUN = [sealed_is_a_link, journal_is_a_link, record_is_nested]
OF_A_STOPPED_RUN += [part_beyond_the_end, part_of_another_size]


@pytest.mark.parametrize(
    ("state", "harm"),
    [
        *(("complete", harm) for harm in [*OF_BOTH, *OF_A_COMPLETE_RUN]),
        *(("unfinished", harm) for harm in [*OF_BOTH, *OF_A_STOPPED_RUN]),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_verify_rejects_is_never_already_complete(
    state: str,
    harm: Callable[[RunFolder], str],
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder: RunFolder = request.getfixturevalue(state)
    problem = harm(folder)
    assert call(["verify", str(folder.path)]) == 6
    assert f"damaged  {problem}" in capsys.readouterr().out
    code = call(["run", str(folder.path.parent / "job.yaml"), "-q"])
    assert code in (0, 6), capsys.readouterr().err
    assert call(["verify", str(folder.path)]) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["file", "parts"])
def test_an_edited_job_is_written_again(make_job: MakeJob, layout: str) -> None:
    job = make_job(ROWS, output={"layout": layout}, run={"max_error_rate": 1})
    folder = run(load_job(job)).folder
    before = folder.job.read_text()
    edited_job(folder)
    assert call(["score", str(folder.path), "-m", "length"]) == 6
    assert run(load_job(job)).outcome == "already complete"
    assert folder.job.read_text() == before
    assert list(verify(folder).issues) == []
    assert call(["score", str(folder.path), "-m", "length"]) == 0


def test_a_purged_run_can_be_scored(complete: RunFolder) -> None:
    purge(complete, lambda _: False)
    assert call(["score", str(complete.path), "-m", "length"]) == 0
    shutil.rmtree(complete.private)
    assert call(["score", str(complete.path), "-m", "length"]) == 0


@pytest.fixture
def read_only() -> Iterator[Callable[[Path], None]]:
    """Mounts a folder read-only at its own path; skips the test where that is not allowed."""
    mounted: list[Path] = []

    def mount(folder: Path) -> None:
        for command in (["mount", "--bind"], ["mount", "-o", "remount,bind,ro"]):
            done = subprocess.run(
                [*command, str(folder), str(folder)], check=False, capture_output=True
            )
            if done.returncode:
                pytest.skip("mounting needs root")
            mounted.append(folder)

    yield mount
    for folder in mounted[:1]:
        # Lazily: a failed test keeps its open files, and a mount that stays would break later sessions.
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


@pytest.mark.parametrize("killed", [False, True])
def test_a_stopped_run_on_a_read_only_disk_is_sound(
    unfinished: RunFolder, read_only: Callable[[Path], None], killed: bool
) -> None:
    if killed:  # the journal has a log, whose records are not in the database yet
        answers = saved_answers(unfinished.journal, read_identity_id(unfinished))
        again = SqliteJournal(unfinished.journal, run_id=read_identity_id(unfinished), samples=1)
        again.save(replace(answers[0], index=10))
        again.flush()
        for file in files_of(unfinished.journal)[:2]:
            shutil.copy2(file, unfinished.path.parent / file.name)
        again.close()
        for file in files_of(unfinished.journal)[:2]:
            shutil.copy2(unfinished.path.parent / file.name, file)
    before = status(unfinished.path).counts.rows
    assert before == 6 + killed
    for file in files_of(unfinished.journal)[2:]:
        file.unlink(missing_ok=True)
    read_only(unfinished.path)
    assert list(verify(unfinished).issues) == []
    assert status(unfinished.path).counts.rows == before


def read_identity_id(folder: RunFolder) -> str:
    return str(json.loads(folder.run.read_text())["run_id"])


@pytest.mark.parametrize("size", [0, None], ids=["empty", "without tables"])
def test_a_journal_that_was_being_created_is_sound(unfinished: RunFolder, size: int | None) -> None:
    unfinished.journal.unlink()
    if size is None:
        database = sqlite3.connect(unfinished.journal)
        database.execute("PRAGMA journal_mode = WAL")
        database.close()
    else:
        unfinished.journal.touch()
    assert list(verify(unfinished).issues) == []


def test_a_complete_run_on_a_read_only_disk_is_already_complete(
    make_job: MakeJob, read_only: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(ROWS, run={"max_error_rate": 1})
    folder = run(load_job(job)).folder
    read_only(folder.path)
    assert call(["run", str(job)]) == 0
    assert "already complete" in capsys.readouterr().err
    for command in ("verify", "status", "show"):
        assert call([command, str(folder.path)]) == 0
    assert call(["score", str(folder.path), "-m", "length"]) == 5
    assert "cannot write" in capsys.readouterr().err
    assert call(["run", str(job), "--set", "evaluate.metrics=[length]"]) == 5
    assert call(["run", str(job), "--fresh"]) == 5
    assert "Traceback" not in capsys.readouterr().err


def test_a_column_name_in_the_footer_that_is_not_text_is_damage(
    complete: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    content = complete.responses.read_bytes()
    names = [n for n in range(len(content)) if content.startswith(b"finish_reason", n)]
    assert names
    for place in names:
        changed = bytearray(content)
        changed[place] = 0xFF
        complete.responses.write_bytes(changed)
        for command in ("status", "show", "verify"):
            code = call([command, str(complete.path)])
            printed = capsys.readouterr()
            assert code in (0, 6), printed
            assert code == 0 or "responses.parquet" in printed.out + printed.err
