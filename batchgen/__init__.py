"""Offline batch text generation: a table of prompts in, a table of answers out.

    import batchgen
    print(batchgen.generate(["What is tea?", "什么是茶？"], model="demo:smollm2-135m", max_new_tokens=32))
    print(batchgen.plan("job.yaml").tokens)
    result = batchgen.run("job.yaml", progress=True)
    print(result, result.frame())
    print(batchgen.score("out/my-job", ["exact"], reference="answer").metrics)
    print(batchgen.compare("out/old", "out/my-job").metrics)

Each public name is imported when it is first used, so that `import batchgen` costs nothing. The types are in `__init__.pyi`.
"""

import importlib
import os

# Idle threads of OpenMP, which torch uses, sleep after about a millisecond: longer than the time between two products of a step,
# since waking them takes as long as a product of few rows. By default they spin at a barrier for many milliseconds:
# where there are more running threads than cores, they spin while the thread that they wait for has no core, and a run
# takes ten times the processor time. Read when torch is imported; what the user has set is kept.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # of GCC's OpenMP, in iterations
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # of LLVM's and Intel's, in milliseconds

_PUBLIC = {
    "jobfile.load": ("load_job", "LoadedJob"),
    "run.plan": ("plan", "Plan"),
    "run.in_memory.python_api": ("generate", "run"),
    "jobfile.matrix.load_matrix": ("load_matrix", "LoadedMatrix"),
    "run.matrix.matrix_run": ("run_matrix",),
    "run.matrix.matrix_result": ("MatrixResult",),
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
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("batchgen-llm")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'batchgen' has no attribute {name!r}")
    if name != "BatchgenError":  # which a caller may catch
        importlib.import_module("batchgen.errors").check_platform()
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
