"""An adapter is found, pinned, recorded and compared like the model that it belongs to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from batchgen.__main__ import call
from batchgen.errors import JobFileError, ModelError, StateError
from batchgen.jobfile.load import load_job
from batchgen.models.catalog import check_model, list_models
from batchgen.models.find_model import resolve_model
from batchgen.models.local_model import pin_models
from batchgen.run.plan import plan
from batchgen.run.run import run
from batchgen.state.run_folder import read_json

MakeJob = Callable[..., Path]
Write = Callable[..., Path]
SHORT = {"decoding": {"max_new_tokens": 16}}
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 2,
    "target_modules": ["q_proj"],
    "base_model_name_or_path": "owner/tiny",
}
Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of the test. The echo engine takes adapters, as all that another engine may."""
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def model(tmp_path: Path, write_model: Write) -> Path:
    return write_model(tmp_path / "tiny")


def write_adapter(folder: Path, *, value: float = 1, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    shapes = {f"{Q}.lora_A.weight": (2, 8), f"{Q}.lora_B.weight": (8, 2)}
    tensors = {name: np.full(shape, value, np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def write_cached(tmp_path: Path, **config: Any) -> Path:
    """An adapter in the hub's cache, with a branch that points to it."""
    repository = tmp_path / "hub" / "models--owner--lora"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    commit = f"{len(list(repository.glob('snapshots/*'))):040x}"
    (repository / "refs" / "main").write_text(commit)
    return write_adapter(repository / "snapshots" / commit, **config)


@pytest.fixture
def job(make_job: MakeJob, model: Path, tmp_path: Path) -> Path:
    write_adapter(tmp_path / "lora")
    section = {"engine": "echo", "path": f"./{model.name}", "adapter": "lora"}
    return make_job(model=section, **SHORT)


def test_the_manifest_lists_the_files_of_the_adapter(job: Path, tmp_path: Path) -> None:
    manifest = read_json(run(load_job(job)).folder.manifest)
    record = manifest["model"]["adapter"]
    assert record["name"] == str(tmp_path / "lora")
    assert record["base_model"] == "owner/tiny"
    assert record["parameters"] == 32
    assert [*record["files"]] == ["adapter_config.json", "adapter_model.safetensors"]
    assert len(manifest["settings"]["model"]["adapter_sha256"]) == 64


@pytest.mark.parametrize("changes", [{"value": 2}, {"lora_alpha": 3}])
def test_a_run_is_not_resumed_with_another_adapter(
    changes: dict[str, Any], job: Path, tmp_path: Path
) -> None:
    run(load_job(job))
    write_adapter(tmp_path / "lora", **changes)
    with pytest.raises(StateError, match=r"model\.adapter_sha256"):
        run(load_job(job))
    with pytest.raises(StateError, match=r"model\.adapter_sha256"):
        run(load_job(job, overrides=["model.adapter=null"]))


def test_a_moved_adapter_is_the_same(job: Path, tmp_path: Path) -> None:
    first = run(load_job(job))
    (tmp_path / "lora").rename(tmp_path / "elsewhere")
    again = run(load_job(job, overrides=["model.adapter=./elsewhere"]))
    assert again.outcome == "already complete"
    assert again.folder.path == first.folder.path


def test_a_row_is_not_reused_from_a_run_with_another_adapter(job: Path, tmp_path: Path) -> None:
    earlier = run(load_job(job)).folder.path
    write_adapter(tmp_path / "lora", value=2)
    planned = plan(load_job(job, overrides=["output.path=other"]), incremental_from=earlier)
    assert planned.reuse is not None
    assert planned.reuse.reused == 0
    write_adapter(tmp_path / "lora")
    planned = plan(load_job(job, overrides=["output.path=other"]), incremental_from=earlier)
    assert planned.reuse is not None
    assert planned.reuse.reused == 1


def test_an_adapter_is_pinned(job: Path, tmp_path: Path) -> None:
    assert [m.name for m in pin_models(load_job(job)).models] == ["./tiny", "./lora"]
    run(load_job(job))
    write_adapter(tmp_path / "lora", value=2)
    with pytest.raises(ModelError, match=r"lora differs from .*adapter_model.safetensors has sha"):
        run(load_job(job))
    write_adapter(tmp_path / "other")
    assert call(["validate", str(job), "--set", "model.adapter=./other"]) == 5


def test_a_pinned_adapter_ignores_later_commits(job: Path, tmp_path: Path) -> None:
    first = write_cached(tmp_path)
    hub = ["model.adapter=owner/lora"]
    pin_models(load_job(job, overrides=hub))
    write_cached(tmp_path, lora_alpha=3)
    manifest = read_json(run(load_job(job, overrides=hub)).folder.manifest)
    assert manifest["model"]["adapter"]["revision"] == first.name


def test_a_revision_of_an_adapter_is_found_in_the_cache(job: Path, tmp_path: Path) -> None:
    first, second = write_cached(tmp_path), write_cached(tmp_path, lora_alpha=3)
    for snapshot in (first, second):
        sets = [
            "model.adapter=owner/lora",
            f"model.adapter_revision='{snapshot.name}'",
            f"output.path=out-{snapshot.name}",
        ]
        manifest = read_json(run(load_job(job, overrides=sets)).folder.manifest)
        assert manifest["model"]["adapter"]["revision"] == snapshot.name
        assert manifest["model"]["adapter"]["source"] == "cache"


def test_the_catalog_knows_adapters(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path)
    listed = next(m for m in list_models() if m.name == "owner/lora")
    assert (listed.state, listed.folder) == ("ready", snapshot)
    assert listed.note == f"adapter for owner/tiny · {snapshot.name}"
    assert check_model("owner/lora").usable
    assert resolve_model("owner/lora", wanted="any").folder == snapshot
    (snapshot / "adapter_model.safetensors").unlink()
    listed = next(m for m in list_models() if m.name == "owner/lora")
    assert listed.state == "incomplete"
    with pytest.raises(ModelError, match=r"no adapter_model.safetensors"):
        check_model("owner/lora")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["model.adapter=owner/absent"], "adapter owner/absent is not on this machine"),
        (["model.adapter_revision=main"], "adapter_revision: main has no effect"),
        (["model.adapter=demo:smollm2-135m"], "is not a folder, nor is demo:smollm2-135m an id"),
        (
            ["model.adapter=./lora/adapter_config.json"],
            "adapter_config.json is not a folder, nor is",
        ),
        (["model.adapter=https://a.b/c"], "is not a folder, nor is https://a.b/c an id"),
    ],
)
def test_an_adapter_that_is_not_found_is_an_error(sets: list[str], message: str, job: Path) -> None:
    with pytest.raises(ModelError, match=message):
        run(load_job(job, overrides=sets))


