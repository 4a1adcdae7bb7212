"""Offline batch text generation: a table of prompts in, a table of answers out.

    import batchgen
    job = batchgen.load_job("job.yaml")
    print(batchgen.plan(job).tokens)
    frame = batchgen.run(job).frame()
    print(batchgen.score("out/my-job", ["exact"], reference="answer").metrics)
    print(batchgen.compare("out/old", "out/my-job").metrics)

Each public name is imported when it is first used, so that `import batchgen` costs nothing. The types are in `__init__.pyi`.
"""

import importlib

_HOMES = {
    "load_job": "batchgen.jobfile.load",
    "plan": "batchgen.run.plan",
    "run": "batchgen.run.run",
    "score": "batchgen.evaluation.scoring.score",
    "compare": "batchgen.evaluation.comparing.compare",
    "open_engine": "batchgen.engines.engine_registry",
    "Job": "batchgen.job.spec",
    "LoadedJob": "batchgen.jobfile.load",
    "Plan": "batchgen.run.plan",
    "RunResult": "batchgen.run.result",
    "ScoreResult": "batchgen.evaluation.scoring.score_run",
    "Comparison": "batchgen.evaluation.comparing.compare",
    "Row": "batchgen.records",
    "Prompt": "batchgen.records",
    "Request": "batchgen.records",
    "Completion": "batchgen.records",
    "Response": "batchgen.records",
    "Failure": "batchgen.records",
    "BatchgenError": "batchgen.errors",
}

__all__ = tuple(_HOMES)

# `batchgen.run` is the function. Importing the folder of that name binds the folder there, so that happens first.
importlib.import_module("batchgen.run")
del globals()["run"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'batchgen' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
