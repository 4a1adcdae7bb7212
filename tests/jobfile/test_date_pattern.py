"""Patterns of the output folders of all days."""

from pathlib import PurePosixPath

import pytest

from batchgen.jobfile.date_pattern import date_pattern


@pytest.mark.parametrize(
    ("written", "path", "pattern"),
    [
        ("out/replies", "/data/out/replies", None),
        ("out/${date}", "/data/out/2026-11-30", "*"),
        ("out/${date}/", "/data/out/2026-11-30", "*"),
        ("${date-1d}", "/data/2026-11-29", "*"),
        ("out/night-${date:%Y%m%d}.b", "/data/out/night-20261130.b", "night-*.b"),
        ("${date:%Y}/${date:%m-%d}/replies", "/data/2026/11-30/replies", "*/*/replies"),
        ("out/${date-1w:%Y/%m}/x", "/data/out/2026/11/x", "*/*/x"),
        ("${env:OUT}/${date}/${name}", "/any/where/2026-11-30/job", "*/job"),
        ("out/${name}-${date}", "/data/out/job-2026-11-30", "*-*"),
        ("out/[a]${date}/b*", "/data/out/[a]2026-11-30/b*", "[[]a]*/b[*]"),
    ],
)
def test_patterns(written: str, path: str, pattern: str | None) -> None:
    assert date_pattern(written, PurePosixPath(path)) == pattern
