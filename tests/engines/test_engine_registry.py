"""A user-defined engine: defined here, registered, and named by a job file."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.engines.contract import EngineEntry, EngineInfo
from batchgen.engines.echo import EchoEngine
from batchgen.engines.engine_registry import ENGINES, open_engine
from batchgen.errors import UsageError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.jobfile.load import load_job
from batchgen.records import Completion, InFlight, Request
from batchgen.run.plan import plan
from batchgen.run.run import run
from batchgen.state.run_folder import read_json
from tests.conftest import MakeJob
from tests.models.conftest import TOKENIZER_CONFIG, tokenizer_json
from tests.plain_decoder import PlainDecoder


class Shout:
    name = "shout"

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for one in requests:
            assert one.prompt is not None
            text = one.prompt.messages[-1].content.upper() + one.prompt.prefill
            yield Completion(one.index, one.sample, (), text, "stop")

    def likelihoods(self, _asked: object) -> Iterator[Any]:
        raise NotImplementedError

    def in_flight(self) -> InFlight:
        return InFlight()

    def facts(self) -> dict[str, object]:
        return {"volume": 11}

    def close(self) -> None:
        pass


INFO = EngineInfo(
    name="shout",
    summary="repeats the prompt in capitals",
    needs="nothing",
    options=frozenset({"decoding.temperature"}),
    seeds=False,
    likelihoods=False,
    batch_invariant=True,
    batch_invariant_reason="each answer is made alone",
    token_exact=False,
)
ROWS = [{"q": "hello"}, {"q": "goodbye"}]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "shout", EngineEntry(INFO, lambda _model, **_options: Shout()))


@pytest.fixture
def job(make_job: MakeJob) -> Path:
    return make_job(ROWS, model={"engine": "shout"}, prompt={"user": "{{ q }}", "prefill": "So"})


def responses(job: Path) -> pl.DataFrame:
    return pl.read_parquet(job.parent / "out" / "responses.parquet")


def test_a_job_runs_with_a_registered_engine(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["validate", str(job)]) == 0
    assert call(["plan", str(job)]) == 0
    shown = capsys.readouterr().out
    assert "Model     none · engine shout: repeats the prompt in capitals" in shown
    assert "no model is loaded" in shown
    assert call(["run", str(job)]) == 0
    assert responses(job)["response"].to_list() == ["HELLOSo", "GOODBYESo"]
    assert read_json(job.parent / "out" / "manifest.json")["engine"] == {
        "engine": "shout",
        "token_exact": False,
        "batch_invariant": True,
        "batch_invariant_reason": "each answer is made alone",
        "volume": 11,
    }


@pytest.mark.parametrize(("temperature", "kept"), [(0, True), (0.5, False)])
def test_the_column_seed_is_null_where_the_engine_ignored_it(
    job: Path, temperature: float, kept: bool
) -> None:
    result = run(load_job(job, overrides=[f"decoding.temperature={temperature}"]))
    assert result.outcome == "done"
    assert [seed is not None for seed in responses(job)["seed"]] == [kept, kept]


def test_a_finished_run_is_not_scored_by_an_engine_without_likelihoods(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(
        load_job(job, overrides=["output.keep_columns=all", "prompt.prefill=null"])
    ).folder.path
    metric = ["-m", "loglikelihood", "--reference", "q"]
    assert call(["score", str(out), *metric]) == 2
    assert "engine shout does not compute log-probabilities" in capsys.readouterr().err


def test_a_registered_engine_is_in_the_schema_and_in_the_reference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["schema"]) == 0
    assert '"shout"' in capsys.readouterr().out
    assert call(["schema", "--format", "markdown"]) == 0
    assert "| `shout` | repeats the prompt in capitals |" in capsys.readouterr().out


def test_an_engine_without_an_estimate_plans_with_a_default(job: Path) -> None:
    estimate = plan(load_job(job)).engine
    assert (estimate.device, estimate.workers.count, estimate.limits.rows) == ("none", 1, 64)


def test_only_the_name_selects_the_engine() -> None:
    def opened(name: str) -> object:
        return open_engine(
            ModelSpec(engine=name),
            folder=None,
            batching=Batching(),
            decode=PlainDecoder(str),
            should_stop=lambda: False,
        )

    assert isinstance(opened("shout"), Shout)
    assert isinstance(opened("echo"), EchoEngine)
    with pytest.raises(UsageError, match="engine transformers needs a model"):
        opened("transformers")
    with pytest.raises(UsageError, match="unknown engine 'whisper'") as caught:
        opened("whisper")
    assert (
        caught.value.hint == "The engines are: transformers, echo, openai, openvino, vllm, shout."
    )


def test_an_engine_that_needs_only_a_tokenizer_runs_without_config_and_weights(
    job: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    info = replace(INFO, needs="tokenizer")
    monkeypatch.setitem(ENGINES, "shout", EngineEntry(info, lambda _model, **_options: Shout()))
    folder = job.parent / "tokens"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG), "utf-8")
    monkeypatch.chdir(job.parent)
    chosen = ["--set", "model.path=./tokens", "--set", "prompt.chat_template=none"]
    for command in (["validate"], ["models", "pin"], ["plan"], ["run"]):
        assert call([*command, str(job), *chosen]) == 0, capsys.readouterr().err
    assert "engine shout uses only its tokenizer" in capsys.readouterr().out
    answers = responses(job)
    assert answers["response"].to_list() == ["HELLOSo", "GOODBYESo"]
    assert answers["input_tokens"].to_list() == [len("helloSo"), len("goodbyeSo")]
    settings = read_json(job.parent / "out" / "manifest.json")["settings"]
    digests = {name for name in settings["model"] if name.endswith("sha256")}
    assert digests == {"tokenizer_sha256"}
    assert call(["plan", str(job), *chosen, "--set", "model.engine=echo"]) == 5
    assert "no config.json" in capsys.readouterr().err
    (folder / "tokenizer.json").unlink()
    assert call(["plan", str(job), *chosen]) == 5
    assert "no tokenizer" in capsys.readouterr().err
