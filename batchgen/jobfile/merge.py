"""Merging of the layers of a job: base files, the job, a profile, `--set`, each over the one before.

Mappings are merged, other values are replaced, null unsets. Synonyms and short forms are made canonical first, so that
any spelling overrides any other.
"""

from collections.abc import Mapping
from dataclasses import replace

from batchgen.errors import Problem
from batchgen.jobfile.tree import ADDED_ORIGINS, PROFILE, Node, children, problem_at

SYNONYMS: Mapping[str, str] = {
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "n": "num_return_sequences",
    "stop": "stop_strings",
}
"""Other tools' names for keys of `decoding`."""

MAIN_KEYS: Mapping[str, str] = {
    "input": "path",
    "prompt": "user",
    "model": "path",
    "output": "path",
}
"""The key of a section that is meant when a text, or a list of files, stands in its place."""


def merge_layers(below: Node, above: Node) -> Node:
    """The values of `above`, and those of `below` for other keys.

    A section that a profile, `--set` or a combination of a matrix extends keeps its location in the file, where missing keys are reported.
    """
    if not (isinstance(below.value, Mapping) and isinstance(above.value, Mapping)):
        return above
    entries = dict(below.value)
    for key, node in above.value.items():
        entries[key] = merge_layers(entries[key], node) if key in entries else node
    added = above.origin in ADDED_ORIGINS or above.origin.startswith(PROFILE)
    return replace(below if added else above, value=entries)


def canonicalize(layer: Node, problems: list[Problem], prefix: str = "") -> Node:
    """A layer with the names of GenerationConfig and with `model: PATH` and the like as sections.

    Duplicate settings are problems.
    """
    entries = dict(children(layer))
    if "decoding" in entries:
        entries["decoding"] = _canonical_decoding(entries["decoding"], problems, prefix)
    for section, key in MAIN_KEYS.items():
        entries = _with_section(entries, section, key)
    evaluate = entries.get("evaluate")
    judges = children(evaluate).get("judges") if evaluate is not None else None
    if evaluate is not None and judges is not None and isinstance(judges.value, tuple):
        items = tuple(
            replace(j, value=_with_section(children(j), "model", "path")) if children(j) else j
            for j in judges.value
        )
        listed = {**children(evaluate), "judges": replace(judges, value=items)}
        entries["evaluate"] = replace(evaluate, value=listed)
    profiles = entries.get("profiles")
    if profiles is not None and isinstance(profiles.value, Mapping) and not prefix:
        named = {
            name: canonicalize(profile, problems, f"profiles.{name}.")
            for name, profile in profiles.value.items()
            if isinstance(profile.value, Mapping)
        }
        named = {**profiles.value, **named}
        entries["profiles"] = Node(named, profiles.location, profiles.origin)
    return Node(entries, layer.location, layer.origin)


def _with_section(entries: Mapping[str, Node], section: str, key: str) -> dict[str, Node]:
    """The entries with `section: VALUE` as a section with this key."""
    node = entries.get(section)
    if node is None or not _is_short(node, section):
        return dict(entries)
    return {**entries, section: Node({key: node}, node.location, node.origin)}


def _is_short(node: Node, section: str) -> bool:
    return isinstance(node.value, str) or (section == "input" and isinstance(node.value, tuple))


def _canonical_decoding(section: Node, problems: list[Problem], prefix: str) -> Node:
    if not isinstance(section.value, Mapping):
        return section
    entries: dict[str, Node] = {}
    written: dict[str, str] = {}
    for key, node in section.value.items():
        name = SYNONYMS.get(key, key)
        if name in entries:
            where = f"{prefix}decoding.{key}"
            message = f"given together with {written[name]}, which is the same setting"
            problems.append(problem_at(node, where, message, f"Keep {name}."))
        entries[name] = node
        written.setdefault(name, key)
    return Node(entries, section.location, section.origin)
