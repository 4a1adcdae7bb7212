"""The role of each key of a job (see `Role`), read from the annotations of the sections."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from batchgen.job.spec import Job
from batchgen.section import Role

_NEW_KEYS = frozenset({"cross", "turns", "per_turn", "replay"})
"""Keys that earlier versions did not have: without a value they are in no record, so that their runs have the same settings."""


def roles() -> Mapping[str, Role]:
    """The role of each key that has a value of its own, by dotted name. Items of lists are one value."""
    return dict(_roles(Job, "", Role.GENERATION))


def settings_of(job: Job, role: Role) -> dict[str, Any]:
    """The settings of one role, as nested plain values: section, key, value."""
    return _settings(job, role, Role.GENERATION)


def _roles(section: type[BaseModel], outer: str, inherited: Role) -> Iterator[tuple[str, Role]]:
    for name, field in section.model_fields.items():
        key, role = f"{outer}{field.alias or name}", _role(field, inherited)
        alternatives = () if get_origin(field.annotation) is tuple else get_args(field.annotation)
        kinds = (k for k in (field.annotation, *alternatives) if isinstance(k, type))
        inner = next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
        if inner is None:
            yield key, role
        else:
            yield from _roles(inner, f"{key}.", role)


def _settings(section: BaseModel, wanted: Role, inherited: Role) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value, key, role = getattr(section, name), field.alias or name, _role(field, inherited)
        if isinstance(value, BaseModel):
            if inner := _settings(value, wanted, role):
                found[key] = inner
        elif role == wanted and not (value is None and key in _NEW_KEYS):
            found[key] = _plain(value)
    return found


def _role(field: FieldInfo, inherited: Role) -> Role:
    return next((one for one in field.metadata if isinstance(one, Role)), inherited)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value of a job
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
