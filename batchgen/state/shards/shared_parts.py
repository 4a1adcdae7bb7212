"""The sealed parts of a run that several processes make: what another process has sealed is not an error.

A start of a shard does not read what others have made: their parts are checked when the run is published.
"""

import os
import re
from collections.abc import Iterable

import pyarrow as pa

from batchgen.state.parts import PartStore, SealedPart, count_part
from batchgen.storage.durable import read_errors
from batchgen.storage.entries import exists

_PART = re.compile(r"(\d{5,})\.bgpart")


class SharedPartStore(PartStore):
    """Parts of which each is sealed once, by the process that is first."""

    def seal(self, number: int, table: pa.Table) -> SealedPart:
        """Seal a part as `PartStore.seal` does, or return that of the process that was faster: it has the same answers."""
        if self._commit(number, table):
            return self._record(number, count_part(table))
        return self._recorded(self._path(number))

    def numbers(self) -> set[int]:
        """The numbers of the sealed parts, none of which is read. What else is in the folder is found when the run is published."""
        with read_errors(self._folder.parts), os.scandir(self._folder.parts) as entries:
            found = (_PART.fullmatch(entry.name) for entry in entries)
            return {int(name[1]) for name in found if name}

    def is_sealed(self, number: int) -> bool:
        """Whether a part is sealed; unlike a list of the folder, the answer is never an old one."""
        return exists(self._path(number))

    def recorded(self, numbers: Iterable[int]) -> dict[int, SealedPart]:
        """Sealed parts as they were recorded when they were sealed; they are not read."""
        return {number: self._recorded(self._path(number)) for number in numbers}

    def fetch(self, number: int) -> SealedPart:
        """A sealed part, as it was recorded when it was sealed."""
        return self._recorded(self._path(number))
