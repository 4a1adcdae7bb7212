"""A GGUF file is converted once into the cache, which is bounded, listed and cleared; the conversion itself is replaced."""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.errors import ExitCode, ModelError
from batchgen.models.find_model import find_on_disk, resolve_model
from batchgen.models.formats import gguf_model
from batchgen.models.formats.conversion import lock_file
from batchgen.models.formats.gguf_model import (
    GgufTools,
    list_gguf_models,
    prepare_gguf_model,
)
from batchgen.models.formats.marker import is_intact, sha256_of
from batchgen.models.hash_cache import HashCache
from batchgen.models.info import read_model_info
from batchgen.models.lock_file import ModelLock, make_pin, verify_pin
from batchgen.progress import SILENT, Reporter
from tests.models.formats.gguf_bytes import write_gguf_bytes
from tests.reporters import RecordingReporter

WriteModel = Callable[..., Path]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_gguf_bytes(tmp_path / "m.gguf")


@pytest.fixture
def tools(write_model: WriteModel) -> GgufTools:
    """Writes the tiny model's folder in place of a conversion."""

    def convert(name: str, gguf: Path, folder: Path, reporter: Reporter) -> None:
        del name, gguf, reporter
        write_model(folder)

    return GgufTools(convert, importable=lambda name: name)


def never(*_: object) -> None:
    raise AssertionError


def test_a_file_is_converted_once_and_known_by_its_hash(
    cache: Path, file: Path, tools: GgufTools
) -> None:
    folder = prepare_gguf_model(file, cache, reporter=SILENT, tools=tools)

    assert folder == cache / "models" / f"gguf-m-{sha256_of(file)[:16]}"
    assert is_intact(folder)
    again = replace(tools, convert=never, importable=lambda _: None)
    copy = file.with_name("copy").joinpath("m.gguf")
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    assert prepare_gguf_model(copy, cache, reporter=SILENT, tools=again) == folder

    write_gguf_bytes(file, **{"llama.context_length": 65})
    assert prepare_gguf_model(file, cache, reporter=SILENT, tools=tools) != folder


