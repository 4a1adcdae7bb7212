"""How a plan shows hardware that this machine may not have."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from batchgen.cli.render.plan import lines, summary
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


def test_without_a_model_there_is_no_template_and_no_context_length(make_job: MakeJob) -> None:
    job = make_job()
    shown = lines(plan(load_job(job)))
    assert (
        "Model     none · engine echo: repeats the prompt without a model, to try out a job"
        in shown
    )
    assert "Prompt    no model: the messages as UTF-8 bytes" in shown
    assert "Memory    no model is loaded" in shown
    settings = read_json(run(load_job(job)).folder.manifest)["settings"]
    assert settings["model"]["context_length"] is None
    bounded = plan(load_job(job, overrides=["model.max_model_len=999"]))
    assert bounded.setup.settings["model"]["context_length"] == 999
