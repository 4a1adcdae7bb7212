"""GGUF files of the hub: which paths name one, and what is found in the hub's cache."""

from pathlib import Path

import pytest

from batchgen.errors import ModelError
from batchgen.models.find_model import Resolver, find_on_disk
from batchgen.models.formats.gguf_model import prepare_gguf_model
from batchgen.models.hubs.hub import Hub
from batchgen.models.hubs.hub_file import HubFile
from batchgen.progress import SILENT
from tests.models.formats.gguf_bytes import write_gguf_bytes

COMMIT = "1" * 40


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Qwen/Qwen3-GGUF/q8_0.gguf", HubFile("Qwen/Qwen3-GGUF", "q8_0.gguf")),
        ("a/b/Q4_K_M/m-00001.GGUF", HubFile("a/b", "Q4_K_M/m-00001.GGUF")),
        ("a/m.gguf", None),
        ("m.gguf", None),
        ("/a/b/m.gguf", None),
        ("./a/b/m.gguf", None),
        ("a/../b/m.gguf", None),
        ("a/b/m.bin", None),
        ("tests/models/missing.gguf", None),  # the folder is here
    ],
)
def test_which_paths_name_a_file_of_the_hub(path: str, expected: HubFile | None) -> None:
    assert HubFile.of(path) == expected


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """A cache with one file, as huggingface_hub leaves it: a link to a blob."""
    found = Hub(tmp_path / "hub", "http://127.0.0.1:9", offline_by="HF_HUB_OFFLINE")
    repository = found.repository("a/b")
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs").mkdir()
    blob = write_gguf_bytes(repository / "blobs" / "0123")
    file = repository / "snapshots" / COMMIT / "q8" / "m.gguf"
    file.parent.mkdir(parents=True)
    file.symlink_to(blob)
    return found


def test_a_cached_file_is_converted_without_a_connection(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs the extra: demo")
    pytest.importorskip("accelerate", reason="needs the extra: demo")
    from batchgen.models.formats.gguf_model import GgufTools
    from batchgen.progress import Reporter

    def convert(_name: str, file: Path, folder: Path, _reporter: Reporter) -> None:
        (folder / "config.json").write_text(file.name)

    cached = HubFile("a/b", "q8/m.gguf").cached(hub, None)
    assert cached is not None
    cache = tmp_path / "cache"
    folder = prepare_gguf_model(cached, cache, reporter=SILENT, tools=GgufTools(convert))
    model = Resolver(hub, cache).resolve("a/b/q8/m.gguf", COMMIT)
    assert (model.folder, model.source, model.revision) == (folder, "cache", COMMIT)
    assert model.gguf == cached


@pytest.mark.parametrize(("path", "revision"), [("a/b/other.gguf", None), ("a/b/q8/m.gguf", "v9")])
def test_a_file_that_is_not_there_needs_the_hub(hub: Hub, path: str, revision: str | None) -> None:
    with pytest.raises(ModelError, match=r"model a/b.* is not on this machine, and HF_HUB_OFFLINE"):
        Resolver(hub).resolve(path, revision)


def test_a_file_that_is_not_converted_is_not_a_model_on_disk(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(hub.cache))
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "own"))
    assert find_on_disk("a/b/q8/m.gguf") is None
