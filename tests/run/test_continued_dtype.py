"""A run's dtype: chosen when it begins, recorded, and kept on another machine; its answers are reused in that dtype only.

The machines are given to the engine echo, which reads the checkpoint's dtype of a tiny model and computes nothing.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from batchgen.cli.render.plan import lines, summary
from batchgen.engines.contract import Engine
from batchgen.engines.echo import ECHO
from batchgen.engines.engine_registry import ENGINES, open_engine
from batchgen.errors import StateError
from batchgen.evaluation.comparing.scored_run import open_scored_run
from batchgen.evaluation.comparing.settings import ChangedSetting, changed_settings
from batchgen.evaluation.scoring.score_run import score_run
from batchgen.evaluation.scoring_models import ScoringModelOptions
from batchgen.job.spec import ModelSpec
from batchgen.jobfile.load import LoadedJob, load_job
from batchgen.planning.dtype_choice import ChosenDtype, choose_dtype
from batchgen.run.plan import plan
from batchgen.run.result import RunResult
from batchgen.run.run import run
from batchgen.state.run_folder import read_json
from tests.models.conftest import CONFIG
from tests.reporters import RecordingReporter

MakeJob = Callable[..., Path]
Switch = Callable[["CpuMachine | None"], None]
ROWS = [{"id": f"r{n}", "q": "a" * n} for n in range(1, 6)]


@dataclass
class CpuMachine:
    """A machine without a GPU."""

    flags: tuple[str, ...]
    speedup: float | None = None

    def has_gpu(self, device: str) -> bool:
        return device not in ("auto", "cpu")

    def bfloat16_flags(self) -> tuple[str, ...]:
        return self.flags

    def bfloat16_speedup(self) -> float | None:
        return self.speedup


AMX, AVX2 = CpuMachine(("amx_bf16",), 3.0), CpuMachine(())
FAST = "the checkpoint's format, 3.0 times as fast as float32 on this processor (amx_bf16)"
SLOW = "the checkpoint's bfloat16 is slow on a processor with neither amx_bf16 nor avx512_bf16"
NOTES = {
    "bfloat16": f"this run continues in bfloat16, in which it began; a new one would be computed in float32 on this machine ({SLOW})",
    "float32": f"this run continues in float32, in which it began; a new one would be computed in bfloat16 on this machine ({FAST})",
}


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Switch:
    """Move to another machine; None: to a version that records the word auto."""
    options = ECHO.info.options | {"model.dtype"}

    def to(machine: CpuMachine | None) -> None:
        def choose(model: ModelSpec, *, checkpoint: str, recorded: str | None) -> ChosenDtype:
            assert machine is not None
            return choose_dtype(model, checkpoint, machine, recorded)

        entry = replace(ECHO, info=replace(ECHO.info, options=options, needs="weights"))
        if machine is not None:
            entry = replace(entry, choose_dtype=choose)
        monkeypatch.setitem(ENGINES, "echo", entry)

    return to


@pytest.fixture
def job(
    make_job: MakeJob, write_model: Callable[..., Path], tmp_path: Path
) -> Callable[..., LoadedJob]:
    """A job with a bfloat16 checkpoint."""
    write_model(tmp_path / "tiny", {"config.json": {**CONFIG, "max_position_embeddings": 2048}})
    path = make_job(
        ROWS,
        batching={"part_rows": 2},
        model={"path": "./tiny"},
        decoding={"max_new_tokens": 9},
        run={"max_error_rate": 1},
    )

    def load(*sets: str) -> LoadedJob:
        return load_job(path, overrides=sets)

    return load


def begin(job: LoadedJob) -> RunResult:
    """A run that stops after three rows."""
    left = iter(range(3))
    return run(job, stop=lambda: next(left, None) is None)


def noting(dtypes: list[str]) -> Callable[..., Engine]:
    """An opener that notes the dtype of each engine."""

    def opener(model: ModelSpec, **options: Any) -> Engine:
        dtypes.append(model.dtype)
        return open_engine(model, **options)

    return opener


def engine_record(result: RunResult) -> Any:
    return read_json(result.folder.manifest)["engine"]


@pytest.mark.parametrize(("there", "dtype"), [(AMX, "bfloat16"), (AVX2, "float32")])
def test_a_run_continues_in_its_dtype_on_another_machine(
    job: Callable[..., LoadedJob], switch: Switch, there: CpuMachine, dtype: str
) -> None:
    switch(there)
    stopped = begin(job())
    assert read_json(stopped.folder.run)["settings"]["model"]["dtype"] == dtype
    switch(AVX2 if there is AMX else AMX)
    shown = plan(job())
    assert shown.output.refusal == ""
    assert [
        line.strip() for line in lines(shown) if "run began" in line or "run contin" in line
    ] == [
        f"{dtype}: the run began in it",
        NOTES[dtype],
    ]
    opened: list[str] = []
    messages: list[str] = []
    result = run(job(), opener=noting(opened), reporter=RecordingReporter(messages))
    assert (result.run_id, result.outcome, opened) == (stopped.run_id, "done", [dtype])
    assert messages.count(NOTES[dtype]) == 1
    record = engine_record(result)
    assert (record["dtype"], record["dtype_reason"]) == (dtype, "the run began in it")
    messages.clear()
    assert run(job(), reporter=RecordingReporter(messages)).outcome == "already complete"
    assert NOTES[dtype] not in messages


def test_a_run_is_scored_in_its_dtype(job: Callable[..., LoadedJob], switch: Switch) -> None:
    """By likelihoods of its own model, and by a judge that is this model: both share one engine."""
    switch(AMX)
    evaluate = "evaluate={reference: q, metrics: [loglikelihood], judges: [{name: good}]}"
    path = run(job(evaluate)).folder.path
    shutil.rmtree(path / ".batchgen" / "likelihoods", ignore_errors=True)
    switch(AVX2)
    opened: list[str] = []
    score_run(path, options=ScoringModelOptions(opener=noting(opened)))
    assert opened == ["bfloat16"]


def test_a_judge_of_its_own_is_computed_in_the_dtype_of_the_machine(
    job: Callable[..., LoadedJob], switch: Switch
) -> None:
    opened: list[str] = []
    judge = "{name: good, model: {engine: echo, path: ./tiny}}"
    switch(AMX)
    stopped = begin(job(f"evaluate.judges=[{judge}]"))
    switch(AVX2)
    result = run(job(f"evaluate.judges=[{judge}]"), opener=noting(opened))
    assert (result.run_id, opened) == (stopped.run_id, ["bfloat16", "float32"])


def test_a_new_run_chooses_for_its_machine(job: Callable[..., LoadedJob], switch: Switch) -> None:
    switch(AMX)
    first = run(job())
    assert (engine_record(first)["dtype"], engine_record(first)["dtype_reason"]) == (
        "bfloat16",
        FAST,
    )
    switch(AVX2)
    shown = plan(job("output.path=new"))
    assert f"          float32: {SLOW}" in lines(shown)
    assert summary(shown)["dtype_reason"] == SLOW
    messages: list[str] = []
    fresh = run(job(), start="fresh", reporter=RecordingReporter(messages))
    assert engine_record(fresh)["dtype"] == "float32"
    assert not [one for one in messages if "continues" in one]


def test_a_dtype_that_the_job_names_is_compared_with_the_recorded_one(
    job: Callable[..., LoadedJob], switch: Switch
) -> None:
    switch(AMX)
    stopped = begin(job())
    with pytest.raises(StateError, match=r'model\.dtype was "bfloat16", is "float32"'):
        run(job("model.dtype=float32"))
    assert run(job("model.dtype=bfloat16")).run_id == stopped.run_id


@pytest.mark.parametrize(
    ("before", "sets", "now", "reused"),
    [
        pytest.param(AMX, [], AMX, 5, id="the same dtype"),
        pytest.param(AMX, [], AVX2, 0, id="auto stands for another dtype"),
        pytest.param(AVX2, [], AMX, 0, id="auto stands for another dtype, the other way"),
        pytest.param(AVX2, ["model.dtype=bfloat16"], AMX, 5, id="named there, chosen here"),
        pytest.param(AVX2, ["model.dtype=float32"], AVX2, 5, id="float32 named there"),
        pytest.param(None, [], AVX2, 5, id="auto of an earlier version was float32"),
        pytest.param(None, [], AMX, 0, id="auto of an earlier version was not bfloat16"),
    ],
)
@pytest.mark.parametrize("columns", ["all", "none"])
def test_answers_in_the_same_dtype_are_reused(
    job: Callable[..., LoadedJob],
    switch: Switch,
    before: CpuMachine | None,
    sets: list[str],
    now: CpuMachine,
    reused: int,
    columns: str,
) -> None:
    """Without the published columns, rows are recognised by their fingerprints."""
    kept = f"output.keep_columns={columns}"
    switch(before)
    first = run(job(kept, *sets))
    switch(now)
    messages: list[str] = []
    second = run(
        job(kept, "output.path=new"),
        incremental_from=first.folder.path,
        reporter=RecordingReporter(messages),
    )
    assert second.incremental is not None
    assert second.incremental.reused == reused
    announced = f"no answer of {first.folder.path} fits, all rows are generated: model.dtype was"
    assert any(one.startswith(announced) for one in messages) is (reused == 0)


def test_a_run_that_an_earlier_version_began_continues_in_float32(
    job: Callable[..., LoadedJob], switch: Switch
) -> None:
    switch(None)
    stopped = begin(job())
    assert read_json(stopped.folder.run)["settings"]["model"]["dtype"] == "auto"
    switch(AMX)
    messages: list[str] = []
    result = run(job(), reporter=RecordingReporter(messages))
    assert (result.run_id, engine_record(result)["dtype"]) == (stopped.run_id, "float32")
    assert NOTES["float32"] in messages


def test_compare_names_the_dtypes(job: Callable[..., LoadedJob], switch: Switch) -> None:
    metrics = "evaluate.metrics=[length]"
    switch(AVX2)
    base = run(job(metrics))
    switch(AMX)
    new = run(job(metrics, "output.path=new"))
    changed = changed_settings(*(open_scored_run(one.folder.path) for one in (base, new)))
    assert changed == [ChangedSetting("model.dtype", '"float32"', '"bfloat16"')]
