"""What differs between the settings of two runs: model, prompt, decoding, input, metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from batchgen.evaluation.comparing.scored_run import ScoredRun
from batchgen.fingerprint import differences
from batchgen.state.column_settings import settings_as_computed

_FACTS = {"versions": "versions", "scored": "scored_file", "response": "response_column"}
_OF_THE_MODEL = ("name", "source", "revision")


@dataclass(frozen=True, slots=True)
class ChangedSetting:
    """A setting by its dotted key, with both values as JSON or "not set"; the values of a secret are left out."""

    key: str
    old: str
    new: str


def changed_settings(base: ScoredRun, new: ScoredRun) -> list[ChangedSetting]:
    """The settings that differ, sorted by key. What only one of the two has recorded is not compared."""
    one, other = _settings(base), _settings(new)
    _keep_common(one, other)
    for key in ("evaluate", "metrics", "signatures"):
        _keep_common(one[key], other[key])
    if _hashes(base) == _hashes(new):  # the same files under other names
        one.pop("input_files", None)
        other.pop("input_files", None)
    return [ChangedSetting(d.key, *d.shown) for d in differences(one, other)]


def _keep_common(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name in one.keys() ^ other.keys():
        one.pop(name, None)
        other.pop(name, None)


def _settings(run: ScoredRun) -> dict[str, Any]:
    """The settings of a run by section, without those of other tools and paths of this machine."""
    facts = run.facts
    found = dict(settings_as_computed(facts.get("settings", {}), facts.get("engine", {})))
    if "model" in found:
        named = {key: facts.get("model", {}).get(key) for key in _OF_THE_MODEL}
        found["model"] = {**found["model"], **{k: v for k, v in named.items() if v is not None}}
    evaluate = dict(facts.get("evaluate", {}))
    metrics = evaluate.pop("metrics", ())
    found["metrics"] = {one.get("name") or one["type"]: one for one in metrics}
    found["signatures"] = dict(evaluate.pop("signatures", {}))
    found["evaluate"] = {**evaluate, "metrics": sorted(run.metrics)}
    found |= {name: facts[key] for key, name in _FACTS.items() if key in facts}
    if run.input:
        found["input_files"] = [_file(one) for one in run.input]
    return found


def _file(recorded: Mapping[str, Any]) -> str:
    return f"{PurePath(recorded['path']).name} (sha256 {recorded['sha256'][:12]})"


def _hashes(run: ScoredRun) -> Sequence[str]:
    return [one["sha256"] for one in run.input]
