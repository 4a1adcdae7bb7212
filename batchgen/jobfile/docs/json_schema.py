"""The JSON schema of job files, for completion and checks in editors.

It also allows what only the loader accepts: synonyms, `extends`, `vars`, `profiles`, `matrix`, null for any key, and `${...}`
for any value. It does not check combinations of settings.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from batchgen.job.evaluate import Bins, Evaluate, Gate
from batchgen.job.judge import Judge
from batchgen.job.spec import Decoding, Job, ModelSpec, PromptMessage, PromptSpec
from batchgen.jobfile.merge import MAIN_KEYS, SYNONYMS
from batchgen.metrics.registry import METRIC_TYPES

_NULL = {"type": "null"}
_TEXT = {"type": "string", "minLength": 1}
_PLACEHOLDER = {"type": "string", "pattern": r"\$\{"}


def job_schema(engines: Iterable[str]) -> dict[str, Any]:
    """The schema, draft-07, as plain values ready for `json.dumps`; `engines` are the values of `model.engine`."""
    generated = Job.model_json_schema(ref_template="#/definitions/{model}")
    sections: dict[str, Any] = generated["$defs"]
    engine = sections[ModelSpec.__name__]["properties"]["engine"]
    engine["enum"] = list(engines)
    for name, section in sections.items():
        if name == PromptSpec.__name__:
            _loosen(section, [_NULL])
        elif name != PromptMessage.__name__:
            required = section.get("required", [])
            _loosen(section, [_NULL, _PLACEHOLDER])
            if name in (Bins.__name__, Judge.__name__):  # items of lists are whole
                section["required"] = required
    sections[Gate.__name__]["anyOf"] = [
        {"required": ["metric"]},
        {"required": ["drift", "max_p", "baseline"]},
    ]
    decoding = sections[Decoding.__name__]["properties"]
    for synonym, name in SYNONYMS.items():
        decoding[synonym] = {**decoding[name], "description": f"The same as {name}."}
    _metrics(sections, sections[Evaluate.__name__]["properties"]["metrics"])
    properties = _loosen({"properties": generated["properties"]}, [_NULL])["properties"]
    judge = sections[Judge.__name__]["properties"]
    for holder, section, key in (
        *((properties, section, key) for section, key in MAIN_KEYS.items()),
        (judge, "model", "path"),
    ):
        short = [_TEXT, {"type": "array", "items": _TEXT}] if section == "input" else [_TEXT]
        holder[section] = {
            "description": f"A mapping, or only its {key}.",
            "anyOf": [*short, *holder[section]["anyOf"]],
        }
    in_profile = {**properties, "vars": _VARIABLES, "matrix": _MATRIX}
    profile = {"type": "object", "additionalProperties": False, "properties": in_profile}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "urn:batchgen:job:v1",
        "title": "batchgen job",
        "type": "object",
        "additionalProperties": False,
        "properties": {"$schema": {"type": "string"}, **properties, **_LOADER_KEYS},
        # With a base file underneath, any part of a job may be left to it.
        "if": {"not": {"required": ["extends"]}},
        "then": _required(),
        "definitions": {**sections, "Profile": profile},
    }


def _loosen(section: dict[str, Any], extra: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Allow extra values for every key, and require no key, since layers may be partial."""
    section.pop("required", None)
    for name, value in section["properties"].items():
        described = {k: value[k] for k in ("description", "default") if value.get(k) is not None}
        other = ("title", "description", "default", "anyOf")
        rest = {k: v for k, v in value.items() if k not in other}
        allowed = value.get("anyOf", [rest])
        more = [one for one in extra if one not in allowed]
        if name == "stop_strings":
            more.append(_TEXT)
        section["properties"][name] = {**described, "anyOf": [*allowed, *more]}
    return section


def _metrics(sections: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Each metric is complete, chosen by its type; or its type alone, if no other key is required."""
    alone: list[str] = []
    for metric in METRIC_TYPES.values():
        fields = metric.options.model_fields.items()
        needed = [name for name, field in fields if field.is_required()]
        sections[metric.options.__name__]["required"] = ["type", *needed]
        if not needed:
            alone.append(metric.word)
    listed = next(one for one in metrics["anyOf"] if one.get("type") == "array")
    listed["items"] = {"anyOf": [*listed["items"]["oneOf"], {"enum": alone}]}


def _mapping_of(value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value}


_VARIABLES = {
    "description": "Values for ${vars.NAME}.",
    "anyOf": [_mapping_of({"type": ["string", "number", "boolean", "null"]}), _NULL],
}
_MATRIX = {
    "description": "Lists of values by key, such as decoding.temperature: a run for each combination.",
    "anyOf": [_mapping_of({"anyOf": [{"type": "array", "minItems": 1}, _NULL]}), _NULL],
}
_LOADER_KEYS = {
    "extends": {
        "description": "Base file or files, with lower priority.",
        "anyOf": [_TEXT, {"type": "array", "items": _TEXT}, _NULL],
    },
    "vars": _VARIABLES,
    "matrix": _MATRIX,
    "profiles": {
        "description": "Named settings that override those of the job: --profile NAME.",
        "anyOf": [_mapping_of({"anyOf": [{"$ref": "#/definitions/Profile"}, _NULL]}), _NULL],
    },
}


def _required() -> dict[str, Any]:
    """The required keys of a job without a base file, also inside sections."""
    within: dict[str, Any] = {}
    for name, field in Job.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys = [key for key, inner in section.model_fields.items() if inner.is_required()]
            if keys:
                within[name] = {"if": {"type": "object"}, "then": {"required": keys}}
    required = [name for name, field in Job.model_fields.items() if field.is_required()]
    return {"required": required, "properties": within}
