"""What is in the way of an output folder, at the start of a run and during it."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.errors import BatchgenError, ExitCode, ResourceError
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.storage.durable import disk_errors
from tests.run.wrapped_engines import meddling

MakeJob = Callable[..., Path]
MOVE = "Move it away, or choose another folder with --output FOLDER."
ROWS = [{"q": f"row {n}"} for n in range(60)]


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder with a file, a pipe, a link to nothing and a link to a file."""
    places = tmp_path / "places"
    places.mkdir()
    (places / "file").write_text("x")
    os.mkfifo(places / "pipe")
    (places / "dangling").symlink_to("nowhere")
    (places / "link").symlink_to("file")
    return places


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("file", "file is a file; expected a folder"),
        ("file/x/y", "file is a file; expected a folder"),
        ("pipe", "pipe is a pipe; expected a folder"),
        ("pipe/x", "pipe is a pipe; expected a folder"),
        ("dangling", "dangling is a link to nowhere, which does not exist"),
        ("dangling/x", "dangling is a link to nowhere, which does not exist"),
        ("link", "link is a file; expected a folder"),
        ("/dev/null", "/dev/null is a device or socket; expected a folder"),
        ("/dev/null/x", "/dev/null is a device or socket; expected a folder"),
    ],
)
def test_an_output_folder_that_cannot_be_made_names_what_is_in_its_way(
    make_job: MakeJob,
    places: Path,
    capsys: pytest.CaptureFixture[str],
    output: str,
    found: str,
) -> None:
    job = str(make_job())
    assert call(["run", job, "-q", "-o", str(places / output)]) == ExitCode.ENVIRONMENT
    error = capsys.readouterr().err
    assert f"cannot create the output folder {places / output}: " in error
    assert found in error
    assert error.endswith(f"  {MOVE}\n")
    assert call(["plan", job, "-o", str(places / output)]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "`run` will reject it" in shown
    assert f"{found}: choose another folder" in shown


def test_a_link_to_a_folder_is_a_folder(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert call(["run", str(make_job()), "-q", "-o", str(tmp_path / "link" / "out")]) == 0
    assert (tmp_path / "real" / "out" / "manifest.json").exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_file_that_may_not_be_written_is_not_in_the_way(tmp_path: Path, number: int) -> None:
    (file := tmp_path / "lock").touch()
    with pytest.raises(ResourceError) as caught, disk_errors("cannot open", file):
        raise OSError(number, os.strerror(number), file)
    assert caught.value.message == f"cannot open {file}: {os.strerror(number)}"
    assert caught.value.hint.startswith("Choose a writable folder")


def replace_by_file(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.write_text("x")


@pytest.mark.parametrize(
    ("harm", "place", "code", "message", "hint"),
    [
        (shutil.rmtree, ".", 6, ".batchgen was deleted or moved while this", "Move it back, then"),
        (shutil.rmtree, ".batchgen", 6, ".batchgen was deleted or moved", "Move it back, then"),
        (shutil.rmtree, ".batchgen/parts", 5, "parts is gone", "Move it back if it was moved;"),
        (shutil.rmtree, ".batchgen/tmp", 5, "tmp is gone", "Move it back if it was moved;"),
        (replace_by_file, ".", 5, "out is a file; expected a folder", MOVE),
    ],
)
def test_an_output_folder_that_vanishes_during_the_run(
    make_job: MakeJob,
    harm: Callable[[Path], None],
    place: str,
    code: int,
    message: str,
    hint: str,
) -> None:
    job = make_job(ROWS, batching={"part_rows": 20})
    out = job.parent / "out"
    with pytest.raises(BatchgenError) as caught:
        run(load_job(job), opener=meddling(25, lambda: harm(out / place)))
    assert caught.value.exit_code == code
    assert message in caught.value.message
    assert caught.value.hint.startswith(hint)
    out.unlink() if out.is_file() else None
    assert run(load_job(job)).outcome == "done"
