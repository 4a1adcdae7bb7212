"""Metrics that score given texts, and judges, with `engine: openai`."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.__main__ import call
from tests.conftest import MakeJob
from tests.engines.openai.fake_server import (
    SETTINGS,
    FakeServer,
    Seen,
    Sent,
    answer,
    scored,
    serving,
)
from tests.models.conftest import CONFIG, WriteModel

ROWS = [{"q": f"row {n}", "ref": "ab"} for n in range(3)]
LONG = CONFIG | {"max_position_embeddings": 4096}
PERPLEXITY = {"metrics": [{"type": "perplexity", "column": "ref"}]}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("batchgen.engines.openai.served_model.START_SECONDS", 0.2)
    monkeypatch.setattr("batchgen.engines.openai.identify_served.START_SECONDS", 0.2)


def act(seen: Seen) -> Sent:
    """Answer rows; score prompts for requests that want it."""
    scores = "prompt_logprobs" in seen.body or seen.body.get("echo")
    return scored(seen.body["prompt"], seen.body) if scores else answer("x", chat=False)


def own(server: FakeServer, folder: Path) -> dict[str, Any]:
    return {"engine": "openai", "base_url": server.url, "path": str(folder)}


@pytest.fixture
def tokenizer(write_model: WriteModel, tmp_path: Path) -> Path:
    return write_model(tmp_path / "tok", {"model.safetensors": None, "config.json": LONG})


@pytest.mark.parametrize("field", ["prompt_logprobs", "echo"])
def test_a_server_scores_given_texts(
    field: str, make_job: MakeJob, tokenizer: Path, tmp_path: Path
) -> None:
    with serving(act) as server:
        server.honors = SETTINGS | {field}
        job = make_job(ROWS, model=own(server, tokenizer), evaluate=PERPLEXITY)
        assert call(["run", str(job)]) == 0
    scores = pl.read_parquet(tmp_path / "out" / "scores.parquet")
    assert set(scores["status"]) == {"ok"}


def test_a_server_gives_the_probabilities_of_labels(
    make_job: MakeJob, tokenizer: Path, tmp_path: Path
) -> None:
    def choosing(seen: Seen) -> Sent:
        return act(seen) if "structured_outputs" not in seen.body else answer("a", chat=False)

    with serving(choosing) as server:
        server.honors = SETTINGS | {"prompt_logprobs", "structured_outputs"}
        job = make_job(
            ROWS,
            model=own(server, tokenizer),
            decoding={"response_format": {"choice": ["a", "b"]}},
            output={"choice_probabilities": True},
        )
        assert call(["run", str(job)]) == 0
    table = pl.read_parquet(tmp_path / "out" / "responses.parquet")
    assert [[one["label"] for one in cell] for cell in table["choice_probabilities"]] == [
        ["a", "b"]
    ] * 3


USES: dict[str, dict[str, Any]] = {
    "evaluate.metrics[0]": {"evaluate": PERPLEXITY},
    "output.choice_probabilities": {
        "output": {"choice_probabilities": True},
        "decoding": {"response_format": {"choice": ["a"]}},
    },
    "evaluate.judges[0]": {"evaluate": {"judges": [{"name": "good"}]}},
}


@pytest.mark.parametrize("key", USES)
def test_a_server_that_scores_no_texts_is_refused_before_the_first_row(
    key: str, make_job: MakeJob, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(act) as server:
        server.honors = SETTINGS - {"logprobs"} | {"structured_outputs"}
        job = make_job(ROWS, model=own(server, tokenizer), **USES[key])
        assert call(["run", str(job)]) == 2
        assert server.bodies == []
    shown = capsys.readouterr().err
    assert f"{key}: needs log-probabilities of given texts, which {server.url}" in shown
    assert "job.yaml:" in shown


@pytest.mark.parametrize("key", USES)
def test_without_a_tokenizer_no_text_is_scored(
    key: str, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1"}
    assert call(["validate", str(make_job(ROWS, model=model, **USES[key]))]) == 2
    assert f"{key}: needs the tokenizer of the model" in capsys.readouterr().err


def test_a_dead_server_of_a_judge_is_named(
    make_job: MakeJob, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1", "path": str(tokenizer)}
    judge = {"name": "good", "model": dead}
    with serving(act) as server:
        job = make_job(
            ROWS,
            model={"engine": "openai", "base_url": server.url},
            evaluate={"judges": [judge]},
        )
        assert call(["run", str(job)]) == 75
    assert "judge good: http://127.0.0.1:9/v1 does not answer" in capsys.readouterr().err
