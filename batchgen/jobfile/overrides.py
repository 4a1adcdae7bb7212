"""`--set KEY=VALUE`: the top layer of a job.

VALUE is YAML, as in the file. Where only text is possible it needs no quotes, since the shell removes one pair.
"""

from collections.abc import Sequence
from dataclasses import replace

from batchgen.errors import Problem
from batchgen.jobfile.merge import MAIN_KEYS, SYNONYMS, canonicalize, merge_layers
from batchgen.jobfile.messages.expected_types import expected_at
from batchgen.jobfile.tree import COMMAND_LINE, Node, SourceLocation, map_nodes, parse_key
from batchgen.jobfile.yaml_reader import MAX_DEPTH, read_yaml


def parse_overrides(overrides: Sequence[str], file: str, problems: list[Problem]) -> Node:
    """The layer of all `--set`; later ones win. `file` is the job's name in messages."""
    layer = Node({}, SourceLocation(file), COMMAND_LINE)
    for given in overrides:
        key, _, value = given.partition("=")
        path = [step for step in parse_key(key.strip()) if isinstance(step, str)]
        problem = _override_problem(given, path)
        if problem is not None:
            problems.append(problem)
            continue
        node = _override_node(value, path, file, problems)
        for step in reversed(path):
            node = Node({step: node}, SourceLocation(file), COMMAND_LINE)
        layer = merge_layers(layer, canonicalize(node, problems))
    return layer


def _override_problem(given: str, path: Sequence[str]) -> Problem | None:
    key, equals, value = given.partition("=")
    if not equals or not path or ".".join(path) != key.strip() or len(path) > MAX_DEPTH:
        message = f"--set {given[:80]}: expected KEY=VALUE with a key such as decoding.temperature"
        return Problem("", message, "Set lists as a whole: KEY=[a, b].")
    if path[0] in ("extends", "profiles"):
        return Problem(path[0], "not allowed in --set", "Write it in the job file.")
    if path[0] == "matrix" and len(path) > 1:
        hint = "Write --matrix KEY=[VALUE, ...]; --set matrix=null leaves the matrix of the job file out."
        return Problem(key, "not allowed in --set", hint)
    if any("\ud800" <= c <= "\udfff" or c == "\0" for c in value):
        return Problem(key, "not UTF-8 text (given by --set)", "Use a text that is UTF-8.")
    return None


def _override_node(text: str, path: Sequence[str], file: str, problems: list[Problem]) -> Node:
    expected = expected_at(canonical_path(path))
    text_meant = expected is not None and expected.means_text
    is_section = len(path) == 1 and path[0] in MAIN_KEYS
    only_text = expected is not None and text_meant and expected.item is None and not is_section
    reading = read_yaml(text, file=file, origin=COMMAND_LINE)
    top = reading.top or Node(None, SourceLocation(file), COMMAND_LINE)
    quoted = isinstance(top.value, str) and text.lstrip()[:1] in ("'", '"')
    unset = top.value is None and not reading.problems
    if (only_text and not quoted and not unset) or (text_meant and reading.problems):
        top = replace(top, value=text)
    elif reading.problems:
        problem = reading.problems[0]
        message = f"{problem.message} (given by --set)"
        problems.append(Problem(".".join(path), message, problem.hint))
    return map_nodes(top, lambda node: replace(node, location=SourceLocation(file)))


def canonical_path(path: Sequence[str]) -> tuple[str, ...]:
    """The path in the schema: `model` means `model.path`, and synonyms are replaced."""
    if len(path) == 1 and path[0] in MAIN_KEYS:
        return (path[0], MAIN_KEYS[path[0]])
    if len(path) > 1 and path[0] == "decoding":
        return (path[0], SYNONYMS.get(path[1], path[1]), *path[2:])
    return tuple(path)


def literal_override(key: str, text: str) -> str:
    """A setting whose value is exactly this text, including quotes, `${` and blanks."""
    return f"{key}='{text.replace('${', '$${').replace(chr(39), chr(39) * 2)}'"
