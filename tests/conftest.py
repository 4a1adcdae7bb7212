"""Fixtures that all tests share."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

from tests.browser import browser, show
from tests.object_store import FaultyStore, faulty_store, moto_server

__all__ = ["browser", "show"]

# Set before any test imports a library that reads it: the suite sends no request to a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would send events

# On a busy machine an example takes any time.
settings.register_profile("batchgen", deadline=None)
settings.load_profile("batchgen")

# The caller may ignore these signals (nohup, a background job of a shell), which child processes inherit; tests send them.
for _stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_stop) is signal.SIG_IGN:
        signal.signal(
            _stop, signal.default_int_handler if _stop is signal.SIGINT else signal.SIG_DFL
        )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Two processes run the whole suite; the tests of a file share a process, and so the fixtures of their module."""
    if hasattr(config, "workerinput"):
        return  # This is one of the two.
    whole = config.args == config.getini("testpaths")
    if whole and config.option.numprocesses is None and not config.option.usepdb:
        config.option.numprocesses = 2
        config.option.dist = "loadfile"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Repeat a test that bounds seconds: a virtual machine may stand still for longer than any bound."""
    for item in items:
        if item.get_closest_marker("timing"):
            item.add_marker(pytest.mark.flaky(reruns=2))


ROOT = Path(__file__).resolve().parent.parent

MakeJob = Callable[..., Path]


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    """The converted demo model; downloaded once per machine."""
    from batchgen.models.demo.demo_model import fetch_demo_model

    return fetch_demo_model("smollm2-135m")


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Write rows to `rows.jsonl` and a job with the prompt `{{ q }}` and the echo engine; keywords override sections."""

    def make(rows: Sequence[Mapping[str, Any]] = ({"q": "hello"},), **sections: Any) -> Path:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / "rows.jsonl").write_text(lines, "utf-8")
        job: dict[str, Any] = {
            "version": 1,
            "name": "test",
            "input": {"path": "rows.jsonl"},
            "prompt": {"user": "{{ q }}"},
            "model": {"engine": "echo"},
            "output": {"path": "out"},
        }
        for key, value in sections.items():
            old: Any = job.get(key)
            merges = isinstance(old, dict) and isinstance(value, dict)
            job[key] = old | value if merges else value
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(job, allow_unicode=True), "utf-8")
        return path

    return make


@pytest.fixture
def shared_data() -> Path:
    """The folder of public prompts, ../shared/data; skips the test without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data")
    return folder


@pytest.fixture(scope="session")
def _moto_port() -> Iterator[int]:
    with moto_server() as port:
        yield port


@pytest.fixture
def object_store(
    _moto_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultyStore]:
    """A new bucket of a real S3 server, and the environment for it; copies of objects are in a new cache."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
    with faulty_store(_moto_port) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        yield store
