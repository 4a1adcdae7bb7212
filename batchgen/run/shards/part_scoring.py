"""What a shard does once its parts are made: query the models of the evaluation about them.

    sealed part ──claim──> queries ──model──> blocks in .batchgen/likelihoods, or in the bucket ──> noted as scored

Publishing finds the results in the cache, and queries only what is missing there, such as the parts of a shard that was lost.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from batchgen.evaluation.model_queries.scoring_pass import ScoringPass, ScoringPasses, StoppedError
from batchgen.fingerprint import fingerprint
from batchgen.progress import Reporter
from batchgen.run.setup import Setup
from batchgen.run.shards.claim_turns import claimed_parts
from batchgen.run.shards.shard_place import ShardPlace
from batchgen.run.stop_signals import StopCondition
from batchgen.state.parts import stream_parts
from batchgen.state.shards.claims import PartClaims
from batchgen.state.shards.scored_parts import ScoredParts


@dataclass(frozen=True, slots=True)
class PartScoring:
    """The queries of one shard. `numbers` are those of its parts; with `claims`, it shares them with the other shards."""

    setup: Setup
    passes: ScoringPasses
    place: ShardPlace
    numbers: range
    claims: bool
    expiry: float
    reporter: Reporter
    stop: StopCondition

    def run(self) -> bool:
        """Query all models about all parts; False if the shard is stopped first."""
        try:
            for passes in self.passes.by_engine():
                scored = self.place.scored(self._key(passes))
                for number in self._turns(scored):
                    self._score(number, passes)
                    scored.note(number)
        except StoppedError:
            return False
        return not self.stop()

    def _score(self, number: int, passes: Iterable[ScoringPass]) -> None:
        part = {number: self.place.store.fetch(number)}
        for one in passes:
            one.run_queries(lambda: stream_parts(part))

    def _turns(self, scored: ScoredParts) -> Iterator[int]:
        """The numbers of the parts that this shard queries the models about, one after another."""

        def missing() -> list[int]:
            done = scored.numbers()
            return [number for number in self.numbers if number not in done]

        if not self.claims:
            return (number for number in missing() if not self.stop())
        claims = PartClaims(
            scored.claims,
            self.place.name,
            missing=missing,
            is_sealed=scored.is_scored,
            clock=time.monotonic,
            expiry=self.expiry,
        )
        return claimed_parts(claims, self.stop, self.expiry, self.reporter)

    def _key(self, passes: Iterable[ScoringPass]) -> str:
        """A hash of the models and of what they are queried about."""
        queried = [[one.model, [source.columns for source in one.sources]] for one in passes]
        return fingerprint({"queried": queried, "evaluation": self.setup.evaluation.fingerprint})[
            :32
        ]
