"""Which keys of a job may vary in a matrix: those that decide answers, where the runs still answer the same rows."""

from collections.abc import Mapping, Sequence

from batchgen.jobfile.messages.expected_types import expected_at
from batchgen.jobfile.messages.hints import unknown_key_hint
from batchgen.jobfile.tree import MATRIX_OPTION, parse_key

_NO_EFFECT = "cannot vary: it decides no answer"
_SAME_ROWS = "cannot vary: the runs are compared row by row, over the same input"
_REFUSED: Mapping[str, tuple[str, str]] = {
    "input": (_SAME_ROWS, "Multiply rows with input.cross, or write a job for each input."),
    "output": (
        "cannot vary: each combination has a folder of its own below output.path",
        "Leave it out.",
    ),
    "evaluate": (
        "cannot vary: the runs are compared by the same scores",
        "List all metrics in evaluate.",
    ),
    "matrix": ("cannot vary: it is the matrix itself", "List its keys directly."),
    "batching": (_NO_EFFECT, "Set it once, in batching."),
    "name": (_NO_EFFECT, "Set it once: folders are named after the values that vary."),
    "description": (_NO_EFFECT, "Set it once."),
    "version": (_NO_EFFECT, "Set it once."),
    "extends": ("cannot vary", "List the keys that differ."),
    "profiles": ("cannot vary", "Choose a profile with --profile, or list the keys that differ."),
    "$schema": (_NO_EFFECT, "Set it once."),
    "run": (_NO_EFFECT, "Set it once; of run, only seed may vary."),
}
_ALLOWED_INSIDE = (
    ("input", "columns", "prompt"),
    ("input", "columns", "messages"),
    ("run", "seed"),
)
"""Keys that decide answers in sections that are refused."""


def key_problem(key: str, path: Sequence[str]) -> tuple[str, str] | None:
    """Why a key cannot vary, and what to do; None if it may."""
    if not path or ".".join(map(str, parse_key(key))) != key:
        return (
            "expected a key such as decoding.temperature",
            f"Write the key with dots; lists vary as a whole: {MATRIX_OPTION} 'KEY=[[a, b], [c]]'.",
        )
    if path[0] in _REFUSED and tuple(path) not in _ALLOWED_INSIDE:
        return _REFUSED[path[0]]
    return _variable_problem(path) if path[0] == "vars" else _unknown_key(path)


def _variable_problem(path: Sequence[str]) -> tuple[str, str] | None:
    if len(path) == 2:
        return None
    return "expected vars.NAME", "List the values of one variable: vars.NAME: [a, b]."


def _unknown_key(path: Sequence[str]) -> tuple[str, str] | None:
    for length in range(1, len(path) + 1):
        if expected_at(tuple(path[:length])) is None:
            return "unknown key", unknown_key_hint(tuple(path[:length]))
    return None
