"""`--merge`: publish a run whose parts shards have made; make none.

The engine that answered is described by what each shard recorded of it: facts that all have in common, and the rest under
`machines`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from batchgen.errors import UsageError
from batchgen.job.spec import Output
from batchgen.run.executors.executor import MadeParts, PartsTask
from batchgen.state.bucket_state import PartsHome, open_parts_home
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.bucket_shards import read_members
from batchgen.state.shards.members import members
from batchgen.state.shards.shard import short_ranges
from batchgen.storage.entries import exists

_TIMES = ("seconds", "load_seconds")


@dataclass(frozen=True, slots=True)
class NoExecutor:
    """Makes no part: it names those that are missing, and the shards that make them."""

    folder: RunFolder
    publishes: bool = True

    def make_parts(self, task: PartsTask) -> MadeParts:
        missing = [*task.numbers]
        saved = sum(map(task.identity.output_rows, task.sealed))
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


def check_begun(folder: RunFolder, output: Output) -> None:
    """UsageError if there is no run to merge."""
    if exists(folder.run) or exists(folder.manifest):
        return
    state = open_parts_home(folder, output, fresh=False).state
    if state is None or not state.is_begun:
        raise UsageError(
            f"--merge: {folder.path if state is None else state.url} holds nothing of a run",
            hint="Make its parts first, with --shard I/N or --shard any.",
        )


def with_machines(home: PartsHome, run_id: str, made: MadeParts) -> MadeParts:
    """What this process has made, with what the shards of the run recorded: their engines, and their times.

    Shards work at the same time: the seconds are those of the one that worked longest.
    """
    contents: Iterable[Mapping[str, Any]]
    if home.state is None:
        contents = (one.content for one in members(home.folder))
    else:
        contents = read_members(home.state, run_id)
    found = [content for content in contents if content.get("parts")]
    if not found:
        return made
    longest = {key: max(float(one.get(key, 0.0)) for one in found) for key in _TIMES}
    return replace(
        made,
        facts={**made.facts, **_common_facts(found)},
        seconds=made.seconds + longest["seconds"],
        load_seconds=made.load_seconds + longest["load_seconds"],
    )


def _common_facts(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest's `engine` of several shards: facts that all have in common, and the rest under `machines`."""
    engines: list[Mapping[str, Any]] = [one.get("engine", {}) for one in found]
    first, *others = engines
    common = {k: v for k, v in first.items() if all(k in o and o[k] == v for o in others)}
    machines = [
        {
            **{key: one.get(key) for key in ("shard", "host", "processor", "parts", *_TIMES)},
            **{key: value for key, value in engine.items() if key not in common},
        }
        for one, engine in zip(found, engines, strict=True)
    ]
    processors = sorted({str(one.get("processor")) for one in found if one.get("processor")})
    return {**common, "processors": processors, "machines": machines}
