"""The size of what a template is about to make, for the operations with which a short cell makes gigabytes.

Sizes are characters, items or bits. Large widths are refused: widths belong in the template, not in the rows.
"""

import re
from collections.abc import Callable, Mapping, Sequence, Sized

from jinja2 import TemplateRuntimeError

from batchgen.prompts.templates.value_size import ITEM

WIDTH_LIMIT = 10_000
"""Largest width, indentation, precision, number of slices or exponent."""
DIGITS_LIMIT = 20_000
"""Most bits of a whole number: somewhat more than Python converts to text."""
PADDING = frozenset(["batch", "center", "ljust", "rjust", "round", "slice", "to_bytes", "zfill"])
"""Methods and filters that add at most a width to the value."""
INDENTING = frozenset(["expandtabs", "indent", "tojson"])
"""Those that may add a width, or a text, for each character of the value."""


class RefusedError(TemplateRuntimeError):
    """A template does what it may not. The message contains no text of the row."""


def operator_size(
    operator: str, left: object, right: object, read: Callable[[object], None]
) -> int:
    """The size of `left operator right`; 0 if it cannot be large. `read` receives what must be read for it."""
    size = 0
    match operator, left, right:
        case ("**", int(), int()):
            size = left.bit_length() * _width(right)
            _refuse_digits(size)
        case ("*", int(), int()):
            size = left.bit_length() + right.bit_length()
            _refuse_digits(size)
        case (_, int(), int()):
            _refuse_digits(max(left.bit_length(), right.bit_length()))
        case ("*", Sequence(), int()):
            size = _copy_size(left) * right
        case ("*", int(), Sequence()):
            size = left * _copy_size(right)
        case ("+", Sequence(), Sequence()):
            size = _copy_size(left) + _copy_size(right)
        case ("%", str(), _):
            read(right)
            # Flags and widths follow % or, as in %(name)9d, a parenthesis.
            specs = re.findall(r"[%)][-+ #0-9.*]*", left)
            size = _format_size(left, specs, right if isinstance(right, tuple) else (right,))
    return size


def call_size(name: str, value: object, arguments: Sequence[object]) -> int:
    """The size of `value.name(*arguments)`, of the filter for a name that both have; 0 if it cannot be large.

    Value and arguments have been read, and a generator of items is a list.
    """
    if name in PADDING:
        return _widths(arguments)
    if name in INDENTING:
        widths = _widths(arguments) + sum(len(t) for t in arguments if isinstance(t, str))
        return widths * len(str(value)) if widths else 0
    size = _SIZES.get(name)
    return size(value, arguments) if size is not None else 0


def _format_call_size(value: object, arguments: Sequence[object]) -> int:
    text = str(value).replace("{{", "")
    nested = ["*"] if re.search(r"\{[^{}]*\{", text) else []
    return _format_size(text, re.findall(r"\{[^{}]*\}", text) + nested, arguments)


def _replace_size(value: object, arguments: Sequence[object]) -> int:
    if len(arguments) < 2:
        return 0
    text, old, new = str(value), str(arguments[0]), str(arguments[1])
    return len(text) + text.count(old) * len(new)


def _join_size(value: object, arguments: Sequence[object]) -> int:
    items = arguments[0] if arguments else ()
    return len(str(value)) * (len(items) if isinstance(items, Sized) else 0)


def _translate_size(value: object, arguments: Sequence[object]) -> int:
    table = arguments[0] if arguments else {}
    texts = table.values() if isinstance(table, Mapping) else ()
    return len(str(value)) * max((len(str(text)) for text in texts), default=0)


def _codec_size(_value: object, arguments: Sequence[object]) -> int:
    # Codecs such as punycode take quadratic time.
    if arguments and str(arguments[0]).lower() not in ("utf-8", "utf8", "ascii"):
        raise RefusedError("only the encoding utf-8 is supported")
    return 0


def _striptags_size(value: object, _arguments: Sequence[object]) -> int:
    # Each comment is cut out of a copy of the whole text.
    text = str(value)
    return len(text) * text.count("<!--")


def _wordwrap_size(value: object, arguments: Sequence[object]) -> int:
    # A long word is cut at the width, and the rest of it is copied each time.
    longest = max(map(len, str(value).split()), default=0)
    given = [max(1, argument) for argument in arguments if type(argument) is int]
    return longest * longest // min(given, default=79)


_SIZES: Mapping[str, Callable[[object, Sequence[object]], int]] = {
    "format": _format_call_size,
    "format_map": _format_call_size,
    "replace": _replace_size,
    "join": _join_size,
    "translate": _translate_size,
    "encode": _codec_size,
    "decode": _codec_size,
    "striptags": _striptags_size,
    "wordwrap": _wordwrap_size,
}


def _copy_size(value: Sequence[object]) -> int:
    return len(value) if isinstance(value, str | bytes) else ITEM * len(value)


def _refuse_digits(bits: int) -> None:
    if bits > DIGITS_LIMIT:
        raise RefusedError("a number has too many digits")


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


SIZED = PADDING | INDENTING | _SIZES.keys()
"""Methods and filters whose result, or whose work, may be larger than the value."""
