"""Which OpenVINO GenAI is installed, without importing it."""

import re
from importlib.metadata import PackageNotFoundError, version

from batchgen.errors import ModelError

PACKAGE = "openvino-genai"
LEAST = (2026, 4)
"""Earlier versions draw all rows from one random generator, and change log-probabilities by penalties and temperature."""
_WANTED = f"{PACKAGE}>={'.'.join(map(str, LEAST))}"
INSTALL = f"In the environment of batchgen: pip install '{_WANTED}'."


def installed_version() -> str | None:
    """The version of the package; None if it is not installed."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def installation_problem() -> str | None:
    """What is wrong with the installation; None if nothing is."""
    found = installed_version()
    if found is None:
        return f"needs the package {PACKAGE}, which is not installed"
    numbers = tuple(map(int, re.findall(r"\d+", found)[:2]))
    if numbers < LEAST:
        return f"needs {_WANTED}; {found} is installed"
    return None


def require_openvino() -> str:
    """The installed version.

    Raises:
        ModelError: there is none, or it is too old.
    """
    if (problem := installation_problem()) is not None:
        raise ModelError(f"engine openvino {problem}", hint=INSTALL)
    return installed_version() or ""
