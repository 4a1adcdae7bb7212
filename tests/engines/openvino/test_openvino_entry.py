"""Settings and folders that the engine rejects, at `validate`; and what `plan` knows without loading."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.engines.openvino.invariance_probe import ProbedAnswer, measure_invariance
from batchgen.engines.openvino.openvino_capacity import plan_capacity
from batchgen.errors import BatchgenError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.jobfile.load import load_job
from batchgen.models.catalog import check_model
from batchgen.run.preflight.input_check import check_input
from batchgen.run.preflight.weights_check import check_weights_on_disk
from batchgen.storage.openvino_header import read_openvino_header

pytest.importorskip("openvino_genai")

from tests.engines.openvino.tiny_graph import VOCABULARY, write_tiny_folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_folder(folder)
    return folder


@pytest.fixture
def model(tmp_path: Path, written: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "tiny"))


def error_of(tmp_path: Path, model: Path, more: str = "", engine: str = "openvino") -> str:
    """What `validate` reports."""
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    job = tmp_path / "job.yaml"
    job.write_text(
        "version: 1\nname: tiny\ninput: {path: in.jsonl}\nprompt: {user: '{{ text }}'}\n"
        f"output: {{path: out}}\n{more}\nmodel:\n  path: {model}\n  engine: {engine}\n"
    )
    with pytest.raises(BatchgenError) as caught:
        validate(job)
    return str(caught.value)


def validate(job: Path) -> None:
    loaded = load_job(job)
    check_input(loaded)
    check_weights_on_disk(loaded)


def test_the_header_of_a_graph(written: Path) -> None:
    header = read_openvino_header(written)
    assert header.stored_as == "float32"
    assert header.cache_per_token == 2 * 2 * 4 * 8
    assert header.cache_per_row == 0
    matrices = 2 * VOCABULARY * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 48)
    assert matrices <= header.parameters < matrices + 100
    assert header.weight_bytes == (written / "openvino_model.bin").stat().st_size


def cut_weights(folder: Path) -> None:
    file = folder / "openvino_model.bin"
    file.write_bytes(file.read_bytes()[:-5000])


def replace_graph(folder: Path) -> None:
    (folder / "openvino_model.xml").write_text("<html>not found</html>")


def make_encoder(folder: Path) -> None:
    file = folder / "openvino_model.xml"
    file.write_text(file.read_text().replace('name="input_ids"', 'name="pixel_values"'))


def remove(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def make_torch(folder: Path) -> None:
    remove("openvino_model.xml", "openvino_model.bin")(folder)
    (folder / "model.safetensors").write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (remove("openvino_model.bin"), "openvino_model.bin is missing"),
        (remove("openvino_model.xml"), "no openvino_model.xml"),
        (remove("config.json"), "no config.json"),
        (remove("tokenizer.json"), "no tokenizer"),
        (cut_weights, "openvino_model.bin: truncated"),
        (replace_graph, "not a graph of OpenVINO"),
        (make_encoder, "not the graph of a language model"),
        (make_torch, "Set model.engine: transformers"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_an_error_of_validate(
    tmp_path: Path, model: Path, change: Callable[[Path], None], expected: str
) -> None:
    change(model)
    assert expected in error_of(tmp_path, model)


def test_a_converted_model_with_engine_transformers_names_the_engine(
    tmp_path: Path, model: Path
) -> None:
    assert "Set model.engine: openvino." in error_of(tmp_path, model, engine="transformers")


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("decoding: {num_beams: 2}", "decoding.num_beams"),
        ("decoding: {no_repeat_ngram_size: 2}", "decoding.no_repeat_ngram_size"),
        ("decoding: {logprobs: 3}", "decoding.logprobs"),
        ("decoding: {temperature: 1, min_p: 0.1, top_p: 0.9}", "decoding.min_p"),
        ("decoding: {temperature: 1, min_p: 1}", "decoding.min_p"),
        ("decoding: {response_format: {choice: [a, b]}}", "decoding.response_format"),
        ("evaluate: {metrics: [perplexity]}", "evaluate.metrics"),
        ("run: {workers: 2}", "run.workers"),
    ],
)
def test_what_the_engine_cannot_do_is_an_error_at_its_line(
    tmp_path: Path, model: Path, more: str, place: str
) -> None:
    shown = error_of(tmp_path, model, more)
    assert "job.yaml:6:" in shown
    assert place in shown


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("  dtype: float16", "computes in float32 or bfloat16"),
        ("  device: cuda", "computes on a CPU"),
        ("  trust_remote_code: true", "has no effect"),
        ("  adapter: some/folder", "is not supported by engine openvino"),
        ("  engine_args: {cache_size: 4}", "is not supported by engine openvino"),
    ],
)
def test_settings_of_the_model_that_have_no_effect_are_errors(
    tmp_path: Path, model: Path, line: str, expected: str
) -> None:
    assert expected in error_of(tmp_path, model, engine=f"openvino\n{line}")


def test_a_capacity_without_loading(written: Path) -> None:
    spec = ModelSpec(path=str(written), engine="openvino", dtype="float32")
    capacity = plan_capacity(written, spec, Batching(max_rows=3, max_tokens=1024))
    assert capacity.rows == 3
    assert capacity.tokens == 1024
    assert capacity.blocks == 32
    assert capacity.kv_bytes_per_token == 2 * 2 * 4 * 8 * 4
    assert capacity.properties["KV_CACHE_PRECISION"] == "f32"


def test_models_check_reads_a_converted_model(written: Path) -> None:
    checked = check_model(str(written))
    assert checked.usable
    assert "openvino_model.xml" in checked.items[0].text


@pytest.mark.parametrize(
    ("error", "changes", "invariant", "expected"),
    [
        (0.0, False, True, "bit-identical"),
        (2e-6, False, False, "log-probabilities by up to 2e-06"),
        (0.0, True, False, "can change tokens"),
    ],
)
def test_invariance_is_measured_bit_by_bit(
    error: float, changes: bool, invariant: bool, expected: str
) -> None:
    def answer(prompts: Any, new_tokens: int) -> list[ProbedAnswer]:
        together = len(prompts) > 1
        token = 9 if changes and together else 5
        logprob = -1.0 - error * together
        return [ProbedAnswer((token,) * new_tokens, (logprob,) * new_tokens) for _ in prompts]

    measured = measure_invariance(answer, VOCABULARY)
    assert measured.invariant is invariant
    assert expected in measured.reason
