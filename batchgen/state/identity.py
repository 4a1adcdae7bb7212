"""What a run is: the settings that decide its answers, and whether saved state belongs to it.

    run.json   id, date, settings, input, part_rows: written once, when the run first starts

A second `run` goes on only if settings and input are the same; otherwise it is refused with the keys that differ.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from batchgen.errors import StateError
from batchgen.fingerprint import KeyDifference, differences, fingerprint
from batchgen.input.sources import SurveyedFile
from batchgen.state.run_folder import RunFolder, read_json

FORMAT = 1
"""Version of run.json and manifest.json."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """A run's identity, as run.json holds it.

    Attributes:
        settings: everything that decides the answers, as plain values; `fingerprint` is its hash.
        input: path, size and sha256 of each input file.
        rows: selected input rows.
        part_rows: rows per part, fixed for the life of the run.
    """

    run_id: str
    started_at: str
    date: str
    settings: Mapping[str, Any]
    input: Sequence[Mapping[str, Any]]
    rows: int
    part_rows: int

    @property
    def fingerprint(self) -> str:
        """Hash of the settings: the generation fingerprint."""
        return fingerprint(self.settings)

    def content(self) -> dict[str, Any]:
        """What run.json says."""
        return {"format": FORMAT, "fingerprint": self.fingerprint, **asdict(self)}


def new_run_id() -> str:
    """Sorts by time, and does not repeat."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def input_record(files: Sequence[SurveyedFile]) -> list[dict[str, Any]]:
    """The part of an identity that names the input."""
    return [{"path": str(f.path), "size": f.size, "sha256": f.sha256} for f in files]


def read_identity(folder: RunFolder) -> Identity | None:
    """The run that the folder holds, or None if it holds none.

    Raises:
        StateError: run.json is damaged.
    """
    if not folder.run.exists():
        return None
    content = read_json(folder.run)
    try:
        known = Identity(**{name: content[name] for name in Identity.__dataclass_fields__})
    except KeyError as error:
        raise StateError(
            f"{folder.run} is damaged: {error.args[0]} is missing",
            hint="Start over with --fresh: the old run is moved aside, not deleted.",
        ) from error
    if known.fingerprint != content.get("fingerprint"):
        raise StateError(
            f"{folder.run} is damaged: its settings do not match their fingerprint",
            hint="Start over with --fresh: the old run is moved aside, not deleted.",
        )
    return known


def check_same_run(folder: RunFolder, known: Identity, now: Identity) -> None:
    """Refuse to mix answers of different jobs or inputs.

    Raises:
        StateError: the folder's run was another job, or had another input; names what differs, old and new.
    """
    ways_out = "Write elsewhere with --output FOLDER, or start over with --fresh: the old run is moved aside, not deleted."
    changed = differences(known.settings, now.settings)
    if changed:
        raise StateError(
            f"{folder.path} was made by another job: {_listed(changed)}", hint=ways_out
        )
    before = {f["path"]: f["sha256"] for f in known.input}
    after = {f["path"]: f["sha256"] for f in now.input}
    if before != after:
        names = sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))
        raise StateError(
            f"{folder.path} was made from other input: {', '.join(names[:_SHOWN])} changed",
            hint=ways_out,
        )


def _listed(changed: Sequence[KeyDifference]) -> str:
    shown = [str(difference) for difference in changed[:_SHOWN]]
    more = len(changed) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")
