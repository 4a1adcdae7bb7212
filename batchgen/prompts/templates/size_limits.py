"""The size of what a template is about to make, for the operations with which a short cell makes gigabytes.

Sizes are characters, items or bits. Large widths are refused: widths belong in the template, not in the rows.
"""

import re
from collections.abc import Sequence, Sized

from jinja2 import TemplateRuntimeError

WIDTH_LIMIT = 10_000
"""Largest width, indentation, precision, number of slices or exponent."""
ITEMS_GUESS = 100_000
"""Items of a generator, whose number is not known; the sandbox's `range` makes at most as many."""
PADDING = frozenset(["batch", "center", "ljust", "rjust", "round", "slice", "to_bytes", "zfill"])
"""Methods and filters that add at most a width to the value."""
INDENTING = frozenset(["expandtabs", "indent", "tojson"])
"""Those that may add a width, or a text, for each character of the value."""
SIZED = PADDING | INDENTING | {"format", "format_map", "join", "replace"}


class RefusedError(TemplateRuntimeError):
    """A template does what it may not. The message contains no text of the row."""


def operator_size(operator: str, left: object, right: object) -> int:
    """The size of `left operator right`; 0 if it cannot be large."""
    size = 0
    match operator, left, right:
        case ("**", int(), int()):
            size = left.bit_length() * _width(right)
        case ("*", Sequence(), int()):
            size = len(left) * right
        case ("*", int(), Sequence()):
            size = left * len(right)
        case ("+", Sequence(), Sequence()):
            size = len(left) + len(right)
        case ("%", str(), _):
            # Flags and widths follow % or, as in %(name)9d, a parenthesis.
            specs = re.findall(r"[%)][-+ #0-9.*]*", left)
            size = _format_size(left, specs, right if isinstance(right, tuple) else (right,))
    return size


def call_size(name: str, value: object, arguments: Sequence[object]) -> int:
    """The size of `value.name(*arguments)`, of the filter for a name that both have; 0 if it cannot be large."""
    size = 0
    match name, value, arguments:
        case ("format" | "format_map", str(), _):
            text = value.replace("{{", "")
            nested = ["*"] if re.search(r"\{[^{}]*\{", text) else []
            size = _format_size(text, re.findall(r"\{[^{}]*\}", text) + nested, arguments)
        case ("replace", _, [old, new, *_]):
            text = str(value)
            size = len(text) + text.count(str(old)) * len(str(new))
        case ("join", str(), [items, *_]):
            size = len(value) * (len(items) if isinstance(items, Sized) else ITEMS_GUESS)
        case _ if name in PADDING:
            size = _widths(arguments)
        case _ if name in INDENTING:
            widths = _widths(arguments) + sum(len(t) for t in arguments if isinstance(t, str))
            size = widths * len(str(value)) if widths else 0
    return size


def _widths(arguments: Sequence[object]) -> int:
    return sum(_width(number) for number in arguments if isinstance(number, int))


def _format_size(text: str, specs: Sequence[str], arguments: Sequence[object]) -> int:
    if any("*" in spec for spec in specs):
        raise RefusedError("a format takes a width from a value")
    widths = (_width(int(digits)) for spec in specs for digits in re.findall("[0-9]+", spec))
    longest = max((len(str(argument)) for argument in arguments), default=0)
    return len(text) + sum(widths) + len(specs) * longest


def _width(width: int) -> int:
    if width > WIDTH_LIMIT:
        raise RefusedError(f"a width or exponent is larger than {WIDTH_LIMIT:,}")
    return width
