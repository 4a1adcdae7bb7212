"""The layers of a job become one tree: base files, the job, a profile, `--set`, each over the one before.

Mappings merge, everything else replaces, null unsets. Synonyms and short forms become the canonical ones first, so
that any spelling overrides any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from batchgen.errors import Problem
from batchgen.job.tree import COMMAND_LINE, PROFILE, Node, Place, children, dotted, parsed
from batchgen.job.types import expected_at
from batchgen.job.yaml_reader import read_yaml

SYNONYMS: Mapping[str, str] = {
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "n": "num_return_sequences",
    "stop": "stop_strings",
}
"""Other tools' names for keys of `decoding`."""


def merge(below: Node, above: Node) -> Node:
    """What `above` says, and what `below` says where `above` is silent.

    A section that a profile or `--set` adds to stays where the file has it: that is where a missing key is missed.
    """
    if not (isinstance(below.value, Mapping) and isinstance(above.value, Mapping)):
        return above
    entries = dict(below.value)
    for key, node in above.value.items():
        entries[key] = merge(entries[key], node) if key in entries else node
    added = above.origin == COMMAND_LINE or above.origin.startswith(PROFILE)
    return replace(below if added else above, value=entries)


def relabelled(node: Node, origin: str) -> Node:
    """The same tree, from elsewhere: a profile's entries, once the profile is chosen."""
    value = node.value
    if isinstance(value, Mapping):
        value = {key: relabelled(child, origin) for key, child in value.items()}
    elif isinstance(value, tuple):
        value = tuple(relabelled(child, origin) for child in value)
    return Node(value, node.place, origin, node.raw)


def canonical(layer: Node, problems: list[Problem], prefix: str = "") -> Node:
    """A layer with GenerationConfig's names and `model: PATH` written out; a setting given twice is a problem."""
    entries = dict(children(layer))
    if "decoding" in entries:
        entries["decoding"] = _canonical_decoding(entries["decoding"], problems, prefix)
    model = entries.get("model")
    if model is not None and isinstance(model.value, str):
        entries["model"] = Node({"path": model}, model.place, model.origin)
    profiles = entries.get("profiles")
    if profiles is not None and isinstance(profiles.value, Mapping) and not prefix:
        named = {
            name: canonical(profile, problems, f"profiles.{name}.")
            for name, profile in profiles.value.items()
            if isinstance(profile.value, Mapping)
        }
        named = {**profiles.value, **named}
        entries["profiles"] = Node(named, profiles.place, profiles.origin)
    return Node(entries, layer.place, layer.origin)


def command_line(sets: Sequence[str], file: str, problems: list[Problem]) -> Node:
    """The layer of `--set KEY=VALUE`. VALUE is YAML; where text is expected it needs no quotes."""
    layer = Node({}, Place(file), COMMAND_LINE)
    for given in sets:
        key, equals, value = given.partition("=")
        path = [step for step in parsed(key.strip()) if isinstance(step, str)]
        if not equals or ".".join(path) != key.strip() or not path:
            message = f"--set {given[:80]}: not KEY=VALUE with a key such as decoding.temperature"
            problems.append(Problem("", message, "lists are set as a whole: KEY=[a, b]"))
            continue
        if any("\ud800" <= c <= "\udfff" or c == "\0" for c in value):
            problems.append(
                Problem(key, "not UTF-8 text (given by --set)", "set it in the job file")
            )
            continue
        if path[0] in ("extends", "profiles"):
            message = "cannot be given by --set"
            problems.append(Problem(path[0], message, "write it into the job file", file=file))
            continue
        node = _given(value, path, file, problems)
        for step in reversed(path):
            node = Node({step: node}, Place(file), COMMAND_LINE)
        layer = merge(layer, canonical(node, problems))
    return layer


def _canonical_decoding(section: Node, problems: list[Problem], prefix: str) -> Node:
    if not isinstance(section.value, Mapping):
        return section
    entries: dict[str, Node] = {}
    written: dict[str, str] = {}
    for key, node in section.value.items():
        name = SYNONYMS.get(key, key)
        if name in entries:
            where = f"{prefix}decoding.{key}"
            message = f"given together with {written[name]}, which means the same"
            place = node.place
            hint = f"keep {name}"
            problems.append(Problem(where, message, hint, place.line, place.column, place.file))
        entries[name] = node
        written.setdefault(name, key)
    return Node(entries, section.place, section.origin)


def _given(text: str, path: Sequence[str], file: str, problems: list[Problem]) -> Node:
    """VALUE as a node. Where nothing but text can be meant, it is taken as it stands, unless it is quoted."""
    expected = expected_at(_canonical_path(path))
    text_meant = expected is not None and expected.means_text
    only_text = expected is not None and text_meant and expected.item is None and path != ["model"]
    reading = read_yaml(text, file=file, origin=COMMAND_LINE)
    value = reading.top.value if reading.top is not None else None
    quoted = isinstance(value, str) and text.lstrip()[:1] in ("'", '"')
    unset = value is None and not reading.problems
    if (only_text and not quoted and not unset) or (text_meant and reading.problems):
        value = text
    elif reading.problems:
        problem = reading.problems[0]
        message = f"{problem.message} (given by --set)"
        problems.append(Problem(dotted(tuple(path)), message, problem.hint, file=file))
    return _without_places(Node(value, Place(file), COMMAND_LINE))


def _canonical_path(path: Sequence[str]) -> tuple[str, ...]:
    if list(path) == ["model"]:
        return ("model", "path")
    return tuple(
        SYNONYMS.get(s, s) if path[0] == "decoding" and i == 1 else s for i, s in enumerate(path)
    )


def _without_places(node: Node) -> Node:
    value = node.value
    if isinstance(value, Mapping):
        value = {key: _without_places(child) for key, child in value.items()}
    elif isinstance(value, tuple):
        value = tuple(_without_places(child) for child in value)
    return Node(value, Place(node.place.file), node.origin)
