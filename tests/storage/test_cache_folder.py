"""The location of the cache folder."""

import sys
from pathlib import Path

import pytest

from batchgen.errors import ModelError
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


def test_a_user_without_a_home_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("BATCHGEN_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ModelError, match="this user has no home folder") as caught:
        cache_folder()
    assert caught.value.hint == "Set BATCHGEN_CACHE to a writable folder."
