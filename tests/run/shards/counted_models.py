"""Models of an evaluation that count their queries, and what a cache holds of the results."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from batchgen.engines.echo import EchoEngine
from batchgen.records import Continuation, Likelihood

JUDGED = {
    "metrics": [{"type": "loglikelihood", "column": "ref"}],
    "judges": [{"name": "good", "model": {"engine": "echo"}}],
}
"""An evaluation that queries models about each answer."""


@dataclass
class CountedModels:
    """Opens engines, and counts their queries; `stopped` is set by query number `most`."""

    queried: int = 0
    most: int = 1_000_000
    stopped: bool = False
    opened: list[Any] = field(default_factory=list)

    def __call__(self, *_: object, decode: Any, **__: object) -> EchoEngine:
        models = self

        class Counting(EchoEngine):
            def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
                for one in super().likelihoods(continuations):
                    models.queried += 1
                    models.stopped = models.queried >= models.most
                    yield one

        self.opened.append(decode)
        return Counting(decode)


def cached_results(private: Path) -> int:
    """The number of results in the cache of a run's private folder."""
    tables = map(pq.read_table, (private / "likelihoods").glob("*.parquet"))
    cells = (cell for table in tables for column in table.columns for cell in column.to_pylist())
    return sum(map(len, cells))
