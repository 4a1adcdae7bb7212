import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from batchgen.errors import ModelError
from batchgen.models.hubs.hub import DEFAULT_ENDPOINT, Hub, UnreachableError
from batchgen.progress import SILENT
from tests.reporters import RecordingReporter

Write = Callable[..., Path]
COMMIT = "c1899de289a04d12100db370d81485cdf75e47ca"


@pytest.mark.parametrize(
    ("environment", "cache"),
    [
        ({}, "~/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HF_HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/h/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/h"}, "/old"),
        ({"HF_HUB_CACHE": "/new", "HUGGINGFACE_HUB_CACHE": "/old"}, "/new"),
        ({"HF_HUB_CACHE": "~/models"}, "~/models"),
    ],
)
def test_the_cache_folder_is_that_of_huggingface_hub(
    environment: dict[str, str], cache: str
) -> None:
    assert Hub.from_environment(environment).cache == Path(cache).expanduser()


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"XDG_CACHE_HOME": "/x"},
        {"HF_HOME": "~/h"},
        {"HF_HUB_CACHE": "/new", "HF_HUB_OFFLINE": "yes", "HF_ENDPOINT": "http://mirror/"},
        {"TRANSFORMERS_OFFLINE": "ON"},
        {"HF_HUB_OFFLINE": "0"},
    ],
)
def test_huggingface_hub_reads_the_environment_the_same_way(environment: dict[str, str]) -> None:
    program = (
        "from huggingface_hub import constants as c; import json; "
        "print(json.dumps([c.HF_HUB_CACHE, c.ENDPOINT, c.HF_HUB_OFFLINE]))"
    )
    names = {"HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE"}
    names |= {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
    rest = {name: value for name, value in os.environ.items() if name not in names}

    printed = subprocess.run(
        [sys.executable, "-c", program], env=rest | environment, capture_output=True, check=True
    ).stdout

    hub = Hub.from_environment(environment)
    assert [str(hub.cache), hub.endpoint, hub.offline_by is not None] == json.loads(printed)


@pytest.mark.parametrize(
    ("environment", "offline_by"),
    [
        ({}, None),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        ({"TRANSFORMERS_OFFLINE": "true"}, "TRANSFORMERS_OFFLINE"),
        ({"HF_HUB_OFFLINE": "0"}, None),
        ({"HF_HUB_OFFLINE": "1", "BATCHGEN_SET_OFFLINE": "1"}, None),
    ],
)
def test_only_the_users_settings_prevent_a_download(
    environment: dict[str, str], offline_by: str | None
) -> None:
    """The last case: an earlier model was local, and batchgen itself went offline."""
    assert Hub.from_environment(environment).offline_by == offline_by


def test_the_endpoint_is_shown_without_a_password(tmp_path: Path) -> None:
    hub = Hub(tmp_path, endpoint="https://li:secret@mirror.example:8443/hub")

    assert hub.shown_endpoint == "https://mirror.example:8443/hub"


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Quiet(BaseHTTPRequestHandler):
    """Sends the same status for every request."""

    status = 200

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.mark.parametrize("status", [200, 301, 401, 404, 503])
def test_a_hub_that_sends_any_response_is_reachable(tmp_path: Path, status: int) -> None:
    handler = type("Answer", (Quiet,), {"status": status})
    with serving(handler) as endpoint:
        Hub(tmp_path, endpoint).probe(seconds=5)


def test_a_hub_that_rejects_the_connection_is_unreachable(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with pytest.raises(UnreachableError, match="refused"):
        Hub(tmp_path, f"http://127.0.0.1:{port}").probe(seconds=5)


@pytest.mark.timing
def test_requests_to_a_silent_hub_time_out(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()

        with pytest.raises(UnreachableError, match=r"no response within 0\.3 seconds|timed out"):
            Hub(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}").probe(seconds=0.3)

        assert time.monotonic() - began < 2


@pytest.mark.parametrize("endpoint", ["mirror.example", "http://", "http://[", "ftp://x", ""])
def test_an_invalid_endpoint_is_unreachable(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(UnreachableError):
        Hub(tmp_path, endpoint).probe(seconds=5)


def snapshot(hub: Hub, commit: str = COMMIT, *, ref: str | None = "main") -> Path:
    folder = hub.repository("Qwen/Qwen3-0.6B") / "snapshots" / commit
    folder.mkdir(parents=True)
    if ref is not None:
        refs = hub.repository("Qwen/Qwen3-0.6B") / "refs" / ref
        refs.parent.mkdir(parents=True, exist_ok=True)
        refs.write_text(commit)
    return folder


@pytest.mark.parametrize(
    ("ref", "requested", "found"),
    [
        ("main", None, True),
        ("main", COMMIT, True),
        ("main", "main", True),
        ("v1.0", "v1.0", True),
        ("v1.0", None, False),
        (None, COMMIT, True),
        (None, None, False),
        ("main", "v2", False),
        ("main", "a\0b", False),
    ],
)
def test_a_snapshot_is_found_by_branch_tag_or_commit(
    tmp_path: Path, ref: str | None, requested: str | None, found: bool
) -> None:
    hub = Hub(tmp_path)
    folder = snapshot(hub, ref=ref)

    assert hub.snapshot("Qwen/Qwen3-0.6B", requested) == (folder if found else None)
    assert hub.snapshot("Qwen/Qwen3-1.7B", requested) is None


def test_cached_models_are_listed_by_their_ids(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    for folder in ("models--Qwen--Qwen3-0.6B", "models--gpt2", "datasets--Qwen--data", "version"):
        (tmp_path / folder / "snapshots").mkdir(parents=True)

    assert hub.models() == ("Qwen/Qwen3-0.6B", "gpt2")
    assert Hub(tmp_path / "nowhere").models() == ()


class FakeHub(Quiet):
    """The part of the hub's API that one download uses: revision, tree, files."""

    files: dict[str, bytes] = {}  # noqa: RUF012  (set once, by a subclass)
    requested: list[str] = []  # noqa: RUF012  (as above)

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self._send(200, b"")
        elif "Qwen/Qwen3-0.6B" not in path:
            self._send(404, b"{}", X_Error_Code="RepoNotFound")
        elif not path.startswith("/api/"):
            self._file(path.partition(f"/resolve/{COMMIT}/")[2])
        elif "/tree/" in path:
            self._json([_listed(name, body) for name, body in self.files.items()])
        elif path.endswith(("/revision/main", f"/revision/{COMMIT}")):
            self._json({"id": "Qwen/Qwen3-0.6B", "sha": COMMIT, "siblings": []})
        else:
            self._send(404, b"{}", X_Error_Code="RevisionNotFound")

    def _file(self, name: str) -> None:
        self.requested.append(name)
        body = self.files[name]
        self._send(200, body, ETag=f'"{_blob(body)}"', X_Repo_Commit=COMMIT)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), Content_Type="application/json")


def _blob(body: bytes) -> str:
    return f"{len(body):040x}"


def _listed(name: str, body: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(body), "oid": _blob(body)}


@pytest.fixture
def fake(tmp_path: Path, write_model: Write) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub with one model, and the list of requested files."""
    source = write_model(
        tmp_path / "source", {"README.md": "a page", "pytorch_model.bin": b"x", "onnx/m.json": {}}
    )
    files = {str(f.relative_to(source)): f.read_bytes() for f in source.rglob("*") if f.is_file()}
    requested: list[str] = []
    with serving(
        type("OneModel", (FakeHub,), {"files": files, "requested": requested})
    ) as endpoint:
        yield endpoint, requested


@pytest.mark.slow
def test_a_download_takes_safetensors_and_text_but_no_pickles(
    tmp_path: Path, fake: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("BATCHGEN_SET_OFFLINE", "1")
    endpoint, requested = fake
    messages: list[str] = []
    hub = Hub(tmp_path / "cache", endpoint)

    folder = hub.fetch("Qwen/Qwen3-0.6B", None, RecordingReporter(messages))

    assert folder == hub.snapshot("Qwen/Qwen3-0.6B", None)
    assert folder is not None
    assert folder.name == COMMIT
    assert {f.name for f in folder.iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not {"README.md", "pytorch_model.bin", "onnx/m.json"} & set(requested)
    assert messages == [f"downloading Qwen/Qwen3-0.6B from {endpoint}"]


@pytest.mark.slow
def test_one_file_is_downloaded(
    tmp_path: Path, fake: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub = Hub(tmp_path / "cache", fake[0])
    folder = hub.fetch("Qwen/Qwen3-0.6B", None, SILENT, "onnx/m.json")
    assert [f for f in folder.rglob("*") if f.is_file()] == [folder / "onnx" / "m.json"]
    with pytest.raises(ModelError, match=r"has no file no\.gguf at revision main"):
        hub.fetch("Qwen/Qwen3-0.6B", None, SILENT, "no.gguf")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_id", "revision", "messages"),
    [
        ("Qwen/Qwen9", None, "Qwen/Qwen9 does not exist, or is private"),
        ("Qwen/Qwen3-0.6B", "v9", "Qwen/Qwen3-0.6B has no revision v9"),
    ],
)
def test_errors_of_the_hub_are_one_line(
    tmp_path: Path,
    fake: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    model_id: str,
    revision: str | None,
    messages: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    with pytest.raises(ModelError, match=messages) as caught:
        Hub(tmp_path / "cache", fake[0]).fetch(model_id, revision, SILENT)

    assert "\n" not in caught.value.message


def test_the_default_endpoint_is_huggingface_co() -> None:
    assert Hub.from_environment({"HF_ENDPOINT": ""}).endpoint == DEFAULT_ENDPOINT
