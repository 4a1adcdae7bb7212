"""Why vLLM cannot load a model, or has died: from what its processes have printed, which is captured."""

import re

from batchgen.engines.replicas.replica_process import captured_output
from batchgen.errors import DeathError

_PREFIX = re.compile(r"^\(\w+[^)]*pid=\d+\)\s*|^(ERROR|CRITICAL|WARNING|INFO) \S+ \S+ \[[^\]]*\]\s?", re.MULTILINE)  # fmt: skip
_RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit))\b(?::\s*(\S.*))?$", re.MULTILINE)  # fmt: skip
_CONSEQUENCES = ("EngineDeadError", "Engine core initialization failed", "WorkerProc initialization failed")  # fmt: skip
_SHOWN = 400


def first_cause(error: BaseException) -> str:
    """The first error among those that led to `error`. Only while a model is loaded: the text may quote a row later."""
    own = f"{type(error).__name__}: {error}"
    printed = [f"{name.rpartition('.')[2]}: {text}" for name, text in _raised()]
    causes = [one for one in (*printed, own) if not any(part in one for part in _CONSEQUENCES)]
    text = " ".join((causes or [own])[0].split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def death_error(error: BaseException) -> DeathError:
    """The error for an engine that failed while it computed rows: kinds of errors only, since their texts may quote a row."""
    kinds = [name.rpartition(".")[2] for name, _ in _raised()]
    names = dict.fromkeys([*kinds, type(error).__name__])
    shown = [name for name in names if name not in _CONSEQUENCES][:3]
    why = f": {', '.join(shown)}" if shown else ", perhaps because memory ran out"
    return DeathError(
        f"vLLM's engine has died{why}",
        hint="Run the same command again. If it happens again, lower batching.memory_fraction or batching.max_rows.",
    )


def _raised() -> list[tuple[str, str]]:
    """Classes and texts of errors at the ends of the tracebacks that vLLM printed, in order."""
    printed = captured_output()
    while printed != (plain := _PREFIX.sub("", printed)):
        printed = plain
    return _RAISED.findall(printed)
