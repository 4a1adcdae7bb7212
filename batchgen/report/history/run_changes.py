"""What changed between two runs of a job: model, data, prompt, decoding, metrics, versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from batchgen.evaluation.comparing.settings import ChangedSetting, changed_settings
from batchgen.report.history.read_history import HistoryRun

ChangeKind = Literal["model", "data", "prompt", "decoding", "metric", "version", "other"]
CHANGE_KINDS: tuple[ChangeKind, ...] = (
    "model",
    "data",
    "prompt",
    "decoding",
    "metric",
    "version",
    "other",
)
_KINDS: dict[str, ChangeKind] = {
    "model": "model",
    "tokenizer": "model",
    "engine": "model",
    "input": "data",
    "input_files": "data",
    "redact": "data",
    "prompt": "prompt",
    "decoding": "decoding",
    "run": "decoding",
    "metrics": "metric",
    "signatures": "metric",
    "evaluate": "metric",
    "versions": "version",
}
"""By the first part of a setting's key. `run` has the seed."""


@dataclass(frozen=True, slots=True)
class RunChange:
    """A setting that differs from the run before."""

    kind: ChangeKind
    setting: ChangedSetting


def changes_between(before: HistoryRun, now: HistoryRun) -> list[RunChange]:
    """The settings that differ, and the metrics with another fingerprint, in the order of `CHANGE_KINDS`."""
    found = [
        RunChange(_KINDS.get(_section(one.key), "other"), one)
        for one in changed_settings(before.scored, now.scored)
    ]
    explained = any(change.kind == "metric" for change in found)
    for name, old in before.scored.metrics.items():
        new = now.scored.metrics.get(name)
        if new is not None and new.fingerprint != old.fingerprint and not explained:
            key = f"fingerprint of {name}"
            setting = ChangedSetting(key, old.fingerprint[:12], new.fingerprint[:12])
            found.append(RunChange("metric", setting))
    return sorted(found, key=lambda change: CHANGE_KINDS.index(change.kind))


def kinds_of(changes: Sequence[RunChange]) -> list[ChangeKind]:
    """The kinds of some changes, each once."""
    return list(dict.fromkeys(change.kind for change in changes))


def _section(key: str) -> str:
    return key.partition(".")[0].partition("[")[0]
