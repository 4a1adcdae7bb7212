"""Which parts a model has been queried about, noted by the shard that did it.

    .batchgen/shards/scores/<key>/00012.scored     an empty file; the key is a hash of the model and its queries
    .batchgen/shards/scores/<key>/claims/00012.0   which worker does it; see `claims.py`

The results are in the cache of likelihoods. A note only saves another shard the look: what is not in the cache when the run is
published is queried then.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.claims import ClaimStore, FolderClaims
from batchgen.storage.durable import disk_errors
from batchgen.storage.entries import exists, list_folder

_ENDING = ".scored"


class ScoredParts(Protocol):
    """The notes of one model."""

    @property
    def claims(self) -> ClaimStore:
        """Which worker queries the model about which part."""

    def numbers(self) -> set[int]:
        """The parts that need no queries any more."""

    def is_scored(self, part: int) -> bool:
        """Whether a part is one of them."""

    def note(self, part: int) -> None:
        """Note that all results about a part are cached."""


@dataclass(frozen=True, slots=True)
class FolderScoredParts:
    """Notes in the run's folder."""

    folder: RunFolder
    key: str

    @property
    def path(self) -> Path:
        return self.folder.shards / "scores" / self.key

    @property
    def claims(self) -> FolderClaims:
        return FolderClaims(self.folder, self.path / "claims")

    def numbers(self) -> set[int]:
        return {int(path.stem) for path in list_folder(self.path, _ENDING)}

    def is_scored(self, part: int) -> bool:
        return exists(self._note(part))

    def note(self, part: int) -> None:
        note = self._note(part)
        with disk_errors("cannot create", note):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            note.touch(mode=0o600)

    def _note(self, part: int) -> Path:
        return self.path / f"{part:05d}{_ENDING}"
