"""Each contender alone on a tiny model, and the comparison of their measurements."""

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from batchgen.bench.bench import EngineResult, bench
from batchgen.bench.bench_work import BenchWork, Contender, Measured, NotMeasured, OtherForms
from batchgen.bench.contenders import measure_contender
from batchgen.bench.other_engines import check_settings
from batchgen.decoding_settings import AnswerGrammar
from batchgen.errors import DataError, UsageError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.jobfile.load import load_job
from batchgen.models.find_model import resolve_model
from batchgen.records import Request, ResolvedDecoding
from tests.conftest import MakeJob
from tests.engines.openai.fake_server import serving
from tests.reporters import RecordingReporter

SIZES = {
    "vocab_size": 49_152,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}


def tiny_folder(demo: Path, folder: Path, family: str) -> Path:
    """A random model of a family, with the demo model's tokenizer."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(demo / name, folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loader: Any = AutoModelForCausalLM
        loader.from_config(AutoConfig.for_model(family, **SIZES)).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny(demo_folder: Path, tmp_path: Path) -> Path:
    return tiny_folder(demo_folder, tmp_path / "llama", "llama")


def work(folder: Path) -> BenchWork:
    shared = list(range(100, 160))
    decoding = [ResolvedDecoding(max_new_tokens=n) for n in (3, 5, 2)]
    requests = [Request(n, 0, [*shared, n], decoding[n], n) for n in range(3)]
    spec = ModelSpec(path=str(folder))
    resolved = resolve_model(str(folder))
    return BenchWork(resolved, spec, "cpu", "float32", Batching(), "auto", tuple(requests))


@pytest.mark.parametrize(
    ("contender", "computed"),
    [
        # The shared prefix once, then each row's own token and its new ones except the last.
        pytest.param("continuous", 60 + 3 + (2 + 4 + 1), id="continuous"),
        pytest.param("static", 3 * 61 + (2 + 4 + 1), id="static"),
        # Finished rows are computed until the last row is finished.
        pytest.param("generate", 3 * 61 + 3 * 4, id="generate"),
    ],
)
def test_a_contender_answers_the_workload_and_reports_its_computation(
    tiny: Path, contender: Contender, computed: int
) -> None:
    found = measure_contender(contender, work(tiny))
    assert isinstance(found, Measured)
    assert found.new_tokens == (3, 5, 2)
    assert found.computed_tokens == computed
    assert found.seconds > 0
    assert found.costs is not None
    assert found.peak is not None


@pytest.mark.parametrize(
    ("contender", "reason"),
    [
        ("continuous", "does not support this model: "),
        ("vllm", "not installed"),
        ("openvino", "no converted model"),
        ("openai", "no server"),
    ],
)
def test_a_contender_that_cannot_run_gives_the_reason(
    demo_folder: Path, tmp_path: Path, contender: Contender, reason: str
) -> None:
    if contender == "vllm" and find_spec("vllm") is not None:
        pytest.skip("vllm is installed")
    folder = tiny_folder(demo_folder, tmp_path / "mamba", "mamba")
    found = measure_contender(contender, work(folder))
    assert isinstance(found, NotMeasured)
    assert found.reason.startswith(reason)


def test_missing_weights_are_a_reason_and_not_an_exception(tiny: Path) -> None:
    bench_work = work(tiny)
    (tiny / "model.safetensors").unlink()
    found = measure_contender("generate", bench_work)
    assert isinstance(found, NotMeasured)
    assert "safetensors" in found.reason


@pytest.mark.parametrize(
    "decoding",
    [
        ResolvedDecoding(num_beams=2),
        ResolvedDecoding(no_repeat_ngram_size=2),
        ResolvedDecoding(generation_kwargs=(("suppress_tokens", [1]),)),
    ],
)
def test_vllm_is_not_measured_with_other_settings(decoding: ResolvedDecoding) -> None:
    with pytest.raises(UsageError, match="vLLM does not support"):
        check_settings("vLLM", [Request(0, 0, [1], decoding, seed=9)], forms=True)


@pytest.mark.slow
def test_a_converted_model_is_measured_with_the_same_token_ids(tmp_path: Path) -> None:
    pytest.importorskip("openvino_genai")
    from tests.engines.openvino.tiny_graph import write_tiny_folder

    folder = tmp_path / "model"
    write_tiny_folder(folder).save_pretrained(folder)
    rows = [Request(n, 0, [5, 6, n + 7], ResolvedDecoding(max_new_tokens=3), n) for n in range(4)]
    others = OtherForms(converted=folder)
    spec = ModelSpec(path=str(folder))
    given = BenchWork(
        *(resolve_model(str(folder)), spec, "cpu", "float32", Batching(), "auto", tuple(rows)),
        others=others,
    )
    found = measure_contender("openvino", given)
    expected = measure_contender("generate", given)
    assert isinstance(found, Measured)
    assert isinstance(expected, Measured)
    assert found.new_tokens == expected.new_tokens == (3, 3, 3, 3)
    formed = ResolvedDecoding(max_new_tokens=3, grammar=AnswerGrammar("regex", "[0-9]"))
    refused = measure_contender(
        "openvino", replace(given, requests=(Request(0, 0, [5], formed, 0),))
    )
    assert refused == NotMeasured("OpenVINO does not support response_format, which the job sets")


def test_a_server_is_measured_with_the_same_token_ids(tiny: Path) -> None:
    with serving() as server:
        others = OtherForms(servers=(server.url,))
        given = replace(work(tiny), others=others)
        found = measure_contender("openai", given)
        assert isinstance(found, Measured)
        assert found.new_tokens == (2, 2, 2)
        assert sorted(body["prompt"][-1] for body in server.bodies) == [0, 1, 2]
        assert {body["max_tokens"] for body in server.bodies} == {3, 5, 2}
        # What the server ignores is not measured as if it did not.
        server.honors = frozenset({"temperature"})
        hot = ResolvedDecoding(max_new_tokens=3, temperature=1.0, top_k=5)
        sampled = replace(given, requests=(Request(0, 0, [5], hot, 0),))
        refused = measure_contender("openai", sampled)
        assert isinstance(refused, NotMeasured)
        assert "has no effect" in refused.reason


@pytest.mark.soak
def test_a_job_is_measured_with_every_engine_in_a_separate_process(
    make_job: MakeJob, tiny: Path
) -> None:
    rows = [{"q": "one"}, {"q": ""}, {"q": "three"}]
    model = {"engine": "transformers", "path": str(tiny)}
    job = make_job(rows, model=model, decoding={"max_new_tokens": 4})
    reported: list[str] = []
    found = bench(load_job(job), reporter=RecordingReporter(reported))
    assert reported == ["measuring the machine", *(f"measuring {name}" for name in found.engines)]
    assert (found.workload.rows, found.workload.refused) == (3, 1)
    assert found.workload.most_new_tokens == 2 * 4
    measured = [one for one in found.engines.values() if isinstance(one, EngineResult)]
    assert len(measured) >= 3
    for one in measured:
        assert 0 < one.new_tokens <= 8
        assert one.new_tokens_per_second == pytest.approx(one.new_tokens / one.seconds)
        assert one.mfu is not None
        assert 0 < one.mfu < 1
    continuous, plain = found.engines["continuous"], found.engines["generate"]
    assert isinstance(continuous, EngineResult)
    assert isinstance(plain, EngineResult)
    assert continuous.useful_token_share == 1.0
    assert plain.useful_token_share is not None
    assert plain.useful_token_share <= 1.0
    assert not (job.parent / "out").exists()


def test_a_job_that_cannot_be_measured_is_an_error(make_job: MakeJob, tiny: Path) -> None:
    model = {"engine": "transformers", "path": str(tiny)}
    with pytest.raises(UsageError, match="no model to measure"):
        bench(load_job(make_job()))
    with pytest.raises(DataError, match="prompts of all 1 rows fail"):
        bench(load_job(make_job([{"q": ""}], model=model)))
