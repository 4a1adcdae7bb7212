"""The location of the cache folder."""

import sys
from pathlib import Path

import pytest

from batchgen.storage.cache_folder import cache_folder


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"BATCHGEN_CACHE": "/data/batchgen"}, "/data/batchgen"),
        ({"BATCHGEN_CACHE": "~/models", "HOME": "/home/li"}, "/home/li/models"),
        ({"XDG_CACHE_HOME": "/data/cache"}, "/data/cache/batchgen"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/li"}, "/home/li/.cache/batchgen"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep caches elsewhere")
def test_cache_folder(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("BATCHGEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert cache_folder() == Path(expected)
