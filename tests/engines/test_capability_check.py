"""Settings of a job that its engine does not support are errors at the lines of their keys, reported at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchgen.__main__ import call
from batchgen.decoding.resolve_decoding import resolve_decoding
from batchgen.engines.capability_check import check_generation_config, engine_problems
from batchgen.engines.contract import OPTIONS, EngineEntry
from batchgen.engines.echo import ECHO, INFO
from batchgen.engines.engine_registry import ENGINES
from batchgen.errors import JobFileError, ModelError
from batchgen.job.spec import Decoding
from batchgen.jobfile.load import load_job
from batchgen.run.plan import plan
from batchgen.run.run import run
from tests.conftest import MakeJob

JUDGE: dict[str, Any] = {"name": "good"}
UNSUPPORTED = "is not supported by engine bare"
NO_LIKELIHOODS = "needs log-probabilities of given texts, which engine bare does not compute"
SAMPLED = {"temperature": 0.5}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that can do nothing but answer greedily, and one that only lacks seeds."""
    bare = replace(INFO, name="bare", options=frozenset(), seeds=False, likelihoods=False)
    monkeypatch.setitem(ENGINES, "bare", EngineEntry(bare, ECHO.open))
    monkeypatch.setitem(
        ENGINES, "seedless", EngineEntry(replace(INFO, name="seedless", seeds=False), ECHO.open)
    )


def problems(job: Path, *sets: str) -> dict[str, str]:
    return {p.key: p.message for p in engine_problems(load_job(job, overrides=sets).job)}


@pytest.mark.parametrize(
    ("logprobs", "most", "message"),
    [
        (True, None, None),
        (5, 5, None),
        (0, 5, None),
        (6, 5, "6: engine few computes at most 5 tokens for each position"),
        (0, None, "0: engine few computes only the mean, not those of each token"),
    ],
)
def test_an_engine_limits_the_recorded_tokens(
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
    logprobs: int,
    most: int | None,
    message: str | None,
) -> None:
    few = replace(INFO, name="few", top_logprobs=most)
    monkeypatch.setitem(ENGINES, "few", EngineEntry(few, ECHO.open))
    job = make_job(decoding={"logprobs": logprobs}, model={"engine": "few"})
    assert problems(job) == ({} if message is None else {"decoding.logprobs": message})
    assert problems(job, "model.engine=bare") == {"decoding.logprobs": UNSUPPORTED}


@pytest.mark.parametrize(
    ("section", "values", "keys"),
    [
        ("decoding", {"num_beams": 4, "length_penalty": 2.0}, ["num_beams", "length_penalty"]),
        ("decoding", {"min_new_tokens": 2}, ["min_new_tokens"]),
        ("decoding", {**SAMPLED, "top_p": 0.9}, ["temperature", "top_p"]),
        ("decoding", {**SAMPLED, "top_k": 5, "min_p": 0.1}, ["temperature", "top_k", "min_p"]),
        ("decoding", {"repetition_penalty": 1.1}, ["repetition_penalty"]),
        ("decoding", {"no_repeat_ngram_size": 3}, ["no_repeat_ngram_size"]),
        ("decoding", {"stop": ["x"], "logprobs": True}, ["stop_strings", "logprobs"]),
        ("decoding", {"generation_kwargs": {"suppress_tokens": [1]}}, ["generation_kwargs"]),
        ("decoding", {"columns": {"min_new_tokens": "k"}}, ["columns.min_new_tokens"]),
        ("model", {"dtype": "bfloat16", "device": "cpu"}, ["dtype", "device"]),
        ("model", {"attn_implementation": "eager"}, ["attn_implementation"]),
        ("model", {"adapter": "owner/lora"}, ["adapter"]),
        ("batching", {"max_rows": 9, "max_tokens": 999}, ["max_rows", "max_tokens"]),
        ("batching", {"sort": "none", "memory_fraction": 0.5}, ["sort", "memory_fraction"]),
        ("run", {"workers": 2}, ["workers"]),
    ],
)
def test_an_option_is_rejected_only_by_an_engine_without_it(
    make_job: MakeJob, section: str, values: dict[str, Any], keys: list[str]
) -> None:
    job = make_job([{"q": "x", "k": 1}], **{section: values})
    expected = {f"{section}.{key}": UNSUPPORTED for key in keys}
    assert problems(job, "model.engine=bare") == expected
    assert problems(job) == {}
    assert problems(job, "model.engine=transformers", "model.path=./there") == {}


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("decoding", {"num_beams": 1, "temperature": 0, "min_new_tokens": 0}),
        ("decoding", {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "logprobs": False}),
        ("decoding", {"max_new_tokens": 9, "stop": [], "generation_kwargs": {}}),
        ("model", {"dtype": "auto", "device": "auto", "attn_implementation": None}),
        ("batching", {"part_rows": 7, "max_rows": "auto", "sort": "length"}),
        ("run", {"workers": "auto", "seed": 3, "max_error_count": 5}),
    ],
)
def test_a_neutral_value_requests_nothing(
    make_job: MakeJob, section: str, values: dict[str, Any]
) -> None:
    assert problems(make_job(**{section: values}), "model.engine=bare") == {}


