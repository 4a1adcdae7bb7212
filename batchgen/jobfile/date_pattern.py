"""The folders that a path with `${date}` names on other days, as a glob pattern."""

import glob
import re
from pathlib import PurePath

_DATE = re.compile(r"\$\{date(?::?[-+][^:}]*)?(?::(?P<form>[^}]*))?\}")
_OTHER = re.compile(r"\$\{[^}]*\}")
_DAY = "\0"
"""A part of a name that differs from day to day; no path contains it."""


def date_pattern(written: str, path: PurePath) -> str | None:
    """The pattern of a path as written, such as `out/${date}/replies`, from its first folder with a date on: `*/replies`.

    `path` is the path on one day. None without a date.
    """
    names = _DATE.sub(_marked, written).rstrip("/").split("/")
    dated = [number for number, name in enumerate(names) if _DAY in name]
    if not dated:
        return None
    names = names[dated[0] :]
    pairs = zip(names, path.parts[-len(names) :], strict=True)
    return "/".join(_glob(name) if _DAY in name else glob.escape(own) for name, own in pairs)


def _marked(date: re.Match[str]) -> str:
    """A date with its folders; `%Y/%m` is of two."""
    form = date["form"] or "%Y-%m-%d"
    return "/".join(_DAY if "%" in name else name for name in form.split("/"))


def _glob(name: str) -> str:
    pieces = _OTHER.sub(_DAY, name).split(_DAY)
    return "*".join(map(glob.escape, pieces))
