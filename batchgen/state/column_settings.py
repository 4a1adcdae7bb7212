"""Views of a run's settings: without the columns of the output, which decide no answer, and with the dtype as computed."""

from collections.abc import Mapping
from typing import Any

_ADDED: Mapping[str, object] = {"parse": False, "choice_probabilities": "auto"}
"""Those that earlier versions did not have, and their defaults, which are not recorded."""
OUTPUT_COLUMNS = ("keep_columns", "store_prompt", *_ADDED, "prefix")
"""Keys of `output` that decide the columns of the output."""


def answer_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the settings that decides the answers: without the columns of the output."""
    output = {key: v for key, v in settings["output"].items() if key not in OUTPUT_COLUMNS}
    return {**settings, "output": output}


def with_columns_of(settings: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """These settings with the columns of the output that `other` has."""
    output = answer_settings(settings)["output"] | column_settings(other["output"])
    return {**settings, "output": output}


def column_settings(output: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `output` that decide the columns."""
    recorded = without_defaults(output)
    return {key: recorded[key] for key in OUTPUT_COLUMNS if key in recorded}


def without_defaults(output: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `output` without those that are not recorded."""
    return {
        key: value for key, value in output.items() if key not in _ADDED or value != _ADDED[key]
    }


def settings_as_computed(
    settings: Mapping[str, Any], engine: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The settings of a complete run with the dtype of its manifest's `engine`, where an earlier version recorded auto."""
    model = settings.get("model", {})
    if model.get("dtype") != "auto" or "dtype" not in engine:
        return settings
    return {**settings, "model": {**model, "dtype": engine["dtype"]}}