def test_the_hash_of_the_file_is_part_of_the_identity(
    cache: Path, file: Path, tools: GgufTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_gguf_model(file, cache, reporter=SILENT, tools=tools)
    monkeypatch.setattr(gguf_model, "run_conversion", never)

    resolved = resolve_model(str(file))

    assert resolved.gguf == file
    assert read_model_info(resolved).identity["gguf_sha256"] == sha256_of(file)


def test_a_pin_holds_the_file_alone(
    tmp_path: Path, cache: Path, file: Path, tools: GgufTools
) -> None:
    prepare_gguf_model(file, cache, reporter=SILENT, tools=tools)
    model = resolve_model(str(file))
    empty = ModelLock(tmp_path / "job.lock.json")
    pin = make_pin(model, sha256_of)

    lock = empty.with_pin(model, pin)

    assert list(lock.models) == ["./m.gguf"]
    assert list(pin.files) == ["m.gguf"]
    assert verify_pin(lock, model, sha256_of) == pin
    file.write_bytes(b"X" + file.read_bytes()[1:])
    with pytest.raises(ModelError, match=r"m\.gguf has sha256"):
        verify_pin(lock, model, sha256_of)


def test_missing_packages_are_named_with_the_command(
    cache: Path, file: Path, tools: GgufTools
) -> None:
    without = replace(tools, convert=never, importable=lambda _: None)
    with pytest.raises(ModelError, match="needs gguf and accelerate") as caught:
        prepare_gguf_model(file, cache, reporter=SILENT, tools=without)
    assert "pip install -e '.[demo]'" in caught.value.hint


def test_of_two_processes_one_converts_and_the_other_waits(
    cache: Path, file: Path, tools: GgufTools
) -> None:
    under_way, resume, calls, messages = threading.Event(), threading.Event(), [], list[str]()

    def slow(name: str, gguf: Path, folder: Path, reporter: Reporter) -> None:
        calls.append(name)
        under_way.set()
        assert resume.wait(timeout=10)
        tools.convert(name, gguf, folder, reporter)

    class Resuming(RecordingReporter):
        def info(self, text: str) -> None:
            super().info(text)
            resume.set()

    slowly = replace(tools, convert=slow)
    first = threading.Thread(
        target=lambda: prepare_gguf_model(file, cache, reporter=SILENT, tools=slowly)
    )
    first.start()
    assert under_way.wait(timeout=10)
    folder = prepare_gguf_model(file, cache, reporter=Resuming(messages), tools=slowly)
    first.join(timeout=10)

    assert is_intact(folder)
    assert calls == ["m.gguf"]
    assert "waiting for another process" in messages[0]


def test_a_failed_conversion_leaves_nothing(cache: Path, file: Path, tools: GgufTools) -> None:
    with pytest.raises(AssertionError):
        prepare_gguf_model(file, cache, reporter=SILENT, tools=replace(tools, convert=never))
    assert [entry.suffix for entry in (cache / "models").iterdir()] == [".lock"]


def test_the_conversions_unused_for_the_longest_time_make_room(
    cache: Path, tmp_path: Path, tools: GgufTools
) -> None:
    folders, messages = [], list[str]()
    for number in range(4):
        one = write_gguf_bytes(tmp_path / f"m{number}.gguf", **{"llama.context_length": number})
        bounded = replace(tools, limit_bytes=100_000_000 + 30_000)
        folders.append(
            prepare_gguf_model(one, cache, reporter=RecordingReporter(messages), tools=bounded)
        )
        days = {0: 3, 1: 5}.get(number, 0)
        then = time.time() - days * 86_400
        os.utime(lock_file(folders[-1]), (then, then))

    kept = [folder.is_dir() for folder in folders]
    assert kept == [True, False, True, True]
    assert "m1.gguf" in messages[0]


def test_models_list_and_remove(
    cache: Path, file: Path, tools: GgufTools, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare_gguf_model(file, cache, reporter=SILENT, tools=tools)

    assert call(["models", "list", "--json"]) == ExitCode.DONE
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])["models"]
    assert [m["folder"] for m in listed if m["source"] == "gguf"] == [str(folder)]

    assert call(["models", "remove", "other.gguf"]) == ExitCode.ENVIRONMENT
    assert (
        "no model other.gguf in the caches of this machine; found m.gguf" in capsys.readouterr().err
    )
    assert call(["models", "remove", sha256_of(file)[:16]]) == ExitCode.DONE
    assert capsys.readouterr().out == f"removed {folder}\n"
    assert list_gguf_models(cache) == []
    assert list((cache / "models").iterdir()) == []


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
def test_a_damaged_file_is_named_before_any_row(
    make_job: Callable[..., Path],
    tmp_path: Path,
    cache: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del cache
    file = write_gguf_bytes(tmp_path / "m.gguf", **{"general.architecture": "clip"})
    job = make_job([{"q": "H"}], model={"path": "m.gguf", "engine": "transformers"})

    assert call([command, str(job)]) == ExitCode.ENVIRONMENT
    assert f"{file}: the architecture clip is not supported" in capsys.readouterr().err


def test_validate_accepts_a_file_that_was_not_converted(
    make_job: Callable[..., Path], file: Path, cache: Path
) -> None:
    job = make_job([{"q": "H"}], model={"path": "m.gguf", "engine": "transformers"})
    assert call(["validate", str(job)]) == ExitCode.DONE
    assert find_on_disk(str(file)) is None
    assert not (cache / "models").exists()


def test_a_converted_file_is_found_without_reading_it(
    cache: Path, file: Path, tools: GgufTools
) -> None:
    folder = prepare_gguf_model(file, cache, reporter=SILENT, tools=tools)
    hashes = HashCache(cache / "hashes", small_bytes=0, settled_seconds=-10.0)
    hashes.rehash(file)
    assert find_on_disk(str(file)) == folder


def test_a_file_that_does_not_exist_is_named_with_similar_ones(file: Path) -> None:
    with pytest.raises(ModelError, match=r"mm\.gguf does not exist; similar: m\.gguf"):
        resolve_model(str(file.with_name("mm.gguf")))
