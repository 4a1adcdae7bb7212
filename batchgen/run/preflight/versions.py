"""Versions of Python and of the libraries that influence the answers."""

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

_RECORDED = ("batchgen-llm", "torch", "transformers", "tokenizers", "pyarrow", "polars")


def installed_versions() -> dict[str, str | None]:
    """Those for the manifest; None for a package without metadata, such as a checkout on PYTHONPATH."""
    found: dict[str, str | None] = {"python": platform.python_version()} | dict.fromkeys(_RECORDED)
    for name in _RECORDED:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
