"""`--merge`: publish a run whose parts shards have made; make none.

The engine that answered is described by what each shard recorded of it: facts that all have in common, and the rest under
`machines`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.errors import UsageError
from batchgen.run.executors.executor import MadeParts, PartsTask
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.members import members
from batchgen.state.shards.shard import short_ranges
from batchgen.storage.entries import exists


@dataclass(frozen=True, slots=True)
class NoExecutor:
    """Makes no part: it names those that are missing, and the shards that make them."""

    folder: RunFolder

    def make_parts(self, task: PartsTask) -> MadeParts:
        missing = [*task.numbers]
        saved = sum(part.counts.rows for part in task.sealed.values())
        listed, parts = short_ranges(missing), task.identity.parts
        why = f"{len(missing):,} of {parts:,} parts are missing ({listed}){self._makers(missing)}"
        return MadeParts({}, saved, why=why)

    def _makers(self, missing: Sequence[int]) -> str:
        """The shards of which parts are missing, if all shards had the same N."""
        counts = {one.shard.rpartition("/")[2] for one in members(self.folder)}
        if len(counts) != 1 or not (count := counts.pop()).isdigit():
            return ""
        numbers = {part % int(count) for part in missing}
        return f", of shards {short_ranges(numbers)} of {count}"


def check_begun(folder: RunFolder) -> None:
    """UsageError if there is no run to merge."""
    if not exists(folder.run) and not exists(folder.manifest):
        raise UsageError(
            f"--merge: {folder.path} holds nothing of a run",
            hint="Make its parts first, with --shard I/N or --shard any.",
        )


def engine_facts(folder: RunFolder, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's `engine` of a run: `facts` of this process, with those of the shards that made parts."""
    made = [one for one in members(folder) if one.content.get("parts")]
    if not made:
        return dict(facts)
    engines: list[Mapping[str, Any]] = [one.content.get("engine", {}) for one in made]
    first, *others = engines
    common = {k: v for k, v in first.items() if all(k in o and o[k] == v for o in others)}
    machines = [
        {
            **{
                key: one.content.get(key)
                for key in ("shard", "host", "processor", "parts", "seconds")
            },
            **{key: value for key, value in engine.items() if key not in common},
        }
        for one, engine in zip(made, engines, strict=True)
    ]
    return {**facts, **common, "machines": machines}
