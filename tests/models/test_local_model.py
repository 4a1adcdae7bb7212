"""A job whose models are pinned runs only with the pinned files."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from batchgen.__main__ import call
from batchgen.errors import ModelError, UsageError
from batchgen.job.spec import ModelSpec
from batchgen.jobfile.load import load_job
from batchgen.models.local_model import check_pins, find_local_model, pin_models
from batchgen.run.run import run
from tests.reporters import RecordingReporter

MakeJob = Callable[..., Path]
Write = Callable[..., Path]
SHORT = {"decoding": {"max_new_tokens": 16}}
"""The tiny model's context has 64 tokens."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cached hashes stay in the test's folder."""
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def folder(tmp_path: Path, write_model: Write) -> Path:
    return write_model(tmp_path / "tiny")


@pytest.fixture
def job(make_job: MakeJob, folder: Path) -> Path:
    """A job that uses the tiny model's tokenizer but not its weights."""
    return make_job(model={"engine": "echo", "path": f"./{folder.name}"}, **SHORT)


def write_cached(tmp_path: Path, write: Write, changes: dict[str, object]) -> Path:
    """A model in the hub's cache, with a branch that points to it."""
    repository = tmp_path / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    commit = f"{len(list(repository.glob('snapshots/*'))):040x}"
    (repository / "refs" / "main").write_text(commit)
    return write(repository / "snapshots" / commit, changes)


def test_a_pinned_job_runs_and_prints_that_it_is_pinned(job: Path) -> None:
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
def test_a_changed_file_is_rejected_before_the_run_starts(
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


def test_a_separate_tokenizer_is_pinned_too(job: Path, write_model: Write, tmp_path: Path) -> None:
    other = write_model(tmp_path / "tokens", {"config.json": None, "model.safetensors": None})
    loaded = load_job(job, overrides=["model.tokenizer=./tokens"])
    assert [m.name for m in pin_models(loaded).models] == ["./tiny", "./tokens"]
    check_pins(loaded)
    (other / "chat_template.jinja").write_text("other")
    with pytest.raises(ModelError, match=r"tokens differs from .* chat_template.jinja has"):
        run(loaded)
    run(load_job(job))


def test_a_pinned_model_ignores_later_commits_of_its_branch(
    make_job: MakeJob, write_model: Write, tmp_path: Path
) -> None:
    job = make_job(model={"engine": "echo", "path": "owner/name"}, **SHORT)
    first = write_cached(tmp_path, write_model, {})
    pin_models(load_job(job))
    write_cached(tmp_path, write_model, {"chat_template.jinja": "{{ messages }}"})
    manifest = json.loads(run(load_job(job)).folder.manifest.read_text())
    assert manifest["model"]["revision"] == first.name


def test_pins_of_other_profiles_are_kept(job: Path, write_model: Write, tmp_path: Path) -> None:
    write_model(tmp_path / "small")
    pin_models(load_job(job))
    pinned = pin_models(load_job(job, overrides=["model.path=./small"]))
    assert sorted(json.loads(pinned.lock.read_text())["models"]) == ["./small", "./tiny"]


def test_validate_rejects_an_unpinned_model(
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
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    weights = folder / "model.safetensors"
    assert printed["models"][0]["files"][weights.name]["bytes"] == weights.stat().st_size
    weights.write_bytes(weights.read_bytes() + b"x")
    assert call(["models", "pin", str(job), "--check"]) == 5
    assert job.with_name("job.lock.json").read_bytes() == lock


def test_a_job_without_a_model_cannot_be_pinned(make_job: MakeJob) -> None:
    with pytest.raises(UsageError, match="names no model"):
        pin_models(load_job(make_job()))


def test_trusted_code_needs_a_commit_or_a_pin(
    make_job: MakeJob, write_model: Write, tmp_path: Path
) -> None:
    """A branch may later point to other code: a commit or a pin is required."""
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


@pytest.mark.slow
def test_large_weights_are_hashed_once_with_a_message(tmp_path: Path, write_model: Write) -> None:
    """One byte beyond any sample, in a sparse file, is another model."""
    folder = write_model(tmp_path / "large")
    large = {"large": np.zeros(60_000_000, np.float32)}
    save_file({**load_file(folder / "model.safetensors"), **large}, folder / "model.safetensors")
    settled = folder / "model.safetensors"
    time.sleep(2.1)  # younger files are not cached
    messages: list[str] = []
    spec = ModelSpec(path=str(folder))
    first = find_local_model(spec, None, RecordingReporter(messages), weights="safetensors")
    assert messages == [f"hashing 0.2 GB of {folder}"]
    identity = first.info.identity
    again = find_local_model(spec, None, RecordingReporter(messages), weights="safetensors")
    assert len(messages) == 1
    assert again.info.identity == identity
    with settled.open("r+b") as opened:
        opened.seek(123_456_789)
        opened.write(b"x")
    changed = find_local_model(spec, None, RecordingReporter(messages), weights="safetensors")
    assert changed.info.identity["weights_sha256"] != identity["weights_sha256"]
    assert len(messages) == 2


def test_the_name_of_a_served_model_belongs_into_another_key(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    server = {"engine": "openai", "base_url": "http://127.0.0.1:9", "path": "gpt-x"}
    assert call(["plan", str(make_job(model=server))]) == 5
    printed = capsys.readouterr().err
    assert "gpt-x is not on this machine" in printed
    assert "Name the server's model in model.served_name" in printed
