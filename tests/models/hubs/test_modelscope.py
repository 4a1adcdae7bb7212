"""Models of ModelScope, downloaded by modelscope-hub from a server on this machine."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.doctor.job_checks import check_job
from batchgen.errors import ModelError
from batchgen.jobfile.load import load_job
from batchgen.models.catalog import KnownModel, list_models, remove_models
from batchgen.models.find_model import find_on_disk, resolve_model
from batchgen.models.hubs.hub_file import HubFile
from batchgen.models.hubs.model_scope import ModelScope
from batchgen.models.local_model import check_pins, pin_models
from batchgen.run.run import run
from tests.models.hubs.modelscope_server import ModelScopeServer, serve
from tests.reporters import RecordingReporter

MakeJob = Callable[..., Path]
Write = Callable[..., Path]
NAME = "modelscope:li/tiny"
GUARD = """
import os, sys

def record(event, arguments):
    if event == "socket.connect":
        with open(os.environ["CONNECTIONS"], "a") as file:
            print(*arguments[1][:2], file=file)

sys.addaudithook(record)
"""


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of ModelScope, in an environment without settings of the user."""
    for name in [name for name in os.environ if name.startswith(("MODELSCOPE_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "scope"))
    return tmp_path / "scope"


@pytest.fixture
def server(
    tmp_path: Path, write_model: Write, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModelScopeServer]:
    del cache
    source = write_model(tmp_path / "source", {"README.md": "a page", "pytorch_model.bin": b"x"})
    files = contents(source)
    first = {**files, "config.json": files["config.json"] + b"\n"}
    with serve(ModelScopeServer("li/tiny", {"master": files, "v1.0": first})) as served:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", served.address)
        yield served


def test_a_download_takes_safetensors_and_text_but_no_pickles(
    server: ModelScopeServer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("modelscope_hub", reason="needs the extra: modelscope")
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    paths = filter(None, [str(tmp_path / "guard"), os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("CONNECTIONS", str(tmp_path / "connections"))
    messages: list[str] = []

    found = resolve_model(NAME, reporter=RecordingReporter(messages))

    assert found.folder == cache / "models" / "li--tiny" / "snapshots" / "master"
    assert (found.source, found.revision) == ("hub", "master")
    expected = dict(server.revisions["master"])
    del expected["README.md"], expected["pytorch_model.bin"]
    assert contents(found.folder) == expected
    assert sorted(name for name, _ in server.files) == sorted(expected)
    connections = set((tmp_path / "connections").read_text().splitlines())
    assert connections == {server.address.removeprefix("http://").replace(":", " ")}
    assert messages == [
        f"downloading {NAME} from {server.address}",
        f"{NAME}: branch master as it is now, because model.revision is not set; "
        "to fix its files, pin them: `batchgen models pin JOB`",
    ]
    server.requests.clear()
    assert resolve_model(NAME).source == "cache"
    assert server.requests == []


def test_a_tag_is_another_copy(server: ModelScopeServer) -> None:
    pytest.importorskip("modelscope_hub", reason="needs the extra: modelscope")
    found = resolve_model(NAME, revision="v1.0")

    assert found.revision == "v1.0"
    assert (found.folder / "config.json").read_bytes() == server.revisions["v1.0"]["config.json"]
    assert find_on_disk(NAME, "v1.0") == found.folder
    assert find_on_disk(NAME) is None


def list_cached() -> list[KnownModel]:
    known = list_models(hubs=[ModelScope.from_environment(os.environ)])
    return [model for model in known if model.source == "cache"]


def test_a_broken_download_is_continued(
    server: ModelScopeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("modelscope_hub", reason="needs the extra: modelscope")
    monkeypatch.setenv("MODELSCOPE_DOWNLOAD_MAX_RETRIES", "0")
    server.cut.add("model.safetensors")
    with pytest.raises(ModelError, match=r"1 of 6 files failed; model\.safetensors: ") as caught:
        resolve_model(NAME)
    assert caught.value.hint.startswith("Run again to resume the download")
    assert find_on_disk(NAME) is None
    (listed,) = list_cached()
    assert (listed.name, listed.state) == (NAME, "incomplete")
    assert listed.note == "its download was interrupted"

    server.cut.clear()
    server.requests.clear()
    found = resolve_model(NAME)

    ((name, first),) = server.files
    assert (name, first > 0) == ("model.safetensors", True)
    sent = server.revisions["master"]["model.safetensors"]
    assert (found.folder / "model.safetensors").read_bytes() == sent
    (listed,) = list_cached()
    assert (listed.state, listed.note) == ("ready", "master")
    assert remove_models(NAME) == (found.folder.parents[1],)
    assert find_on_disk(NAME) is None


@pytest.mark.parametrize(
    ("name", "revision", "private", "message"),
    [
        ("modelscope:li/absent", None, False, "li/absent does not exist, or is private"),
        (NAME, "v9", False, "li/tiny has no revision v9; found master, v1.0"),
        (NAME, None, True, "li/tiny is not public: set MODELSCOPE_API_TOKEN"),
    ],
)
def test_errors_of_the_server_are_one_line(
    server: ModelScopeServer, name: str, revision: str | None, private: bool, message: str
) -> None:
    pytest.importorskip("modelscope_hub", reason="needs the extra: modelscope")
    server.private = private
    with pytest.raises(ModelError, match=message) as caught:
        resolve_model(name, revision=revision)
    assert "\n" not in caught.value.message


def test_without_the_library_the_error_names_the_extra(
    server: ModelScopeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match="modelscope-hub, which is not installed") as caught:
        resolve_model(NAME)
    assert "batchgen-llm[modelscope]" in caught.value.hint
    assert server.requests == []


def test_a_server_that_does_not_respond(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("modelscope_hub", reason="needs the extra: modelscope")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "127.0.0.1:9")
    (cache / "models" / "li--tinny" / "snapshots").mkdir(parents=True)
    with pytest.raises(ModelError) as caught:
        resolve_model(NAME)
    assert f"model {NAME} is not on this machine, and https://127.0.0.1:9" in caught.value.message
    assert "MODELSCOPE_ENDPOINT=https://…" in caught.value.hint
    assert "similar: modelscope:li/tinny" in caught.value.hint
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("BATCHGEN_SET_OFFLINE", raising=False)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids connections to ModelScope"):
        resolve_model(NAME)


@pytest.mark.parametrize(
    "name", ["modelscope:li", "modelscope:", "modelscope:a/b/c", "modelscope:../b"]
)
def test_what_is_not_a_name(cache: Path, name: str) -> None:
    del cache
    with pytest.raises(ModelError, match="expected modelscope:OWNER/NAME"):
        find_on_disk(name)


def test_a_revision_cannot_leave_its_folder(cache: Path) -> None:
    del cache
    with pytest.raises(ModelError, match=r"revision '\.\./x'"):
        find_on_disk(NAME, "../x")


def test_a_gguf_file_of_modelscope() -> None:
    found = HubFile.of("modelscope:li/tiny-GGUF/q8.gguf")
    assert found == HubFile("modelscope:li/tiny-GGUF", "q8.gguf")


def tiny_llama(folder: Path) -> None:
    """Weights with which the engine can compute, for the vocabulary of `write_model`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: Mapping[str, Any] = json.loads((folder / "config.json").read_bytes())
    sizes = {k: v for k, v in sizes.items() if k not in ("architectures", "model_type", "dtype")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loader: Any = AutoModelForCausalLM
        loader.from_config(AutoConfig.for_model("llama", **sizes)).save_pretrained(folder)


@pytest.mark.soak
def test_a_job_runs_with_a_model_of_modelscope(
    tmp_path: Path,
    write_model: Write,
    cache: Path,
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Doctor, run, pins; then a file that someone changed."""
    pytest.importorskip("modelscope_hub", reason="needs the extra: modelscope")
    tiny_llama(write_model(tmp_path / "source"))
    job = make_job(
        [{"q": "hi"}, {"q": "a"}],
        model={"path": NAME, "engine": "transformers"},
        decoding={"max_new_tokens": 3},
    )
    served = ModelScopeServer("li/tiny", {"master": contents(tmp_path / "source")})
    with serve(served):
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", served.address)
        checks = list(check_job(lambda: load_job(job), hub_reachable=False))
        found = {one.topic: (one.status, one.text) for one in checks}
        assert found["modelscope"] == ("ok", f"{served.address} responds")
        assert found["modelscope cache"][0] == "ok"
        assert found["model"] == ("note", f"{NAME} is not on this machine; `run` downloads it")
        result = run(job)
    assert result.outcome == "done"
    answers = pl.read_parquet(result.folder.responses)
    assert answers["error"].null_count() == 2
    manifest = json.loads((result.folder.path / "manifest.json").read_text())
    assert manifest["model"]["name"] == NAME
    pins = pin_models(load_job(job))
    assert pins.models[0].name == NAME

    config = cache / "models" / "li--tiny" / "snapshots" / "master" / "config.json"
    config.write_bytes(config.read_bytes() + b" ")
    with pytest.raises(ModelError, match=r"modelscope:li/tiny differs from .*config\.json"):
        check_pins(load_job(job))
