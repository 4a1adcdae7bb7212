"""What decided the answers and scores, as groups of keys and values: from the manifest, or the metadata of the scores."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from batchgen.report.reported_run import ReportedRun

_GROUPS = ("model", "settings", "engine", "versions")
_MAX_CHARACTERS = 600

Group = tuple[str, Sequence[tuple[str, str]]]
"""A name, and keys with values."""


def provenance_groups(run: ReportedRun) -> list[Group]:
    """The groups that are known; empty ones are left out."""
    manifest, facts = run.manifest, run.scored.facts
    source = manifest or facts
    own = ("job", "run_id", "fingerprint", "started_at", "finished_at", "seconds", "scored")
    groups: list[Group] = [("run", [(key, _text(source[key])) for key in own if key in source])]
    groups += [(name, list(_flat(source.get(name, {})))) for name in _GROUPS]
    groups.append(("input", [_file(one) for one in manifest.get("input", ())]))
    groups.append(
        ("files", [(one["name"], f"sha256 {one['sha256']}") for one in manifest.get("files", ())])
    )
    groups.append(("evaluate", list(_flat(facts.get("evaluate", {})))))
    groups.append(
        ("metrics", [(row.metric, f"fingerprint {row.fingerprint}") for row in run.overall])
    )
    return [(name, rows) for name, rows in groups if rows]


def _file(recorded: Mapping[str, Any]) -> tuple[str, str]:
    return PurePath(str(recorded["path"])).name, f"sha256 {recorded['sha256']}"


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401  # JSON
    """Dotted keys and their values; what is not set is left out."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _flat(one, f"{key}.{name}" if key else str(name))
    elif value not in (None, [], (), ""):
        yield key, _text(value)


def _text(value: Any) -> str:  # noqa: ANN401  # JSON
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
