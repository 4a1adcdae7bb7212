"""The size of a value, as a template counts it: the work of reading all of it once.

Lists that share a list are counted as often as it is reached, because comparison, sorting and conversion to text do the
same. The search stops at a limit, so that it costs no more than that.
"""

from collections.abc import ItemsView, Iterable, Mapping, Sized, ValuesView
from itertools import chain

from jinja2.utils import Namespace

NODE = 50
"""Units of a container or of a value of an unusual type. A character is one unit, about a nanosecond."""
ITEM = 16
"""Units of an item of a list."""
_SMALL = frozenset([bool, float, int, type(None)])


def value_size(value: object, limit: int) -> int:
    """The units of a value; more than `limit` as soon as it is exceeded."""
    if isinstance(value, str | bytes):
        return len(value)
    size = 0
    waiting: list[object] = [value]
    while waiting and size <= limit:
        own, inner = _parts(waiting.pop())
        size += NODE + own
        if size <= limit:
            waiting.extend(inner)
    return size


def _parts(value: object) -> tuple[int, Iterable[object]]:
    """The units of a value itself, and the values in it that are counted on their own."""
    inner: Iterable[object] = ()
    match value:
        case str() | bytes():
            return len(value), ()
        case list() | tuple():
            kinds = set(map(type, value))
            if kinds == {str}:
                return ITEM * len(value) + sum(map(len, value)), ()
            inner = () if kinds <= _SMALL else value
        case Mapping():
            inner = chain(value.keys(), value.values())
        case ValuesView() | ItemsView():
            inner = value
        case Namespace():
            return 0, (value._Namespace__attrs,)
        case range():
            pass
        case _:
            return 0, ()
    return ITEM * len(value), inner


def shallow_size(value: object) -> int:
    """The units of copying a value without what its items contain."""
    if isinstance(value, str | bytes):
        return len(value)
    return NODE + (ITEM * len(value) if isinstance(value, Sized) else 0)
