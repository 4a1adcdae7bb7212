"""Results of the models of an evaluation, of machines that share object storage and no disk.

    PREFIX/.batchgen/RUN_ID/likelihoods/<name>.parquet      a block of results, as in the folder; see `likelihood_cache.py`
    PREFIX/.batchgen/RUN_ID/scores/<key>/00012.scored       all results about a part are there; see `scored_parts.py`
    PREFIX/.batchgen/RUN_ID/scores/<key>/claims/00012.0     which worker queries the models about it

All is deleted when the run is published.
"""

from dataclasses import dataclass

from batchgen.state.bucket_state import BucketState
from batchgen.state.shards.bucket_shards import BucketClaims

_ENDING = ".scored"


@dataclass(slots=True)
class BucketBlocks:
    """Blocks of results as objects. Those of other machines are listed once, at the first look."""

    state: BucketState
    run_id: str
    _names: dict[str, str] | None = None

    def read(self, key: str) -> tuple[str, bytes] | None:
        """See `SharedBlocks`."""
        if self._names is None:
            listed = self.state.bucket.list(self.state.url.child(f"{self.run_id}/likelihoods").key)
            names = (one.url.key.rpartition("/")[2] for one in listed)
            self._names = {name.partition("-")[0]: name for name in names}
        name = self._names.get(key)
        found = None if name is None else self.state.bucket.read(self._key(name))
        return None if name is None or found is None else (name, found[0])

    def save(self, name: str, content: bytes) -> None:
        """See `SharedBlocks`."""
        self.state.bucket.put(self._key(name), content)

    def _key(self, name: str) -> str:
        return self.state.url.child(f"{self.run_id}/likelihoods/{name}").key


@dataclass(frozen=True, slots=True)
class BucketScoredParts:
    """Notes as objects; see `ScoredParts`. In a run that is published, all parts count as noted."""

    state: BucketState
    run_id: str
    key: str

    @property
    def claims(self) -> BucketClaims:
        return BucketClaims(self.state, self.run_id, f"scores/{self.key}/claims")

    def numbers(self) -> set[int]:
        prefix = self.state.url.child(f"{self.run_id}/scores/{self.key}").key
        names = (one.url.key.rpartition("/")[2] for one in self.state.bucket.list(prefix))
        return {int(name.removesuffix(_ENDING)) for name in names if name.endswith(_ENDING)}

    def is_scored(self, part: int) -> bool:
        noted = self.state.bucket.find(self._note(part)) is not None
        return noted or not self.state.holds(self.run_id)

    def note(self, part: int) -> None:
        self.state.bucket.put(self._note(part), b"scored")

    def _note(self, part: int) -> str:
        return self.state.url.child(f"{self.run_id}/scores/{self.key}/{part:05d}{_ENDING}").key
