"""Estimate the disk space that a run needs, before a model is loaded."""

import shutil
from pathlib import Path

from batchgen.errors import ResourceError
from batchgen.progress import Reporter
from batchgen.records import ResolvedDecoding

BYTES_PER_LOGPROB = 12
"""Upper bound of a log-probability with the id and text of its token; Parquet stores equal texts once."""
BYTES_PER_TOKEN = 5
"""Upper bound of a token as text; Parquet compresses it to about a third."""
LEAST_BYTES_PER_ROW = 24
"""Lower bound of a row: most of its columns may be the same in all rows, which Parquet compresses to nothing."""
MOST_BYTES_PER_ROW = 200
"""Upper bound of the keys, hashes, seed and times of a row, compressed."""
LEAST_BYTES_OF_STATE = 64 << 10
"""Lower bound of the small files of a run and of its journal."""
MOST_BYTES_OF_STATE = 8 << 20
"""Upper bound of the journal and its log, with short answers."""
COPIES = 2
"""Sealed parts exist until the published file is complete."""


def check_disk_space(
    folder: Path, rows: int, decoding: ResolvedDecoding, *, input_bytes: int, reporter: Reporter
) -> None:
    """Warn if `rows` output rows whose answers have the maximum length need more than the free space.

    `input_bytes` is the size of their input, which the output and the prompts repeat.

    Raises:
        ResourceError: even empty answers need more.
    """
    min_bytes = least_bytes(rows)
    top = decoding.top_logprobs
    per_token = BYTES_PER_TOKEN + (0 if top is None else (1 + top) * BYTES_PER_LOGPROB)
    most_per_row = MOST_BYTES_PER_ROW + decoding.max_new_tokens * per_token
    max_bytes = MOST_BYTES_OF_STATE + COPIES * (rows * most_per_row + 2 * input_bytes)
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


def least_bytes(rows: int) -> int:
    """Disk space that `rows` output rows need even with empty answers: a lower bound."""
    return COPIES * rows * LEAST_BYTES_PER_ROW + LEAST_BYTES_OF_STATE


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 10e6 else f"{size / 1e6:,.0f} MB"
