import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import ModelError
from batchgen.models.find_model import ResolvedModel, Resolver
from batchgen.models.hubs.hub import Hub
from tests.reporters import RecordingReporter

Write = Callable[..., Path]
COMMIT = "c1899de289a04d12100db370d81485cdf75e47ca"
ID = "Qwen/Qwen3-0.6B"


@pytest.fixture
def deaf(tmp_path: Path) -> Hub:
    """A hub address with a closed port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return Hub(tmp_path / "hub", f"http://127.0.0.1:{port}")


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that relative paths are based on."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def into_cache(hub: Hub, write_model: Write, changes: dict[str, object] | None = None) -> Path:
    refs = hub.repository(ID) / "refs" / "main"
    refs.parent.mkdir(parents=True)
    refs.write_text(COMMIT)
    return write_model(hub.repository(ID) / "snapshots" / COMMIT, changes)


@pytest.mark.parametrize("path", ["model", "./model", "Qwen/Qwen3-0.6B"])
def test_a_folder_is_preferred_whatever_its_name(
    at: Path, deaf: Hub, write_model: Write, path: str
) -> None:
    folder = at / path
    folder.parent.mkdir(exist_ok=True)
    write_model(folder)
    into_cache(deaf, write_model)

    assert Resolver(deaf).resolve(path) == ResolvedModel(path, folder, "folder", "")


def test_a_cached_model_needs_no_connection(deaf: Hub, write_model: Write) -> None:
    folder = into_cache(deaf, write_model)

    for revision in (None, "main", COMMIT):
        found = Resolver(deaf).resolve(ID, revision)
        assert found == ResolvedModel(ID, folder, "cache", COMMIT)


def test_an_unknown_demo_model_lists_those_that_exist(deaf: Hub) -> None:
    with pytest.raises(
        ModelError, match="unknown demo model demo:gpt5; expected demo:smollm2-135m"
    ):
        Resolver(deaf).resolve("demo:gpt5")


def test_the_error_of_an_unreachable_hub_names_model_places_and_remedies(
    at: Path, deaf: Hub
) -> None:
    with pytest.raises(ModelError, match="is not on this machine") as caught:
        Resolver(deaf).resolve(ID)

    assert ID in caught.value.message
    assert f"{deaf.endpoint} does not respond" in caught.value.message
    for part in (
        "model.path=FOLDER",
        "HF_ENDPOINT=",
        "demo:smollm2-135m",
        str(deaf.cache),
        str(at / ID),
    ):
        assert part in caught.value.hint


@pytest.mark.timing
def test_requests_to_a_hanging_hub_time_out(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hub = Hub(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()

        with pytest.raises(ModelError, match="does not respond"):
            Resolver(hub, probe_seconds=0.3).resolve(ID)

        assert time.monotonic() - began < 2


@pytest.mark.timing
def test_offline_mode_makes_no_connection_attempt(tmp_path: Path) -> None:
    """A connection to the address would hang, so no attempt may be made."""
    hub = Hub(tmp_path, "http://192.0.2.1", offline_by="HF_HUB_OFFLINE")
    began = time.monotonic()

    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids connections to the hub"):
        Resolver(hub).resolve(ID)

    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    ("lacks", "message"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_an_incomplete_copy_in_the_cache_is_mentioned(
    deaf: Hub, write_model: Write, lacks: str, message: str
) -> None:
    into_cache(deaf, write_model, {lacks: None})

    with pytest.raises(ModelError) as caught:
        Resolver(deaf).resolve(ID)

    assert "an unusable copy" in caught.value.hint
    assert message in caught.value.hint


@pytest.mark.parametrize("requested", ["Qwen/Qwen3-0.6b", "qwen/Qwen3-0.6B", "Qwen/Qwen3-06B"])
def test_the_hint_names_a_similar_cached_model(
    deaf: Hub, write_model: Write, requested: str
) -> None:
    into_cache(deaf, write_model)

    with pytest.raises(ModelError) as caught:
        Resolver(deaf).resolve(requested)

    assert f"similar: {ID}" in caught.value.hint


NO_ID: dict[str, tuple[str, str]] = {
    "relative folder": ("./models/gone", "folder {at}/models/gone does not exist"),
    "absolute folder": ("/models/gone", "folder /models/gone does not exist"),
    "three parts": ("models/Qwen/Qwen3", "folder {at}/models/Qwen/Qwen3 does not exist"),
    "blank": ("my model", "folder {at}/my model does not exist"),
    "upwards": ("../../etc", "does not exist"),
    "address": ("https://hub.example/Qwen/Qwen3", "is a URL"),
    "other hub": ("other:Qwen/Qwen3", "does not exist"),
    "ModelScope without an owner": ("modelscope:Qwen3", "expected modelscope:OWNER/NAME"),
    "a file": ("weights.safetensors", "is a file"),
    "NUL": ("a\0b", "does not exist"),
    "very long": ("x/" * 3000, "File name too long"),
}


@pytest.mark.timing
@pytest.mark.parametrize(("path", "message"), NO_ID.values(), ids=NO_ID.keys())
def test_what_is_neither_folder_nor_id_is_rejected_without_a_request(
    at: Path, tmp_path: Path, path: str, message: str
) -> None:
    (at / "weights.safetensors").write_bytes(b"")
    hangs = Hub(tmp_path / "hub", "http://192.0.2.1")
    began = time.monotonic()

    with pytest.raises(ModelError) as caught:
        Resolver(hangs).resolve(path)

    assert message.format(at=at) in caught.value.message
    assert time.monotonic() - began < 0.5


def test_the_hint_names_a_folder_with_a_similar_name(at: Path, deaf: Hub) -> None:
    (at / "models" / "Qwen3-0.6B").mkdir(parents=True)

    with pytest.raises(ModelError, match=r"similar: .*models/Qwen3-0\.6B"):
        Resolver(deaf).resolve(str(at / "models" / "Qwen3-06B"))


@pytest.mark.parametrize("path", ["model", "demo:smollm2-135m"])
def test_a_revision_without_effect_is_rejected(
    at: Path, deaf: Hub, write_model: Write, path: str
) -> None:
    write_model(at / "model")

    with pytest.raises(ModelError, match=r"model\.revision: main has no effect"):
        Resolver(deaf).resolve(path, "main")


def test_a_folder_is_checked_before_it_is_loaded(
    at: Path, deaf: Hub, write_model: Write, config: dict[str, Any]
) -> None:
    write_model(at / "model", {"config.json": {**config, "_attn_implementation": "owner/kernel"}})

    with pytest.raises(ModelError, match="names a repository with code"):
        Resolver(deaf).resolve("model")


def test_a_tokenizer_needs_neither_config_nor_weights(
    at: Path, deaf: Hub, write_model: Write
) -> None:
    write_model(at / "tokenizer", {"config.json": None, "model.safetensors": None})

    found = Resolver(deaf, wanted="tokenizer").resolve("tokenizer")

    assert found.folder == at / "tokenizer"


def test_a_local_model_prints_no_messages(at: Path, deaf: Hub, write_model: Write) -> None:
    write_model(at / "model")
    message: list[str] = []

    Resolver(deaf, reporter=RecordingReporter(message)).resolve("model")

    assert message == []
