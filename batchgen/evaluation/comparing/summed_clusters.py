"""Row statistics summed over clusters, computed where they are read."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchgen.evaluation.comparing.paired_rows import Ranks, RowScores
from batchgen.metrics.statistics.intervals import Floats


def dense_numbers(numbers: Ranks) -> npt.NDArray[np.uint32]:
    """The rank of each number among the different ones, from 0: uint32 [n]."""
    present = np.zeros(int(numbers.max(initial=0)) + 1, np.bool_)
    present[numbers] = True
    ranks = np.cumsum(present, dtype=np.uint32)
    ranks -= 1
    found: npt.NDArray[np.uint32] = ranks[numbers]
    return found


@dataclass(frozen=True, slots=True)
class ClusterOrder:
    """Rows by cluster.

    Attributes:
        rows: uint32 [rows], those of the first cluster, then those of the second, and so on.
        starts: int64 [clusters + 1], where each cluster begins in `rows`; None if each row is a cluster.
    """

    rows: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.rows) if self.starts is None else len(self.starts) - 1


def order_clusters(clusters: npt.NDArray[np.uint32]) -> ClusterOrder:
    """Order rows by their cluster's number; each from 0 has a row."""
    rows = np.argsort(clusters, kind="stable").astype(np.uint32)
    sizes = np.bincount(clusters)
    starts = None if (sizes == 1).all() else np.concatenate([[0], np.cumsum(sizes)])
    return ClusterOrder(rows, starts)


@dataclass(frozen=True, slots=True)
class SummedClusters:
    """Float64 [clusters, width + 2]: sums of the statistics, then the numbers of rows with a score and of all rows."""

    scores: RowScores
    order: ClusterOrder
    width: int

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, clusters: slice, /) -> Floats:
        first, stop, _ = clusters.indices(len(self))
        starts = self.order.starts
        within = slice(first, stop) if starts is None else slice(starts[first], starts[stop])
        rows = self.order.rows[within]
        table = np.empty((len(rows), self.width + 2))
        stats = self.scores.stats
        table[:, :-2] = 0.0 if stats is None else stats.take(rows)
        table[:, -2] = self.scores.scored[rows]
        table[:, -1] = 1.0
        if starts is None or not len(table):
            return table
        return np.add.reduceat(table, starts[first:stop] - starts[first])
