"""The sealed parts of a run that several processes make: what another process has sealed is not an error.

A start of a shard does not read what others have made: their parts are checked when the run is published.
"""

from collections.abc import Iterable

import pyarrow as pa

from batchgen.state.parts import PartStore, SealedPart, count_part, part_files
from batchgen.storage.entries import exists


class SharedPartStore(PartStore):
    """Parts of which each is sealed once, by the process that is first."""

    def seal(self, number: int, table: pa.Table) -> SealedPart:
        """Seal a part as `PartStore.seal` does, or return that of the process that was faster: it has the same answers."""
        if self._commit(number, table):
            return self._record(number, count_part(table))
        return self._recorded(self._path(number))

    def numbers(self) -> set[int]:
        """The numbers of the sealed parts, none of which is read."""
        return {int(path.stem) for path in part_files(self._folder)}

    def is_sealed(self, number: int) -> bool:
        """Whether a part is sealed; unlike a list of the folder, the answer is never an old one."""
        return exists(self._path(number))

    def recorded(self, numbers: Iterable[int]) -> dict[int, SealedPart]:
        """Sealed parts as they were recorded when they were sealed; they are not read."""
        return {number: self._recorded(self._path(number)) for number in numbers}