def test_likelihoods_are_for_metrics_and_judges(make_job: MakeJob) -> None:
    metrics = ["length", "loglikelihood", {"type": "multiple_choice", "options": "o"}]
    judges = [JUDGE, {"name": "other", "model": {"engine": "bare"}}]
    job = make_job(evaluate={"metrics": metrics, "judges": judges, "reference": "q"})
    assert problems(job, "model.engine=bare") == dict.fromkeys(
        [
            "evaluate.metrics[1]",
            "evaluate.metrics[2]",
            "evaluate.judges[0]",
            "evaluate.judges[1]",
        ],
        NO_LIKELIHOODS,
    )
    assert problems(job) == {"evaluate.judges[1]": NO_LIKELIHOODS}


def test_a_seed_is_rejected_where_only_sampling_would_read_it(make_job: MakeJob) -> None:
    sampled = make_job(decoding=SAMPLED, run={"seed": 3})
    assert problems(sampled, "model.engine=seedless") == {
        "run.seed": "has no effect: engine seedless ignores seeds"
    }
    assert problems(sampled) == {}
    for reads_it in ("input.sample=1", "run.seed=null", "decoding.temperature=0"):
        assert problems(sampled, "model.engine=seedless", reads_it) == {}


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
def test_all_errors_are_reported_at_once_with_their_lines(
    make_job: MakeJob, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(
        model={"engine": "bare"},
        decoding={"num_beams": 2},
        prompt={"user": "{{ unknown }}"},
        evaluate={"metrics": ["perplexity"], "judges": [{**JUDGE, "model": {"engine": "ecko"}}]},
    )
    assert call([command, str(job)]) == 2
    shown = capsys.readouterr().err
    lines = job.read_text().splitlines()
    for key, text, message in (
        ("decoding.num_beams", "  num_beams: 2", UNSUPPORTED),
        ("evaluate.metrics[0]", "  - perplexity", NO_LIKELIHOODS),
        ("evaluate.judges[0].model.engine", "      engine: ecko", "unknown engine 'ecko'"),
    ):
        assert f"job.yaml:{lines.index(text) + 1}:" in shown
        assert f"{key} {message}" in shown or f"{key}: {message}" in shown
    assert (
        "Did you mean echo? The engines are: transformers, echo, openai, openvino, vllm, bare, seedless. "
        in shown
    )
    assert "'unknown'" in shown


@pytest.mark.parametrize("start", [plan, run])
def test_an_unknown_engine_is_an_error_of_the_job(make_job: MakeJob, start: Any) -> None:
    with pytest.raises(JobFileError, match="unknown engine 'transfomers'") as caught:
        start(load_job(make_job(model={"engine": "transfomers"})))
    (problem,) = caught.value.problems
    assert problem.key == "model.engine"
    assert problem.line == 1 + [*make_job().read_text().splitlines()].index("  engine: echo")
    assert problem.hint.startswith("Did you mean transformers? ")


@pytest.mark.parametrize("engine", ["tensorrt", "ollama", "sglang", "hf"])
def test_the_name_of_another_program_is_not_a_misspelt_engine(
    make_job: MakeJob, engine: str
) -> None:
    with pytest.raises(JobFileError) as caught:
        plan(load_job(make_job(model={"engine": engine})))
    (problem,) = caught.value.problems
    assert problem.hint.startswith("The engines are: transformers, echo, ")
    assert problem.hint.endswith("Any server with OpenAI's HTTP API is engine openai.")


@pytest.mark.parametrize(
    ("engine", "required"), [("transformers", True), ("echo", False), ("bare", False)]
)
def test_a_path_is_required_if_the_engine_needs_a_model(
    make_job: MakeJob, engine: str, required: bool
) -> None:
    job = make_job(evaluate={"judges": [{**JUDGE, "model": {"engine": engine}}]})
    missing = f"is required by engine {engine}"
    assert (problems(job).get("evaluate.judges[0].model.path") == missing) is required
    found = problems(job, f"model.engine={engine}")
    assert (found.get("model.path") == missing) is required


def test_settings_of_generation_config_are_checked_after_loading() -> None:
    config = {"do_sample": True, "temperature": 0.7, "top_p": 1.0, "suppress_tokens": [5]}
    resolution = resolve_decoding(
        Decoding(preset="model"), generation_config=config, end_token_ids=frozenset()
    )
    check_generation_config(INFO, resolution)
    sampling = replace(INFO, options=frozenset({"decoding.temperature"}))
    with pytest.raises(ModelError, match=r"echo does not support generation_kwargs.suppress_tok"):
        check_generation_config(sampling, resolution)


def test_every_option_is_supported_by_an_engine_with_a_model() -> None:
    with_model = [e.info.options for e in ENGINES.values() if e.info.needs != "nothing"]
    assert frozenset().union(*with_model) == OPTIONS
