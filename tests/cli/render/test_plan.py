"""How a plan shows hardware that this machine may not have."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batchgen.cli.render.plan import lines, summary
from batchgen.engines.torch.estimate import TorchEstimate
from batchgen.jobfile.load import load_job
from batchgen.planning.kv_cache_plan import Workers
from batchgen.run.plan import plan
from batchgen.run.run import run
from batchgen.state.run_folder import read_json

MakeJob = Callable[..., Path]


def test_each_gpu_is_named(make_job: MakeJob) -> None:
    found = plan(load_job(make_job()))
    assert any(line.endswith(" 1 worker (engine echo)") for line in lines(found))
    workers = Workers(2, "auto: one per GPU", ("cuda:0", "cuda:1"))
    found = replace(found, engine=replace(found.engine, workers=workers))
    (line,) = (line.strip() for line in lines(found) if "worker" in line)
    assert line == (
        "2 workers (auto: one per GPU), each with these limits on a GPU of its own: cuda:0, cuda:1"
    )
    assert summary(found)["engine"]["workers"]["gpus"] == ("cuda:0", "cuda:1")


def test_warnings_of_the_engine_are_lines_of_their_own(
    make_job: MakeJob, demo_folder: Path
) -> None:
    model = {"engine": "transformers", "path": str(demo_folder)}
    found = plan(load_job(make_job(model=model)))
    engine = found.engine
    assert isinstance(engine, TorchEstimate)
    slower = replace(engine, fallback="not continuous: no", variant="bits differ with another row")
    shown = lines(replace(found, engine=slower))
    assert f"{' ' * 10}slower tier: not continuous: no" in shown
    assert f"{' ' * 10}not batch-invariant: bits differ with another row" in shown


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (1, "c0"),
        (8, "c0, c1, c2, c3, c4, c5, c6, c7"),
        (300, "c0, c1, c2, c3, c4, c5, c6 and 293 more"),
    ],
)
def test_a_few_unused_columns_are_named(make_job: MakeJob, columns: int, shown: str) -> None:
    row = {"q": "x"} | {f"c{number}": number for number in range(columns)}
    found = lines(plan(load_job(make_job([row]))))
    assert f"{' ' * 10}columns not in the prompts: {shown}" in found


def test_a_long_name_of_a_column_is_cut(make_job: MakeJob) -> None:
    found = lines(plan(load_job(make_job([{"q": "x", "n" * 5000: 1}]))))
    assert f"{' ' * 10}columns not in the prompts: {'n' * 39}…" in found


def test_without_a_model_there_is_no_template_and_no_context_length(make_job: MakeJob) -> None:
    job = make_job()
    shown = lines(plan(load_job(job)))
    assert (
        "Model     none · engine echo: repeats the prompt without a model, "
        "to try out a job; with response_format, a text of that form where the prompt is none"
        in shown
    )
    assert "Prompt    no model: the messages as UTF-8 bytes" in shown
    assert "Memory    no model is loaded" in shown
    settings = read_json(run(load_job(job)).folder.manifest)["settings"]
    assert settings["model"]["context_length"] is None
    bounded = plan(load_job(job, overrides=["model.max_model_len=999"]))
    assert bounded.setup.settings["model"]["context_length"] == 999
