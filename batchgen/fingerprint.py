"""The hash of a set of settings, and the differences of two sets. Settings are nested mappings of plain values."""

import datetime as dt
import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from pathlib import PurePath


class Absent(Enum):
    """A setting that is missing, which differs from null."""

    ABSENT = "not set"


ABSENT = Absent.ABSENT
_MAX_SHOWN = 60
_BEFORE = 15
"""Maximum characters shown of a value, and how many of them before the first difference."""


@dataclass(frozen=True, slots=True)
class KeyDifference:
    """A setting that changed. `old` or `new` is `ABSENT` if it is missing."""

    key: str
    old: object
    new: object

    def __str__(self) -> str:
        """For example "decoding.temperature was 0.0, is 0.7". Long values are shortened, secrets are left out."""
        if self._secret:
            return f"{self.key} changed"
        old, new = self.shown
        return f"{self.key} was {old}, is {new}"

    @property
    def _secret(self) -> bool:
        return looks_secret(self.key.rpartition(".")[2])

    @property
    def shown(self) -> tuple[str, str]:
        """The old and the new value as text: long ones are shortened, those of a secret are masked."""
        if self._secret:
            return "***", "*** (changed)"
        old, new = _shown(self.old), _shown(self.new)
        if max(len(old), len(new)) > _MAX_SHOWN:
            same = takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))
            start = max(0, len(list(same)) - _BEFORE)
            old, new = _excerpt(old, start), _excerpt(new, start)
        return old, new


def fingerprint(settings: Mapping[str, object]) -> str:
    """SHA-256, in hex, of the settings as canonical JSON. The order of keys does not matter, nor list or tuple.

    Raises:
        TypeError: a value or key has no form in JSON.
        ValueError: a number is not finite.
    """
    return hashlib.sha256(_canonical(settings).encode("ascii")).hexdigest()


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[KeyDifference]:
    """The settings that differ, sorted by dotted key. Lists are compared as a whole."""
    before = dict(_flat(json.loads(_canonical(old))))
    after = dict(_flat(json.loads(_canonical(new))))
    return [
        KeyDifference(key, before.get(key, ABSENT), after.get(key, ABSENT))
        for key in sorted(before.keys() | after.keys())
        # True == 1 and 1 == 1.0 in Python, but not in a fingerprint.
        if _text(before.get(key, ABSENT)) != _text(after.get(key, ABSENT))
    ]


def _canonical(settings: object) -> str:
    return json.dumps(_plain(settings), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"a setting's key must be text, found {type(odd[0]).__name__}")
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, AbstractSet):
        return sorted((_plain(inner) for inner in value), key=_text)
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, PurePath):
        return str(value)
    return value.isoformat() if isinstance(value, dt.date) else value


def _flat(value: Mapping[str, object], outer: str = "") -> Iterator[tuple[str, object]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{outer}{key}.")
        else:
            yield f"{outer}{key}", inner


def _text(value: object) -> str:
    return "" if value is ABSENT else json.dumps(value, sort_keys=True)


def _shown(value: object) -> str:
    return value.value if isinstance(value, Absent) else json.dumps(value, ensure_ascii=False)


def _excerpt(text: str, start: int) -> str:
    if len(text) <= _MAX_SHOWN:
        return text
    shown = text[start : start + _MAX_SHOWN - 1]
    return ("…" if start else "") + shown + ("…" if start + len(shown) < len(text) else "")


_SECRET = re.compile(
    r"(?i)(^|[_-])(api_?key|access_?key|token|password|passwd|secret|credential)s?$"
)
_NOT_SECRET = re.compile(r"(?i)^(bos|eos|pad|unk|sep|cls|mask)_token$|^(max|min)_(\w+_)?tokens$")


def looks_secret(key: str) -> bool:
    """Whether a key names a secret: `api_key`, `hub_token`, `password`; but not `eos_token`, `max_new_tokens`."""
    return bool(_SECRET.search(key)) and not _NOT_SECRET.match(key)


def new_run_id() -> str:
    """A new id of a run. Ids sort by time."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
