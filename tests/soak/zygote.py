"""Starts `batchgen` processes fast: everything is imported once, and each process is a fork.

Reads one JSON object a line: {"call": "module:function", "arguments": [...], "env": {...}, "log": "file"}. Replies with
{"pid": ...} at once and {"code": ...} when the process has ended; a negative code is a signal, as in `subprocess`.
"""

import importlib
import json
import os
import sys
from typing import Any


def main() -> None:
    for name in ("cli.run", "cli.render.run_summary", "cli.options", "run.run", "arrow.row_filter"):
        importlib.import_module(f"batchgen.{name}")
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(_be(request))
        print(json.dumps({"pid": child}), flush=True)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def _be(request: dict[str, Any]) -> int:
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(request["env"])
    module, _, function = request["call"].partition(":")
    code = int(getattr(importlib.import_module(module), function)(request["arguments"]))
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
