"""Job keys and metric types of version 0.1 that have another name now. To be deleted in version 0.4.

In a job file an old name is an error that gives the new one. In what a run of version 0.1 has stored, it is translated.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from batchgen.jobfile.tree import KeyPath, dotted_key, scalar_text

_SINCE = "in version 0.2"


@dataclass(frozen=True, slots=True)
class Rename:
    """The new key, or the several that it was split into.

    Attributes:
        convert: to new keys and values, if the values differ; None for a value that was never valid.
        restore: the old value of a new one.
    """

    names: tuple[str, ...]
    convert: Callable[[Any], Mapping[str, Any] | None] = lambda _: None
    restore: Callable[[Any], Any] = lambda value: value


def _choice(name: str, values: Mapping[str, bool]) -> Rename:
    old = {new: text for text, new in values.items()}

    def convert(value: object) -> Mapping[str, Any] | None:
        return {name: values[value]} if isinstance(value, str) and value in values else None

    return Rename((name,), convert, old.__getitem__)


def _error_limits(value: object) -> Mapping[str, Any] | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 2**63:
        return None
    if value >= 1:
        return {"max_error_rate": 1, "max_error_count": int(value)}
    return {"max_error_rate": value}


_LIMITS = ("max_error_rate", "max_error_count")
_FENCE = _choice("allow_code_fence", {"allow": True, "refuse": False})

RENAMED_KEYS: Mapping[str, Rename] = {
    "prompt.truncate": Rename(("truncate_column",)),
    "redact.with": Rename(("replacement",)),
    "run.max_errors": Rename(_LIMITS, _error_limits),
    "evaluate.judges.against": Rename(("baseline",)),
    "evaluate.metrics.contains.boundaries": _choice("whole_words", {"words": True, "none": False}),
    "evaluate.metrics.ifeval.keywords": Rename(("kwargs",)),
    "evaluate.metrics.json.fenced": _FENCE,
    "evaluate.metrics.json_schema.fenced": _FENCE,
    "evaluate.metrics.number.mark": Rename(("answer_format",)),
    "evaluate.metrics.python.better": Rename(("direction",)),
    "evaluate.metrics.python.entry": Rename(("function",)),
    "evaluate.metrics.refusal.wanted": Rename(("expect",)),
}
RENAMED_TYPES: Mapping[str, str] = {
    "all_of_k": "pass_hat_k",
    "constraints": "ifeval",
    "majority": "majority_at_k",
}
"""Types of metrics."""
_RENAMED_JUDGE_METRICS = {
    "_first": "_first_position",
    "_flip": "_position_flip",
    "_mass": "_label_mass",
}


def explain_renamed_key(path: KeyPath, typed: KeyPath, value: object) -> tuple[str, str] | None:
    """Message and hint for an unknown key that was renamed; None if it was not.

    `typed` is the path with the type of an item where a list has items of several types.
    """
    rename = RENAMED_KEYS.get(".".join(step for step in typed if isinstance(step, str)))
    if rename is None:
        return None
    names = " and ".join(f"`{name}`" for name in rename.names)
    new = rename.convert(value)
    written = [
        dotted_key((*path[:-1], name)) + (f": {scalar_text(new[name])}" if new else "")
        for name in new or rename.names
    ]
    message = f"unknown key `{path[-1]}`: renamed to {names} {_SINCE}"
    if rename.names == _LIMITS and isinstance(value, float) and value == 1:
        rate, count = (dotted_key((*path[:-1], name)) for name in _LIMITS)
        return message, f"Write {count}: 1 for one answer, or {rate}: 1 for all answers."
    return message, f"Write {' and '.join(written)}."


def explain_renamed_type(word: object) -> tuple[str, str] | None:
    """Message and hint for a metric type that was renamed; None if it was not."""
    new = RENAMED_TYPES.get(str(word))
    return (f"unknown type `{word}`: renamed to `{new}` {_SINCE}", f"Write {new}.") if new else None


def with_current_names(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job that a run has stored, as plain values, under the current names."""
    found = dict(job)
    for section in ("prompt", "redact", "run"):
        if isinstance(values := job.get(section), Mapping):
            found[section] = _renamed(section, values)
    if isinstance(evaluate := job.get("evaluate"), Mapping):
        metrics = [metric_with_current_names(one) for one in evaluate.get("metrics") or ()]
        judges = [_renamed("evaluate.judges", one) for one in evaluate.get("judges") or ()]
        current = renamed_judge_metrics(judge["name"] for judge in judges)
        gates = [
            {**gate, "metric": current.get(metric, metric)}
            if (metric := gate.get("metric")) is not None
            else gate
            for gate in evaluate.get("gates") or ()
        ]
        found["evaluate"] = {**evaluate, "metrics": metrics, "judges": judges, "gates": gates}
    return found


def renamed_judge_metrics(judges: Iterable[str]) -> dict[str, str]:
    """The current names of renamed metrics, by the old ones, for judges with these names."""
    pairs = _RENAMED_JUDGE_METRICS.items()
    return {judge + old: judge + new for judge in judges for old, new in pairs}


def metric_with_current_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a metric that a run has stored, under the current names. The metric keeps its own name."""
    old = options["type"]
    new = RENAMED_TYPES.get(old, old)
    found = {**_renamed(f"evaluate.metrics.{new}", options), "type": new}
    return found if new == old else {**found, "name": options.get("name") or old}


def metric_with_names_of_0_1(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a metric under the names of version 0.1, so that scores of 0.1 have the same fingerprint."""
    prefix = f"evaluate.metrics.{options['type']}."
    old = {
        rename.names[0]: (key.removeprefix(prefix), rename)
        for key, rename in RENAMED_KEYS.items()
        if key.startswith(prefix)
    }
    found = {}
    for key, value in options.items():
        name, rename = old.get(key, (key, Rename((key,))))
        found[name] = rename.restore(value)
    types = {new: word for word, new in RENAMED_TYPES.items()}
    return {**found, "type": types.get(options["type"], options["type"])}


def _renamed(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        rename = RENAMED_KEYS.get(f"{section}.{key}")
        if rename is None:
            found[key] = value
        else:
            found |= rename.convert(value) or {rename.names[0]: value}
    return found
