"""Names of folders, made from the values of a combination: `temperature-0.7_file-a.jinja`.

A name depends on its own values alone, so that a value can be added later and the other runs keep their folders. A value that
does not fit as it is (too long, other characters, a text such as '0.7' that is not the number) is shortened and gets a hash.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from batchgen.fingerprint import fingerprint
from batchgen.jobfile.matrix.axes import Axis
from batchgen.jobfile.tree import Node, scalar_text, to_python
from batchgen.jobfile.yaml_reader import resolve_scalar

_VALUE_BYTES = 40
_NAME_BYTES = 120
_HASH = 6


def combination_names(axes: Sequence[Axis], combinations: Sequence[Sequence[Node]]) -> list[str]:
    """The names of combinations, which are different also where a file system ignores case."""
    keys = _short_keys(axes)
    names = [_name(keys, values) for values in combinations]
    counts = Counter(name.casefold() for name in names)
    return [
        name if counts[name.casefold()] == 1 else _with_hash(name, _NAME_BYTES, _plain(values))
        for name, values in zip(names, combinations, strict=True)
    ]


def setting_text(value: object) -> str:
    """A value as messages and tables show it."""
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else scalar_text(value)  # type: ignore[arg-type]  # a scalar of YAML


def _short_keys(axes: Sequence[Axis]) -> list[str]:
    """The last step of each key; the whole key where two have the same last step."""
    last = [axis.key.rpartition(".")[2] for axis in axes]
    return [
        short if last.count(short) == 1 else axis.key
        for short, axis in zip(last, axes, strict=True)
    ]


def _name(keys: Sequence[str], values: Sequence[Node]) -> str:
    parts = [f"{_safe(key)}-{_value(value)}" for key, value in zip(keys, values, strict=True)]
    name = "_".join(parts)
    return (
        name if len(name.encode()) <= _NAME_BYTES else _with_hash(name, _NAME_BYTES, _plain(values))
    )


def _value(node: Node) -> str:
    value = to_python(node)
    text = setting_text(value)
    safe = _safe(text).strip("-.")
    exact = safe == text and resolve_scalar(text) == value and len(safe.encode()) <= _VALUE_BYTES
    return safe if exact else _with_hash(safe, _VALUE_BYTES, value)


def _safe(text: str) -> str:
    """The text with a dash for every run of characters that a name of a folder should not have."""
    composed = unicodedata.normalize("NFC", text)
    kept = "".join(
        c if c in "._-" or c.isalnum() or unicodedata.category(c)[0] == "M" else " "
        for c in composed
    )
    return "-".join(kept.split())


def _with_hash(text: str, most: int, value: object) -> str:
    digest = fingerprint({"value": value})[:_HASH]
    cut = text.encode()[: most - _HASH - 1].decode("utf-8", "ignore").rstrip("-._")
    return f"{cut}-{digest}" if cut else digest


def _plain(values: Sequence[Node]) -> list[object]:
    return [to_python(value) for value in values]
