"""The local tokenizer and chat template are compared with the server's before the first row."""

from pathlib import Path
from typing import Any

import pytest

from batchgen.__main__ import call
from batchgen.jobfile.load import load_job
from batchgen.records import Message, Prompt
from batchgen.run.setup import set_up
from tests.conftest import MakeJob
from tests.engines.openai.fake_server import serving
from tests.models.conftest import CONFIG, WriteModel

ROWS = [{"q": "row"}]
LONG = CONFIG | {"max_position_embeddings": 4096}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(write_model: WriteModel, tmp_path: Path) -> Path:
    return write_model(tmp_path / "tok", {"model.safetensors": None, "config.json": LONG})


TEMPLATES: dict[str, tuple[str, str]] = {
    "the same": ("", ""),
    "another": ("<other>", "has another chat template"),
    "not shown": ("404", "does not show its chat template"),
}


@pytest.mark.parametrize("field", ["content", "prompt"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_same_tokenizer(
    name: str,
    field: str,
    make_job: MakeJob,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    added, message = TEMPLATES[name]
    with serving() as server:
        own = {"engine": "openai", "base_url": server.url, "path": str(folder)}
        job = make_job(ROWS, model=own, decoding={"max_new_tokens": 4})
        tokenizer = set_up(load_job(job)).tokenizer
        capsys.readouterr()

        def rendered(body: dict[str, Any]) -> dict[str, str]:
            (ids,) = tokenizer.encode(
                [Prompt(0, "", (Message("user", body["messages"][0]["content"]),))]
            )
            assert isinstance(ids, list)
            return {"prompt": added + tokenizer.show(ids)}

        server.shows = {"/detokenize": lambda body: {field: " " + tokenizer.show(body["tokens"])}}
        if name != "not shown":
            server.shows = {**server.shows, "/apply-template": rendered}
        assert call(["plan", str(job)]) == 0
    shown = capsys.readouterr().err
    assert message in shown
    assert ("template" in shown) == bool(message)


def test_another_tokenizer_is_an_error_before_the_first_row(
    make_job: MakeJob, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        server.shows = {"/detokenize": lambda body: {"content": "x" * len(body["tokens"])}}
        own = {"engine": "openai", "base_url": server.url, "path": str(folder)}
        assert call(["run", str(make_job(ROWS, model=own, decoding={"max_new_tokens": 4}))]) == 2
        assert server.bodies == []
    shown = capsys.readouterr().err
    assert "model.path: token ids mean another text to http://" in shown
    assert "job.yaml:" in shown


def test_a_tokenizer_that_is_not_shown_is_not_compared(
    make_job: MakeJob, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        own = {"engine": "openai", "base_url": server.url, "path": str(folder)}
        assert call(["plan", str(make_job(ROWS, model=own, decoding={"max_new_tokens": 4}))]) == 0
    assert "does not show its tokenizer" in capsys.readouterr().err


def test_plan_states_that_messages_leave_no_template_to_compare(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        own = {"engine": "openai", "base_url": server.url}
        assert call(["plan", str(make_job(ROWS, model=own))]) == 0
    assert "no template to compare with" in capsys.readouterr().out
