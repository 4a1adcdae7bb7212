"""Process that compares mathematical expressions with math-verify. It imports nothing of batchgen.

Each line of stdin is a JSON object {references, response, seconds}; each line of stdout is the result: {equal, answer},
or {problem}. The timer ends the process where a comparison takes more than `seconds` of processor time: sympy cannot be
interrupted by anything else in every case, and not at all in a thread. Time of the wall would make a score depend on what
else the machine computes.
"""

import json
import logging
import signal
import sys
from contextlib import suppress
from typing import Any

_MEMORY = 4 << 30
"""Bytes of address space: powers of powers fill the memory sooner than the time is up."""


def _compared(request: dict[str, Any]) -> dict[str, Any]:
    from math_verify import parse, verify  # noqa: PLC0415 - after the limits are set

    references = [parse(text, parsing_timeout=None) for text in request["references"]]
    known = [reference for reference in references if reference]
    if not known:
        return {"problem": "reference"}
    answer = parse(request["response"], parsing_timeout=None)
    if not answer:
        return {"problem": "answer"}
    equal = any(verify(reference, answer, timeout_seconds=None) for reference in known)
    return {"equal": equal, "answer": str(answer[-1])}


def _main() -> None:
    logging.disable(logging.CRITICAL)
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not on every platform

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    import math_verify  # noqa: F401, PLC0415 - its seconds do not count for the first comparison

    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        try:
            result = _compared(request)
        except Exception as error:  # noqa: BLE001 - any text may come; sympy raises what it likes
            result = {"problem": type(error).__name__}
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
