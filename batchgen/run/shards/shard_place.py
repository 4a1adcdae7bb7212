"""Where the shards of a run meet: in its folder, or in object storage with `output.upload_parts`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from batchgen.run.preflight.versions import deciding_versions
from batchgen.state.bucket_state import PartsHome
from batchgen.state.shards.bucket_scores import BucketScoredParts
from batchgen.state.shards.bucket_shards import BucketClaims, BucketMember, SharedBucketParts
from batchgen.state.shards.claims import ClaimStore, FolderClaims
from batchgen.state.shards.members import ShardMember
from batchgen.state.shards.scored_parts import FolderScoredParts, ScoredParts
from batchgen.state.shards.shared_parts import SharedPartStore


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """The parts and claims that this process shares with others, and its name among them.

    `scored` returns the notes about which parts a model has been queried, given a hash of the model and its queries.
    """

    store: SharedPartStore | SharedBucketParts
    claims: ClaimStore
    scored: Callable[[str], ScoredParts]
    name: str


@contextmanager
def meet(
    home: PartsHome, run_id: str, member: ShardMember, seconds_between_beats: float
) -> Iterator[ShardPlace]:
    """Be among the shards of a run, as a member that has joined those of this folder.

    Raises:
        StateError: the others have other versions of the libraries that decide the answers.
    """
    folder, state = home.folder, home.state
    if state is None:
        store = SharedPartStore(folder, compression=home.compression)
        scored = partial(FolderScoredParts, folder)
        yield ShardPlace(store, FolderClaims(folder), scored, member.name)
        return
    shown = BucketMember(state, run_id, member)
    with shown.shown(deciding_versions(), seconds_between_beats):
        parts = SharedBucketParts(folder, state, run_id, compression=home.compression)
        noted = partial(BucketScoredParts, state, run_id)
        yield ShardPlace(parts, BucketClaims(state, run_id), noted, shown.name)
