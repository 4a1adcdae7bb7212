"""The packages that serve the page, of the extra `review`."""

import importlib.util

from batchgen.errors import DataError

_PACKAGES = ("starlette", "uvicorn")


def check_review_packages() -> None:
    """Raise DataError if one of them is not installed; imports none."""
    missing = [name for name in _PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        raise DataError(
            f"the review page needs the packages {', '.join(missing)}, which are not installed",
            hint="Run in batchgen's folder: pip install -e '.[review]'. `--export FILE` needs none.",
        )
