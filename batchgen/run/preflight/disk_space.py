"""Whether the disk has room for the answers, asked before a model is loaded. An estimate; the disk has the last word."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ResourceError

BYTES_PER_TOKEN = 5
"""Most that a token takes as text; Parquet packs it to about a third."""
BYTES_PER_ROW = 200
"""Keys, hashes, seed and times of a row, packed."""
BYTES_OF_STATE = 8 << 20
"""The journal and its log, at most, with short answers."""
COPIES = 2
"""Sealed parts are there until the published file is whole."""


@dataclass(frozen=True, slots=True)
class SpaceEstimate:
    """What a run may write, in bytes: at least, and at most if every answer is as long as it may be."""

    least: int
    most: int


def estimate_space(rows: int, *, new_tokens: int, input_bytes: int) -> SpaceEstimate:
    """Estimate what `rows` output rows take; `input_bytes` of input are kept, and repeated in the prompts."""
    least = COPIES * rows * BYTES_PER_ROW + BYTES_OF_STATE
    texts = rows * new_tokens * BYTES_PER_TOKEN + 2 * input_bytes
    return SpaceEstimate(least, least + COPIES * texts)


def check_disk_space(folder: Path, needed: SpaceEstimate, say: Callable[[str], None]) -> None:
    """Say what may become too little; refuse what must.

    Raises:
        ResourceError: not even the least has room.
    """
    free = shutil.disk_usage(folder).free
    if free < needed.least:
        raise ResourceError(
            f"{folder} has {_megabytes(free)} free; the answers take at least {_megabytes(needed.least)}",
            hint="Free some space, or write elsewhere with --output FOLDER.",
        )
    if free < needed.most:
        say(
            f"{folder} has {_megabytes(free)} free; answers of full length take up to {_megabytes(needed.most)}. "
            "If it gets full, the run stops and can be gone on with."
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
