"""How much text, or how many items, an operator, a method or a filter is about to make: asked before it does.

Counted in characters, items or digits, never less than what comes out by much, and never by making it. A value of a row
may be a width or a pattern: these are what turns a short template into gigabytes. Knows nothing of templates.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized

MAX_ITEMS = 1_000_000


def operator_size(operator: str, left: object, right: object) -> int:
    """The size of `left operator right`; 0 where it cannot be large."""
    size = 0
    match operator, left, right:
        case "**", int(), int():
            size = left.bit_length() * right
        case ("*", str() | bytes() | list() | tuple(), int()):
            size = len(left) * right
        case ("*", int(), str() | bytes() | list() | tuple()):
            size = left * len(right)
        case ("+", str() | bytes() | list() | tuple(), str() | bytes() | list() | tuple()):
            size = len(left) + len(right)
        case ("%", str(), _):
            size = _formatted(left, right if isinstance(right, tuple) else (right,))
    return size


def call_size(function: object, arguments: Sequence[object], named: Mapping[str, object]) -> int:
    """The size of what a method of a text, bytes or number returns; 0 for everything else."""
    function = getattr(
        function, "__wrapped__", function
    )  # the sandbox has its own `format` around it
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if not isinstance(owner, str | bytes | int) or name not in _METHODS:
        return 0
    return _METHODS[name](owner, *arguments, *named.values())


def filter_size(name: str, arguments: Sequence[object], named: Mapping[str, object]) -> int:
    """The size of what one of `FILTERS` returns."""
    return _FILTERS[name](*arguments, *named.values())


def _formatted(text: str, arguments: Iterable[object]) -> int:
    """A text with widths in it, such as %9d or {:9}; * and nested braces take theirs from the arguments."""
    widths = [int(digits[:12]) for digits in re.findall(r"[0-9]+", text)]
    if "*" in text or re.search(r"\{[^}]*\{", text):
        widths += [value for value in arguments if isinstance(value, int)]
    return len(text) + sum(widths)


def _wide(value: object, width: object = 0, *_: object) -> int:
    return (width if isinstance(width, int) else 0) + _length(value)


def _expanded(value: object, width: object = 8, *_: object) -> int:
    tabs = value.count("\t") if isinstance(value, str) else 1
    return tabs * (width if isinstance(width, int) else 0)


def _indented(value: object, width: object = 4, *_: object) -> int:
    each = len(width) if isinstance(width, str) else width if isinstance(width, int) else 0
    return (str(value).count("\n") + 1) * each


def _replaced(value: object, old: object = "", new: object = "", *_: object) -> int:
    text = str(value)
    return len(text) + text.count(str(old)) * _length(new)


def _joined(between: object, items: object = (), *_: object) -> int:
    return _length(between) * (len(items) if isinstance(items, Sized) else MAX_ITEMS)


def _divided(_value: object, count: object = 0, *_: object) -> int:
    return count if isinstance(count, int) else 0


def _method_format(text: object, *arguments: object) -> int:
    return _formatted(str(text), arguments)


def _length(value: object) -> int:
    return len(value) if isinstance(value, Sized) else len(str(value)[:100])


_METHODS: Mapping[str, Callable[..., int]] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _wide),
    "to_bytes": _divided,
    "expandtabs": _expanded,
    "replace": _replaced,
    "join": _joined,
    "format": _method_format,
    "format_map": _method_format,
}
_FILTERS: Mapping[str, Callable[..., int]] = {
    "batch": _divided,
    "center": _wide,
    "format": _method_format,
    "indent": _indented,
    "join": lambda items, between="", *_: _joined(between, items),
    "replace": _replaced,
    "slice": _divided,
    "tojson": _divided,
}
FILTERS = tuple(_FILTERS)
"""Filters of Jinja2 whose result a small value can make large."""
