"""The packages that draw charts, of the extra `report`: imported when a report is written."""

import importlib
import importlib.util
from typing import Any

from batchgen.errors import DataError

_PACKAGES = {"altair": "altair", "vl_convert": "vl-convert-python"}
_HINT = "Run in batchgen's folder: pip install -e '.[report]'."


def require_chart_package(module: str) -> Any:  # noqa: ANN401  # a module
    """Import one of them. DataError if it is not installed."""
    check_chart_packages()
    return importlib.import_module(module)


def check_chart_packages(*, needed: bool = True) -> None:
    """Raise DataError if one of them is needed and not installed; imports none."""
    missing = [name for module, name in _PACKAGES.items() if not importlib.util.find_spec(module)]
    if needed and missing:
        raise DataError(
            f"the report needs the packages {', '.join(missing)}, which are not installed",
            hint=_HINT,
        )
