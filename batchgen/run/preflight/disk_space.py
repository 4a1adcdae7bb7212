"""Estimate the disk space that a run needs, before a model is loaded."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ResourceError
from batchgen.progress import Reporter

BYTES_PER_TOKEN = 5
"""Upper bound of a token as text; Parquet compresses it to about a third."""
BYTES_PER_ROW = 200
"""Keys, hashes, seed and times of a row, compressed."""
BYTES_OF_STATE = 8 << 20
"""Upper bound of the journal and its log, with short answers."""
COPIES = 2
"""Sealed parts exist until the published file is complete."""


@dataclass(frozen=True, slots=True)
class SpaceEstimate:
    """Bytes that a run writes: at least, and at most, if every answer has the maximum length."""

    least: int
    most: int


def estimate_space(rows: int, *, new_tokens: int, input_bytes: int) -> SpaceEstimate:
    """Estimate the bytes of `rows` output rows; `input_bytes` of input are kept, and repeated in the prompts."""
    least = COPIES * rows * BYTES_PER_ROW + BYTES_OF_STATE
    texts = rows * new_tokens * BYTES_PER_TOKEN + 2 * input_bytes
    return SpaceEstimate(least, least + COPIES * texts)


def check_disk_space(folder: Path, needed: SpaceEstimate, reporter: Reporter) -> None:
    """Warn if the free space may not suffice.

    Raises:
        ResourceError: there is less free space than the lower bound.
    """
    free = shutil.disk_usage(folder).free
    if free < needed.least:
        raise ResourceError(
            f"{folder} has {_megabytes(free)} free; the answers take at least {_megabytes(needed.least)}",
            hint="Free some space, or choose another disk with --output FOLDER.",
        )
    if free < needed.most:
        reporter.info(
            f"{folder} has {_megabytes(free)} free; answers of full length take up to {_megabytes(needed.most)}. "
            "If the disk gets full, the run stops and can be resumed."
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
