"""A process in which only torch, transformers, numpy, pydantic, pytest and what these require can be imported.

usage: python tests/gpu/bare_machine.py MODULE [ARGUMENTS]     runs the module as `python -m` does
"""

import runpy
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from typing import Any

from packaging.requirements import Requirement

ROOTS = ("torch", "transformers", "numpy", "pydantic", "pytest")


def required_packages(roots: Iterable[str]) -> set[str]:
    """The packages and everything that they require."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        try:
            needs = [Requirement(line) for line in requires(name) or ()]
        except PackageNotFoundError:
            continue
        waiting += [n.name for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})]
    return found


def hidden_modules() -> set[str]:
    """Installed modules that such a machine lacks."""
    allowed = required_packages(ROOTS)
    return {
        module
        for module, owners in packages_distributions().items()
        if not any(owner.lower().replace("_", "-") in allowed for owner in owners)
    } - {"batchgen"}


def hide_modules(names: set[str]) -> None:
    """Make imports of these modules fail as if they were not installed."""
    finder: Any = PathFinder
    original = finder.find_spec

    # As the original, a method of the class: pytest keeps it as an attribute of its own finder.
    def find_spec(_finder: object, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] in names else original(name, path, target)

    finder.find_spec = classmethod(find_spec)


if __name__ == "__main__":
    hide_modules(hidden_modules())
    sys.argv = sys.argv[1:]
    sys.path[0] = ""
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
