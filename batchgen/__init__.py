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

_PUBLIC = {
    "jobfile.load": ("load_job", "LoadedJob"),
    "run.plan": ("plan", "Plan"),
    "run.run": ("run",),
    "evaluation.scoring.score": ("score",),
    "evaluation.comparing.compare": ("compare", "Comparison"),
    "engines.engine_registry": ("open_engine",),
    "job.spec": ("Job",),
    "run.result": ("RunResult",),
    "evaluation.scoring.score_run": ("ScoreResult",),
    "records": ("Row", "Prompt", "Request", "Completion", "Response", "Failure"),
    "errors": ("BatchgenError",),
}
_MODULE_OF = {name: f"batchgen.{module}" for module, names in _PUBLIC.items() for name in names}

__all__ = tuple(_MODULE_OF)

# `batchgen.run` is the function. Importing the folder of that name binds the folder there, so that happens first.
importlib.import_module("batchgen.run")
del globals()["run"]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'batchgen' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
