"""Runs the conversion of a GGUF file into a folder of the cache: in a process of its own, and once for all processes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from batchgen.errors import ModelError, ResourceError
from batchgen.models.formats import convert
from batchgen.progress import Reporter

NEEDED = ("gguf", "accelerate")
"""Packages that only the conversion imports."""


def run_conversion(name: str, gguf: Path, folder: Path, reporter: Reporter) -> None:
    """Convert `gguf` in a process of its own, so that this one imports neither torch nor gguf; raises ModelError."""
    # The package may run from a checkout that is not installed.
    package_root = Path(__file__).parents[3]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "PYTHONPATH": os.pathsep.join(
            [str(package_root), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    command = [sys.executable, "-m", convert.__name__, str(gguf.absolute()), str(folder)]
    log = folder.parent / "convert.log"
    title = f"converting {name} to safetensors, once"
    with (
        log.open("wb") as errors,
        reporter.step(title, len(convert.STEPS), "step") as meter,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            for done, line in enumerate(process.stdout or ()):
                meter.reached(done, line.decode().strip())
            process.wait()
        finally:
            process.kill()
    if process.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ModelError(
            f"{name} could not be converted (the process exited with {process.returncode}): "
            f"{lines[-1][:500] if lines else 'no output, probably out of memory'}"
        )


def require_packages(
    name: str, importable: Callable[[str], object | None], needed: tuple[str, ...] = NEEDED
) -> None:
    """Raise ModelError if a package of the conversion is missing."""
    missing = [package for package in needed if importable(package) is None]
    if missing:
        raise ModelError(
            f"the conversion of {name} needs {' and '.join(missing)}, not installed",
            hint="Run `pip install -e '.[demo]'` in the folder of batchgen's source, or "
            "`pip install 'gguf>=0.17' 'accelerate>=1.10'`.",
        )


@contextmanager
def hold_model_lock(folder: Path, reporter: Reporter) -> Iterator[None]:
    """One process at a time makes `folder`; the others wait."""
    lock = FileLock(lock_file(folder))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.info(f"waiting for another process that prepares {folder.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def lock_file(folder: Path) -> Path:
    """The lock of a folder of the cache; its time of change is that of the last use."""
    return folder.parent / f".{folder.name}.lock"


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left: nothing else works there while the lock is held."""
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def require_space(name: str, parent: Path, needed: int) -> None:
    """Raise ResourceError if the disk of `parent` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise ResourceError(
            f"{parent}: {free / 1e6:,.0f} MB free, but {name} needs {needed / 1e6:,.0f} MB during the conversion",
            hint="Free some space, or set BATCHGEN_CACHE to a folder on another disk.",
        )


def publish(made: Path, folder: Path, work: Path) -> None:
    """Rename the complete folder `made` to `folder`, and flush the rename."""
    if folder.exists():
        folder.rename(work / "replaced")
    made.rename(folder)
    if sys.platform != "win32":
        parent = os.open(folder.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
