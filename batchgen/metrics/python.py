"""A user's own function as a metric: it is given an `Answer` and says a number, true or false, or None.

Its errors are those of the row: the type is kept, the message is not, since it may repeat text of the row.
"""

import hashlib
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from batchgen.errors import DataError
from batchgen.metrics.base import Answer, Spec, unscored
from batchgen.records import Score


@dataclass(frozen=True, slots=True)
class UserFunction:
    """What the function says about each answer. It is not asked about rows without a response."""

    spec: Spec
    function: Callable[[Answer], object]

    def score(self, answer: Answer) -> Score:
        """The function's number; None is "not scored"."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        try:
            value = self.function(answer)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code: whatever it raises is the row's
            return unscored(self.spec, "error", type(error).__name__)
        if value is None:
            return unscored(self.spec, "skipped")
        number = _finite(value)
        if number is None:
            return unscored(self.spec, "error", f"returned {type(value).__name__}")
        return Score(self.spec.name, number, "ok")


def _finite(value: object) -> float | None:
    """The value as a number; None if it is none, or none that a file of scores can hold."""
    if not isinstance(value, int | float | np.integer | np.floating | np.bool_):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def user_function(spec: Spec, entry: str, file: Path | None) -> UserFunction:
    """Load the function.

    Args:
        spec: of the metric; its signature becomes the hash of the file.
        entry: `module:function`; the function alone if there is a file.
        file: the Python file that holds it.

    Raises:
        DataError: if there is no such file, module or function, or importing it fails.
    """
    module_name, _, name = entry.rpartition(":")
    module = _from_file(file) if file is not None else _imported(module_name)
    function = getattr(module, name, None)
    place = str(file) if file is not None else module_name
    if not callable(function):
        raise DataError(f"{place}: has no function {name!r}", hint="entry names the function")
    source = file if file is not None else getattr(module, "__file__", None)
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
    return UserFunction(replace(spec, signature=f"{name}|sha256:{digest}"), function)


def _from_file(file: Path) -> ModuleType:
    name = f"batchgen_user_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise DataError(f"{file}: is no Python file", hint="its name must end in .py")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise DataError(f"{file}: cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise DataError(
            f"module {name!r} cannot be imported: {type(error).__name__}: {error}",
            hint="a file beside the job goes under file:",
        ) from error
