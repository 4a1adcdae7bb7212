"""A job whose models are pinned runs with those and no others."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.errors import ModelError, UsageError
from batchgen.jobfile.load import load_job
from batchgen.models.local_model import check_pins, pin_models
from batchgen.run.run import run

MakeJob = Callable[..., Path]
Write = Callable[..., Path]
SHORT = {"decoding": {"max_new_tokens": 16}}
"""The tiny model's context has 64 tokens."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes about hashes stay with the test."""
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def folder(tmp_path: Path, write_model: Write) -> Path:
    return write_model(tmp_path / "tiny")


@pytest.fixture
def job(make_job: MakeJob, folder: Path) -> Path:
    """A job that uses the tiny model's tokenizer, and whose answers need no weights."""
    return make_job(model={"engine": "echo", "path": f"./{folder.name}"}, **SHORT)


def write_cached(tmp_path: Path, write: Write, changes: dict[str, object]) -> Path:
    """A model in the hub's cache, with a branch that points to it."""
    repository = tmp_path / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    commit = f"{len(list(repository.glob('snapshots/*'))):040x}"
    (repository / "refs" / "main").write_text(commit)
    return write(repository / "snapshots" / commit, changes)


def test_a_pinned_job_runs_and_says_so(job: Path) -> None:
    pinned = pin_models(load_job(job))
    assert pinned.lock == job.with_name("job.lock.json")
    assert [m.name for m in pinned.models] == ["./tiny"]
    result = run(load_job(job))
    manifest = json.loads(result.folder.manifest.read_text())
    assert manifest["model"]["lock"] == "job.lock.json"
    pinned.lock.unlink()
    unpinned = run(load_job(job, overrides=["output.path=other"]))
    assert json.loads(unpinned.folder.manifest.read_text())["model"]["lock"] is None


@pytest.mark.parametrize("command", ["run", "plan"])
def test_another_file_is_refused_before_anything_runs(
    job: Path, folder: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pin_models(load_job(job))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert call([command, str(job)]) == 5
    assert "model.safetensors has sha256" in capsys.readouterr().err
    assert not (job.parent / "out" / "responses.parquet").exists()
    assert call(["models", "pin", str(job)]) == 0
    assert call([command, str(job)]) == 0


def test_a_tokenizer_of_its_own_is_pinned_too(
    job: Path, write_model: Write, tmp_path: Path
) -> None:
    other = write_model(tmp_path / "tokens", {"config.json": None, "model.safetensors": None})
    loaded = load_job(job, overrides=["model.tokenizer=./tokens"])
    assert [m.name for m in pin_models(loaded).models] == ["./tiny", "./tokens"]
    check_pins(loaded)
    (other / "chat_template.jinja").write_text("other")
    with pytest.raises(ModelError, match=r"tokens differs from .* chat_template.jinja has"):
        run(loaded)
    run(load_job(job))


def test_a_branch_that_moved_does_not_matter_once_pinned(
    make_job: MakeJob, write_model: Write, tmp_path: Path
) -> None:
    job = make_job(model={"engine": "echo", "path": "owner/name"}, **SHORT)
    first = write_cached(tmp_path, write_model, {})
    pin_models(load_job(job))
    write_cached(tmp_path, write_model, {"chat_template.jinja": "{{ messages }}"})
    manifest = json.loads(run(load_job(job)).folder.manifest.read_text())
    assert manifest["model"]["revision"] == first.name


def test_pins_of_other_profiles_stay(job: Path, write_model: Write, tmp_path: Path) -> None:
    write_model(tmp_path / "small")
    pin_models(load_job(job))
    pinned = pin_models(load_job(job, overrides=["model.path=./small"]))
    assert sorted(json.loads(pinned.lock.read_text())["models"]) == ["./small", "./tiny"]


def test_what_is_not_pinned_is_refused_by_validate_already(
    job: Path, write_model: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "small")
    pin_models(load_job(job))
    assert call(["validate", str(job)]) == 0
    assert call(["validate", str(job), "--set", "model.path=./small"]) == 5
    assert "does not pin ./small; it pins ./tiny" in capsys.readouterr().err
    job.with_name("job.lock.json").write_text("{")
    assert call(["validate", str(job)]) == 5


def test_check_compares_and_writes_nothing(
    job: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["models", "pin", str(job), "--check"]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert call(["models", "pin", str(job)]) == 0
    lock = job.with_name("job.lock.json").read_bytes()
    assert call(["models", "pin", str(job), "--check", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    weights = folder / "model.safetensors"
    assert said["models"][0]["files"][weights.name]["bytes"] == weights.stat().st_size
    weights.write_bytes(weights.read_bytes() + b"x")
    assert call(["models", "pin", str(job), "--check"]) == 5
    assert job.with_name("job.lock.json").read_bytes() == lock


def test_a_job_without_a_model_has_nothing_to_pin(make_job: MakeJob) -> None:
    with pytest.raises(UsageError, match="names no model"):
        pin_models(load_job(make_job()))


def test_trusted_code_must_not_move(make_job: MakeJob, write_model: Write, tmp_path: Path) -> None:
    """A branch may point to other code tomorrow: a commit, or a pin, is required."""
    snapshot = write_cached(tmp_path, write_model, {})
    model = {"engine": "echo", "path": "owner/name", "trust_remote_code": True}
    job = make_job(model=model, **SHORT)
    with pytest.raises(ModelError, match="is not fixed to a commit") as caught:
        run(load_job(job))
    assert f"model.revision: {snapshot.name}" in caught.value.hint
    run(load_job(job, overrides=[f"model.revision='{snapshot.name}'"]))
    pin_models(load_job(job))
    run(load_job(job, overrides=["output.path=pinned"]))


def test_judges_are_pinned_like_the_model_that_answers(
    make_job: MakeJob, tmp_path: Path, write_model: Write
) -> None:
    judge = write_model(tmp_path / "judge")
    section = {"name": "good", "model": {"engine": "echo", "path": "./judge"}}
    job = make_job(evaluate={"judges": [section]})
    assert [m.name for m in pin_models(load_job(job)).models] == ["./judge"]
    assert check_pins(load_job(job)).models
    config = json.loads((judge / "config.json").read_text())
    (judge / "config.json").write_text(json.dumps({**config, "changed": 1}))
    with pytest.raises(ModelError, match=r"judge differs from .*job.lock.json"):
        run(load_job(job))


def test_a_lock_file_without_the_judge_is_refused(
    job: Path, make_job: MakeJob, tmp_path: Path, write_model: Write
) -> None:
    pin_models(load_job(job))
    write_model(tmp_path / "judge")
    section = {"name": "good", "model": {"engine": "echo", "path": "./judge"}}
    judged = make_job(
        model={"engine": "echo", "path": "./tiny"}, evaluate={"judges": [section]}, **SHORT
    )
    assert call(["validate", str(judged)]) == 5
