"""The bootstrap of corpus metrics: 1,000 replicates over 100k rows, for one run and for two runs compared.

The row statistics are those of BLEU: ten numbers a row.
"""

import resource
import time
from collections.abc import Callable

import numpy as np

from batchgen.metrics.statistics.corpus_tests import compare_corpora
from batchgen.metrics.statistics.intervals import Confidence, Floats, bootstrap

ROWS, STATISTICS, REPLICATES, TIMES = 100_000, 10, 1_000, 3


def finalize(sums: Floats) -> Floats:
    """A ratio of two sums: drawing the rows takes most of the time."""
    value: Floats = sums[..., 0] / sums[..., 1]
    return value


def seconds(work: Callable[[], object]) -> float:
    """The fastest of several times."""
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def main() -> None:
    chance = np.random.default_rng(1)
    base = chance.poisson(20.0, (ROWS, STATISTICS)).astype(np.float64)
    new = chance.poisson(21.0, (ROWS, STATISTICS)).astype(np.float64)
    confidence = Confidence(replicates=REPLICATES)
    alone = seconds(lambda: bootstrap(base, finalize, Confidence(replicates=REPLICATES)))
    paired = seconds(lambda: compare_corpora(base, new, finalize, confidence))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{REPLICATES:,} replicates over {ROWS:,} rows: {alone:.2f} s")
    print(f"the same of two runs, paired: {paired:.2f} s")
    print(f"peak {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
