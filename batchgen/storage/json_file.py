"""Reads the JSON files of a model, with a size limit and one clear error for each fault."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from batchgen.errors import ModelError

JSON_LIMIT = 64 << 20
"""Bytes; a tokenizer.json of 256,000 tokens has about 35 MB."""


def read_json(file: Path) -> Mapping[str, object]:
    """A JSON object from a file of a model.

    Raises:
        ModelError: missing, unreadable or too large, or not a JSON object; with file, line and column.
    """
    try:
        if file.stat().st_size > JSON_LIMIT:
            raise ModelError(
                f"{file}: {file.stat().st_size:,} bytes, expected at most {JSON_LIMIT:,}"
            )
        with file.open(encoding="utf-8") as opened:
            value = json.loads(opened.read(JSON_LIMIT))
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise ModelError(f"{file}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, or a number of thousands of digits
        raise ModelError(f"{file}: not JSON: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file}: expected a JSON object, found a {type(value).__name__}")
    return value


def leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """All scalars in a JSON value with their dotted keys; the items of a list share its key."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key)
    else:
        yield key, value
