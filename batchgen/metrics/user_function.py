"""A user's own function as a metric: it gets an `Answer` and returns a number, true or false, or None.

An exception in it is an error of that row. The score has its type, not its message, which may repeat text of the row.
"""

import hashlib
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from batchgen.errors import DataError
from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, unscored
from batchgen.records import Score
from batchgen.section import NonEmptyText


class PythonOptions(MetricOptions):
    """A function of yours: given an answer (`batchgen.metrics.base.Answer`), it returns a number, or None for "no score"."""

    type: Literal["python"] = "python"
    function: NonEmptyText
    """`module:function`; with `file`, the function's name alone."""
    file: NonEmptyText | None = None
    """Python file with the function, relative to the job file."""
    unit: Literal["fraction", "count", "score"] = "score"
    """fraction: from 0 to 1."""
    direction: Literal["higher", "lower", "neither"] = "higher"
    """Which values are better, for comparisons."""

    @model_validator(mode="after")
    def _module_or_file(self) -> Self:
        if self.file is None and not all(self.function.partition(":")[::2]):
            raise ValueError("function: expected module:function, or file and the function's name")
        return self


@dataclass(frozen=True, slots=True)
class UserFunction:
    """What the function returns for each answer. It is not called for rows without a response."""

    spec: Spec
    function: Callable[[Answer], object]

    def score(self, answer: Answer) -> Score:
        try:
            value = self.function(answer)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code: any exception is an error of the row
            return unscored(self.spec, "error", type(error).__name__)
        if value is None:
            return unscored(self.spec, "skipped")
        number = _finite(value)
        if number is None:
            return unscored(self.spec, "error", f"returned {type(value).__name__}")
        return Score(self.spec.name, number, "ok")


def _finite(value: object) -> float | None:
    """The value as a number; None if it is not a number, or not finite."""
    if not isinstance(value, int | float | np.integer | np.floating | np.bool_):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


_LOADED: ContextVar[dict[Path, ModuleType | DataError]] = ContextVar("_LOADED")


@contextmanager
def one_execution_per_file() -> Iterator[None]:
    """In this block a user's file is executed once, even if several metrics name it."""
    token = _LOADED.set({})
    try:
        yield
    finally:
        _LOADED.reset(token)


def _from_file(file: Path) -> ModuleType:
    loaded = _LOADED.get({})
    if file not in loaded:
        try:
            loaded[file] = _execute(file)
        except DataError as error:
            loaded[file] = error
    found = loaded[file]
    if isinstance(found, DataError):
        raise found
    return found


def _execute(file: Path) -> ModuleType:
    try:
        file.read_bytes()
    except OSError as error:
        message = f"{file}: cannot be read: {error.strerror}"
        raise DataError(message, hint="Give the path of a Python file.") from error
    name = f"batchgen_user_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise DataError(f"{file}: is not a Python file", hint="Give a file whose name ends in .py.")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise DataError(
            f"{file}: cannot be imported: {type(error).__name__}: {error}",
            hint=f"Correct it; `python {file}` shows the line.",
        ) from error
    return module


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise DataError(
            f"module {name!r} cannot be imported: {type(error).__name__}: {error}",
            hint="For a file next to the job, set `file`.",
        ) from error


def _python(spec: Spec, options: PythonOptions) -> UserFunction:
    """Load the function. The signature is its name and the hash of its file."""
    module_name, _, name = options.function.rpartition(":")
    file = Path(options.file) if options.file else None
    module = _from_file(file) if file is not None else _imported(module_name)
    function = getattr(module, name, None)
    if not callable(function):
        raise DataError(
            f"{file or module_name}: has no function {name!r}",
            hint="Set `function` to the name of a function in it.",
        )
    source = file if file is not None else getattr(module, "__file__", None)
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
    spec = replace(
        spec,
        unit=options.unit,
        higher_is_better={"higher": True, "lower": False, "neither": None}[options.direction],
        signature=f"{name}|sha256:{digest}",
    )
    return UserFunction(spec, function)


PYTHON = MetricType(PythonOptions, _python, unit="score")
