"""Packages that only some metrics need: imported when a job uses such a metric."""

import importlib
from typing import Any

from batchgen.errors import DataError


def require_package(module: str, extra: str) -> Any:  # noqa: ANN401 - a module, whose attributes mypy cannot know
    """Import a module of an optional package, which the `extra` of batchgen installs.

    Raises:
        DataError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise DataError(
            f"a metric of this job needs the package {package}, which is not installed",
            hint=f"Run in batchgen's folder: pip install -e '.[{extra}]'.",
        ) from error
