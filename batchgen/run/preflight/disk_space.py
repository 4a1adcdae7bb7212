"""Estimate the disk space that a run needs, before a model is loaded."""

import shutil
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


def check_disk_space(
    folder: Path, rows: int, *, new_tokens: int, input_bytes: int, reporter: Reporter
) -> None:
    """Warn if `rows` output rows whose answers have the maximum length need more than the free space.

    `input_bytes` is the size of their input, which the output and the prompts repeat.

    Raises:
        ResourceError: even empty answers need more.
    """
    min_bytes = COPIES * rows * BYTES_PER_ROW + BYTES_OF_STATE
    max_bytes = min_bytes + COPIES * (rows * new_tokens * BYTES_PER_TOKEN + 2 * input_bytes)
    free = shutil.disk_usage(folder).free
    if free < min_bytes:
        raise ResourceError(
            f"{folder} has {_megabytes(free)} free; the answers take at least {_megabytes(min_bytes)}",
            hint="Free some space, or choose another disk with --output FOLDER.",
        )
    if free < max_bytes:
        reporter.info(
            f"{folder} has {_megabytes(free)} free; answers of full length take up to {_megabytes(max_bytes)}. "
            "If the disk gets full, the run stops and can be resumed."
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
