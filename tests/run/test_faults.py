"""The fault matrix: faults around a run, and its outcome. Kills and disks are in `test_kills.py`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from batchgen.__main__ import call
from batchgen.errors import BatchgenError, DataError, ExitCode, StateError
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder
from batchgen.storage.failpoints import VARIABLE
from tests.reporters import RecordingReporter
from tests.run.wrapped_engines import meddling
from tests.soak.harness import OF_THE_RUN

MakeJob = Callable[..., Path]
ROWS = [{"q": f"row {n}"} for n in range(60)]


def again(job: Path) -> None:
    """Without further faults, the run gives the answers of a run without faults."""
    found = run(load_job(job)).frame().drop(OF_THE_RUN)
    whole = run(load_job(job, overrides=["output.path=whole"])).frame().drop(OF_THE_RUN)
    assert found.equals(whole)


def test_a_deleted_lock_is_detected_before_anything_is_committed(make_job: MakeJob) -> None:
    job = make_job(ROWS, batching={"part_rows": 20})
    folder = RunFolder(job.parent / "out")
    with pytest.raises(StateError, match="lock was deleted while this run held it"):
        run(load_job(job), opener=meddling(25, folder.lock.unlink))
    assert len(list(folder.parts.glob("*.bgpart"))) == 1
    assert not folder.manifest.exists()
    again(job)


def test_only_the_run_with_the_new_lock_publishes(make_job: MakeJob) -> None:
    """The lock file is deleted and a second run takes a new one while the first is running."""
    job = make_job(ROWS, batching={"part_rows": 20})
    folder = RunFolder(job.parent / "out")

    def usurp() -> None:
        folder.lock.unlink()
        assert run(load_job(job)).outcome == "done"

    with pytest.raises(StateError):
        run(load_job(job), opener=meddling(25, usurp))
    again(job)


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace("row 59", "row 5!"))


def replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_text(path.read_text() + '{"q": "one more"}\n')
    new.replace(path)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def pretend(path: Path) -> None:
    """Edit the file, and restore its size and time."""
    before = path.stat()
    edit(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [edit, replace, truncate, pretend, Path.unlink])
@pytest.mark.parametrize("at", [5, 59], ids=["early", "last answer"])
def test_input_that_changes_during_a_run_is_named_and_nothing_is_published(
    make_job: MakeJob, change: Callable[[Path], None], at: int
) -> None:
    job = make_job(ROWS, batching={"part_rows": 20})
    rows = job.parent / "rows.jsonl"
    old = rows.read_text()
    with pytest.raises(DataError, match=r"rows\.jsonl") as caught:
        run(load_job(job), opener=meddling(at, lambda: change(rows)))
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    folder = RunFolder(job.parent / "out")
    assert not folder.responses.exists()
    assert not folder.manifest.exists()
    rows.write_text(old)
    again(job)


def touch(path: Path) -> None:
    os.utime(path)


def copy_over(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def hard_link(path: Path) -> None:
    os.link(path, path.with_name("backup"))


@pytest.mark.parametrize("harmless", [copy_over, hard_link, touch])
def test_input_with_a_new_time_and_the_same_content_does_not_matter(
    make_job: MakeJob, harmless: Callable[[Path], None]
) -> None:
    job = make_job(ROWS, batching={"part_rows": 200})
    rows = job.parent / "rows.jsonl"
    assert run(load_job(job), opener=meddling(5, lambda: harmless(rows))).outcome == "done"


@pytest.fixture
def unfinished(make_job: MakeJob) -> Path:
    """A job that was stopped, with sealed parts and a journal."""
    job = make_job(ROWS, batching={"part_rows": 20})
    left = iter(range(50))
    assert run(load_job(job), stop=lambda: next(left, None) is None).outcome == "stopped"
    return job


STATE = ["run.json", "journal.sqlite3", "parts/00000.bgpart", "parts/00000.json", "lock", "tmp"]


@pytest.mark.parametrize("name", STATE)
def test_deleted_state_is_rebuilt_or_rejected(unfinished: Path, name: str) -> None:
    path = unfinished.parent / "out" / ".batchgen" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if name == "run.json":
        with pytest.raises(StateError, match=r"run\.json is missing"):
            run(load_job(unfinished))
        run(load_job(unfinished), start="fresh")
    again(unfinished)


@pytest.mark.parametrize("size", [0, 100], ids=["empty", "cut off"])
@pytest.mark.parametrize("name", ["run.json", "parts/00000.bgpart", "parts/00001.json"])
def test_truncated_state_is_rejected_by_name(unfinished: Path, name: str, size: int) -> None:
    path = unfinished.parent / "out" / ".batchgen" / name
    os.truncate(path, size)
    with pytest.raises(StateError, match=r"is damaged") as caught:
        run(load_job(unfinished))
    assert str(path) in caught.value.message
    assert caught.value.exit_code == ExitCode.STATE
    run(load_job(unfinished), start="fresh")
    again(unfinished)


def test_fresh_works_with_a_damaged_identity(unfinished: Path) -> None:
    """Also where the date is read from it at the start."""
    os.truncate(unfinished.parent / "out" / ".batchgen" / "run.json", 50)
    assert call(["run", str(unfinished), "-q"]) == ExitCode.STATE
    assert call(["run", str(unfinished), "-q", "--fresh"]) == ExitCode.DONE
    again(unfinished)


@pytest.mark.parametrize(
    ("damage", "found"),
    [(Path.unlink, "it is missing"), (truncate, r"it has [\d,]+ bytes, expected [\d,]+")],
)
def test_a_run_with_damaged_answers_is_not_complete(
    make_job: MakeJob, damage: Callable[[Path], None], found: str
) -> None:
    job = make_job(ROWS)
    damage(run(load_job(job)).folder.responses)
    with pytest.raises(
        StateError, match=rf"responses\.parquet was changed .* published: {found}\n"
    ):
        run(load_job(job))
    run(load_job(job), start="fresh")
    again(job)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a memory disk of the given KiB; skips the test where that is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(kib: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(place)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("mounting needs root")
        return place

    yield mount
    subprocess.run(["umount", str(place)], check=False, capture_output=True)


LONG = [{"q": f"{n} " + os.urandom(500).hex()} for n in range(600)]


@pytest.mark.parametrize("kib", [16, 9_000, 9_600, 10_000])
def test_a_full_disk_ends_with_5_and_the_run_can_be_resumed(
    make_job: MakeJob, small_disk: Callable[[int], Path], kib: int
) -> None:
    """Too small for any file; for the journal; for the parts; for the published file."""
    place = small_disk(kib)
    job = make_job(LONG, batching={"part_rows": 200}, decoding={"max_new_tokens": 2000})
    out = [f"output.path={place / 'out'}"]
    filler = place / "filler"
    if kib > 1000:  # pass the preflight, then fill the disk
        opening = meddling(1, lambda: filler.write_bytes(bytes((kib - 1400) << 10)))
    else:
        opening = meddling(1, lambda: None)
    with pytest.raises(BatchgenError) as caught:
        run(load_job(job, overrides=out), opener=opening)
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    assert str(place) in caught.value.message
    assert not list(place.rglob("*.parquet"))
    filler.unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=100m", str(place)], check=True)
    found = run(load_job(job, overrides=out)).frame().drop(OF_THE_RUN)
    whole = run(load_job(job, overrides=["output.path=whole"])).frame().drop(OF_THE_RUN)
    assert found.equals(whole)


def test_too_little_disk_space_is_an_error_before_the_model_is_loaded(
    make_job: MakeJob, small_disk: Callable[[int], Path]
) -> None:
    place = small_disk(2000)

    def never(*_: object, **__: object) -> NoReturn:
        pytest.fail("the model was loaded")

    many = make_job([{"q": "x"}] * 45_000)
    with pytest.raises(BatchgenError, match=r"free; the answers take at least") as caught:
        run(load_job(many, overrides=[f"output.path={place / 'out'}"]), opener=never)
    assert "--output" in caught.value.hint


def test_little_disk_space_is_a_warning(
    make_job: MakeJob, small_disk: Callable[[int], Path]
) -> None:
    place = small_disk(20_000)
    messages: list[str] = []
    sets = [f"output.path={place / 'out'}", "decoding.max_new_tokens=200000"]
    assert (
        run(load_job(make_job(ROWS), overrides=sets), reporter=RecordingReporter(messages)).outcome
        == "done"
    )
    assert any("answers of full length take up to" in line for line in messages)


LIMITED = """
import resource, sys
which, most, job = sys.argv[1:]
from batchgen.__main__ import call
kind = getattr(resource, which)
resource.setrlimit(kind, (int(most), resource.getrlimit(kind)[1]))
sys.exit(call(["run", job, "-q"]))
"""


def limited(which: str, most: int, job: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED, which, str(most), str(job)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_a_limit_on_file_sizes_is_reported_like_a_full_disk(make_job: MakeJob) -> None:
    job = make_job(LONG, batching={"part_rows": 200}, decoding={"max_new_tokens": 2000})
    ended = limited("RLIMIT_FSIZE", 100_000, job)
    assert ended.returncode == 5, ended.stderr
    assert "repeat the command to resume" in ended.stderr
    assert "Traceback" not in ended.stderr
    again(job)


@pytest.mark.slow
def test_a_limit_on_open_files_is_an_error_message_or_suffices(make_job: MakeJob) -> None:
    job = make_job(ROWS, batching={"part_rows": 20})
    ended = limited("RLIMIT_NOFILE", 16, job)
    assert ended.returncode in (0, 5), ended.stderr
    assert "Traceback" not in ended.stderr
    again(job)


@pytest.mark.slow
def test_a_closed_pipe_is_not_an_error(make_job: MakeJob) -> None:
    """`batchgen run job.yaml | head -0`, without a terminal, in the C locale."""
    job = make_job([{"q": "问" * 50}] * 60)
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": ""}
    command = [sys.executable, "-m", "batchgen", "run", str(job)]
    try:
        ended = subprocess.run(
            command, check=False, stdout=writer, stderr=subprocess.PIPE, env=environment
        )
    finally:
        os.close(writer)
    assert b"Traceback" not in ended.stderr
    assert json.loads((job.parent / "out" / "manifest.json").read_text())["rows"] == 60


def test_an_output_folder_that_becomes_a_file_ends_with_5_and_its_name(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(ROWS, batching={"part_rows": 20})
    out = job.parent / "out"

    def replace_folder() -> None:
        shutil.rmtree(out)
        out.write_text("x")

    with pytest.raises(BatchgenError, match="out") as caught:
        run(load_job(job), opener=meddling(25, replace_folder))
    assert caught.value.exit_code in (ExitCode.ENVIRONMENT, ExitCode.STATE)
    assert call(["run", str(job), "-q"]) in (2, 5)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS"])
def test_a_disk_that_fails_when_records_are_deleted_ends_with_5(
    make_job: MakeJob, error: str
) -> None:
    job = make_job(ROWS, batching={"part_rows": 20})
    command = [sys.executable, "-m", "batchgen", "run", str(job)]
    env = os.environ | {VARIABLE: f"journal.after_forget={error}"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == ExitCode.ENVIRONMENT, ended.stderr
    assert "cannot clear" in ended.stderr
    assert "Traceback" not in ended.stderr
    again(job)


NAMES = ["x" * 300, "/".join(["d" * 200] * 18)]
OF_A_FOLDER = ["status", "show", "verify", "purge", "runs", "score", "bench"]


@pytest.mark.parametrize("name", NAMES, ids=["long component", "long path"])
def test_a_path_that_is_too_long_is_never_a_bug(
    make_job: MakeJob, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job, path = str(make_job()), str(tmp_path / name)
    commands = [[command, path] for command in OF_A_FOLDER]
    commands += [[command, job, "-o", path] for command in ("plan", "run")]
    commands += [["validate", job, "--set", f"output.path={path}"], ["compare", path, path]]
    commands += [["export", path, "-o", str(tmp_path / "x.csv")], ["validate", path]]
    commands += [["run", job, "-o", str(tmp_path / "o"), "--incremental-from", path]]
    for command in commands:
        code = call(command)
        printed = capsys.readouterr().err
        assert code in (0, 2, 5), (command[0], code, printed)
        assert "Traceback" not in printed, command[0]
    if "/" in name:
        assert call(["run", job, "-q", "-o", path]) == 5
        assert "SQLite cannot open a path of" in capsys.readouterr().err
