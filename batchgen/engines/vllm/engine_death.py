"""Why vLLM cannot load a model, or has died: from what its processes have printed, which is captured."""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from batchgen.engines.replicas.replica_process import captured_output
from batchgen.errors import DeathError

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_FOR_AN_ERROR = 3.0
"""vLLM may notice the death itself, and then names its cause."""

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


class CoreWatch:
    """Ends this process if vLLM's engine core is gone while a call waits for it: vLLM 0.32 never wakes `step` then.

    A thread looks once a second while `waiting` is entered. Rows in flight are suspects afterwards, as after any other death of
    an engine process.
    """

    def __init__(self, is_gone: Callable[[], bool]) -> None:
        self._is_gone = is_gone
        self._waits = 0
        self._calls = 0
        threading.Thread(target=self._watch, name="vLLM core watch", daemon=True).start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Enter this around a call that waits for the core."""
        self._calls += 1
        self._waits = self._calls
        try:
            yield
        finally:
            self._waits = 0

    def _watch(self) -> None:
        while True:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            call = self._waits
            if not call or not self._is_gone():
                continue
            time.sleep(_SECONDS_FOR_AN_ERROR)
            if self._waits == call:
                sys.stderr.write("the process of vLLM's engine core has ended\n")
                sys.stderr.flush()
                os._exit(1)
