"""The process in which a worker of a Ray cluster makes parts, started with the number of its parent and names of modules.

It imports the modules while the driver still reads the input. Then a line on stdin, a `ProcessOrder`, contains what it
runs, and the file for its messages; without one it ends.
"""

import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from batchgen.storage.processes import end_with_parent

MODULES = ("batchgen.__main__", "batchgen.run.shards.shard_run")
MODEL_MODULES = ("torch", "transformers.models.auto.tokenization_auto", "transformers.activations")
"""What every job with a model on the machine imports, which takes seconds."""


@dataclass(frozen=True, slots=True)
class ProcessOrder:
    """What the process runs: the command line after `batchgen`, in this folder, with its messages in the file `log`."""

    words: tuple[str, ...]
    working_folder: str
    log: str

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Import modules, wait for an order, and run it."""
    end_with_parent(int(arguments[0]))
    for name in arguments[1:]:
        importlib.import_module(name)
    line = sys.stdin.readline()
    if not line:
        return
    order = ProcessOrder(**json.loads(line))
    os.chdir(order.working_folder)
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, sys.stderr.fileno())
    os.close(log)
    sys.argv = ["batchgen", *order.words]
    importlib.import_module("batchgen.__main__").main()


if __name__ == "__main__":
    main(sys.argv[1:])
