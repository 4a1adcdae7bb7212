"""How far a run has come: counts the parts that its workers seal, for the process that only watches."""

import time
from collections.abc import Callable

from batchgen.state.parts import Counts
from batchgen.state.shards.bucket_shards import SharedBucketParts
from batchgen.state.shards.shared_parts import SharedPartStore

_PAUSE_FOR_A_LIST = 9.0
"""Times the seconds that it took to list the parts: a tenth of the time is spent on it, while that takes less than half a second."""
_LONGEST_PAUSE = 5.0


class SealedCounter:
    """Counts sealed parts, each once. Of a part, its number is kept; of one that is only in a bucket, its rows are counted.

    Attributes:
        numbers: of the counted parts.
        counts: their sum.
    """

    def __init__(
        self, store: SharedPartStore | SharedBucketParts, output_rows: Callable[[int], int]
    ) -> None:
        """`output_rows`: of a part."""
        self.numbers: set[int] = set()
        self.counts = Counts()
        self._store = store
        self._output_rows = output_rows
        self._next = 0.0

    def look(self) -> Counts | None:
        """Count the parts that were sealed since the last look; None if there are none. A folder of many parts is listed less often."""
        began = time.monotonic()
        if began < self._next:
            return None
        new = Counts()
        found = self._store.numbers() - self.numbers
        for number in found:
            recorded = self._store.recorded([number]).get(number)
            new += recorded.counts if recorded else Counts(rows=self._output_rows(number))
        self.numbers |= found
        self.counts += new
        now = time.monotonic()
        self._next = now + min(_LONGEST_PAUSE, _PAUSE_FOR_A_LIST * (now - began))
        return new if found else None
