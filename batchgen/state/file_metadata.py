"""The Parquet metadata of published files: JSON with the origin of the answers."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

METADATA_KEY = "batchgen"


def file_metadata(content: Mapping[str, object]) -> dict[str, str]:
    """The Parquet key-value metadata of every published file of a run."""
    return {METADATA_KEY: json.dumps(content, ensure_ascii=False, sort_keys=True)}


def file_metadata_of(schema: pa.Schema) -> dict[str, Any]:
    """The content given to `file_metadata`; empty if batchgen did not write the file. ValueError if it is not JSON."""
    metadata = schema.metadata or {}
    content: dict[str, Any] = json.loads(metadata.get(METADATA_KEY.encode(), b"{}"))
    return content
