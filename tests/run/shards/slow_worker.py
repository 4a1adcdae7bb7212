"""A worker with `--shard any` whose answers take their time; run by the tests of takeovers.

python -m tests.run.shards.slow_worker JOB SECONDS_PER_ANSWER EXPIRY
"""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from batchgen.engines.echo import EchoEngine
from batchgen.records import Completion, Request
from batchgen.run.shards.shard_run import run_shard
from batchgen.state.shards.shard import parse_shard


class SlowEngine(EchoEngine):
    """Answers one request after another."""

    def __init__(self, decode: Any, seconds: float) -> None:  # of EchoEngine
        super().__init__(decode)
        self._seconds = seconds

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for completion in super().generate(requests):
            time.sleep(self._seconds)
            yield completion


def main(job: str, shard: str, seconds: str, expiry: str) -> int:
    def open_slow(*_: object, decode: Any, **__: object) -> SlowEngine:  # of EchoEngine
        return SlowEngine(decode, float(seconds))

    made = run_shard(Path(job), parse_shard(shard), opener=open_slow, expiry=float(expiry))
    return int(made.exit_code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
