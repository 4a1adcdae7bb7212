"""A resolved job as YAML, each value with a comment that gives its origin. Loading it gives the same job.

Secrets are masked; one from the environment is written as `${env:...}`.
"""

import re
from collections.abc import Mapping

import yaml
from pydantic import BaseModel

from batchgen.fingerprint import looks_secret
from batchgen.job.spec import Job
from batchgen.jobfile.interpolate import escape
from batchgen.jobfile.messages.expected_types import expected_at, key_of
from batchgen.jobfile.tree import KeyPath, Node, child, dotted_key, find_node
from batchgen.jobfile.yaml_reader import FLOAT, INTEGER

MASK = "***"

_ONLY_ENVIRONMENT = re.compile(r"([^$]|\$\{env:[^}]*\})*")


def dump_job(job: Job, tree: Node, origins: Mapping[str, str], header: str) -> str:
    """The job as YAML, below a comment. `tree` is its source, which has the `${env:...}` texts."""
    return f"# {_comment(header)}\n" + "".join(_section(job, (), tree, origins))


def _section(
    section: BaseModel, path: KeyPath, tree: Node, origins: Mapping[str, str]
) -> list[str]:
    lines: list[str] = []
    indent = "  " * len(path)
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), key_of(name, field)
        here = (*path, key)
        if isinstance(value, BaseModel):
            lines += [f"{indent}{key}:\n", *_section(value, here, tree, origins)]
            continue
        written = _written(value, here, find_node(tree, here))
        text = yaml.dump(
            {key: written}, Dumper=_Dumper, allow_unicode=True, width=2**31 - 1, sort_keys=False
        )
        first, *rest = text.removesuffix("\n").split("\n")
        origin = _comment(origins.get(dotted_key(here), "default"))
        lines.append(f"{indent}{first}  # {origin}\n")
        lines += [f"{indent}{line}\n" if line else "\n" for line in rest]
    return lines


def _written(value: object, path: KeyPath, node: Node | None) -> object:
    """The value with secrets masked and `${` escaped."""
    if isinstance(value, Mapping):
        value = {
            key: v.model_dump(exclude_none=True) if isinstance(v, BaseModel) else v
            for key, v in value.items()
        }
    if isinstance(value, tuple):
        value = [v.model_dump(by_alias=True) if isinstance(v, BaseModel) else v for v in value]
    if path[0] != "prompt":
        value = _escaped(value)
    if looks_secret(str(path[-1])):
        return _hidden(value, node)
    expected = expected_at(path)
    if expected is not None and expected.is_free:
        return _masked(value, node)
    return value


def _escaped(value: object) -> object:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, Mapping):
        return {key: _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_escaped(inner) for inner in value)
    return value


def _masked(value: object, node: Node | None) -> object:
    if not isinstance(value, Mapping):
        return value
    return {
        key: (_hidden if looks_secret(key) else _masked)(inner, child(node, key) if node else None)
        for key, inner in value.items()
    }


def _hidden(value: object, node: Node | None) -> object:
    """A secret, masked. Numbers and booleans are not secrets."""
    if isinstance(value, Mapping):
        return {key: _hidden(v, child(node, key) if node else None) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner, None) for inner in value]
    if not isinstance(value, str):
        return value
    raw = node.raw if node is not None else ""
    return raw if raw and _ONLY_ENVIRONMENT.fullmatch(raw) else MASK


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as another type; never writes an anchor."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    if not re.search(r"[\n\x85\u2028\u2029]", text):
        return dumper.represent_scalar("tag:yaml.org,2002:str", text)
    as_block = _BLOCK.fullmatch(text) is not None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if as_block else '"')


def _list(dumper: _Dumper, items: list[object] | tuple[object, ...]) -> yaml.SequenceNode:
    flow = not any(isinstance(item, Mapping | list | tuple) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flow)


_BLOCK = re.compile(r"\S[^\r\x85\u2028\u2029\t]*\n?")
"""Text that every YAML reader reads unchanged from a block after |."""

_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
_Dumper.add_representer(tuple, _list)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", INTEGER, list("-+0123456789"))


def _comment(text: str) -> str:
    return text if text.isprintable() else repr(text)