def test_notes_name_another_base_model_and_an_own_tokenizer(
    job: Path, tmp_path: Path, write_model: Write
) -> None:
    planned = plan(load_job(job)).setup.model
    assert planned is not None
    assert planned.notes == []  # the last part of owner/tiny is the folder's name
    write_adapter(tmp_path / "lora", base_model_name_or_path="owner/large")
    tokens = write_model(tmp_path / "tokens", {"chat_template.jinja": "other"})
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / "lora" / name).write_bytes((tokens / name).read_bytes())
    planned = plan(load_job(job)).setup.model
    assert planned is not None
    first, second = planned.notes
    assert first.startswith("the adapter was trained with owner/large")
    assert f"model.tokenizer: {tmp_path / 'lora'}" in second


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
def test_problems_have_the_line_of_their_key(
    command: str, job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_adapter(tmp_path / "lora", use_dora=True)
    assert call([command, str(job)]) == 2
    shown = capsys.readouterr().err
    line = job.read_text().splitlines().index("  adapter: lora") + 1
    assert f"job.yaml:{line}:" in shown
    assert "model.adapter:" in shown
    assert "use_dora is true, unlike the tensors: model.layers.0.self_attn.q_proj" in shown


def test_validate_names_the_problems_of_all_adapters(
    make_job: MakeJob, model: Path, tmp_path: Path
) -> None:
    write_adapter(tmp_path / "lora", peft_type="IA3")
    write_adapter(tmp_path / "other", use_qalora=True, use_bdlora={"x": 1})
    section = {"engine": "echo", "path": f"./{model.name}"}
    judge = {"name": "good", "model": section | {"adapter": "other"}}
    job = make_job(model=section | {"adapter": "lora"}, evaluate={"judges": [judge]}, **SHORT)
    from batchgen.models.local_adapter import check_adapters_on_disk

    with pytest.raises(JobFileError) as caught:
        check_adapters_on_disk(load_job(job))
    found = [(p.key, p.message.rpartition(": ")[2]) for p in caught.value.problems]
    keys = [key for key, _ in found]
    assert keys.count("evaluate.judges[0].model.adapter") == 2
    assert keys.count("model.adapter") == 1


def test_a_judge_with_an_adapter_is_another_model(
    make_job: MakeJob, write_model: Write, config: dict[str, Any], tmp_path: Path
) -> None:
    longer = config | {"max_position_embeddings": 4096}
    model = write_model(tmp_path / "tiny", {"config.json": longer})
    write_adapter(tmp_path / "lora")
    section = {"engine": "echo", "path": f"./{model.name}"}
    judges = [
        {"name": "same", "model": section},
        {"name": "other", "model": section | {"adapter": "lora"}},
    ]
    job = make_job(model=section, evaluate={"judges": judges}, **SHORT)
    same, other = plan(load_job(job)).setup.evaluation.judges
    assert same.is_self_judge
    assert not other.is_self_judge
    assert same.signature != other.signature
    assert same.model.identity != other.model.identity
    assert other.model.spec.adapter == str(tmp_path / "lora")


def test_an_adapter_of_other_sizes_is_an_error_at_its_line(job: Path, tmp_path: Path) -> None:
    """The layers are known from config.json, before any weight is loaded."""
    write_adapter(tmp_path / "lora", target_modules=["q_proj", "v_proj"])
    with pytest.raises(JobFileError) as caught:
        plan(load_job(job, overrides=["model.engine=transformers", "model.device=cpu"]))
    (problem,) = caught.value.problems
    assert problem.key == "model.adapter"
    assert problem.line > 0
    expected = "does not fit LlamaForCausalLM: modules of target_modules without tensors: model.layers.0.self_attn.v_proj"
    assert expected in problem.message
