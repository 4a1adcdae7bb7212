"""A user's own function as a metric: it gets an `Answer` and returns a number, true or false, or None.

An exception in it, or a value that is not a number of its unit, is an error of that row: the score has file, line and
message. A run tries the function on one row before it generates an answer.
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
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, model_validator

from batchgen.errors import DataError
from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, unscored
from batchgen.metrics.statistics.intervals import ValueRange
from batchgen.metrics.user_errors import describe_error, place_of
from batchgen.records import Score
from batchgen.section import AsTuple, NonEmptyText


def _two_ends(ends: tuple[float, ...]) -> tuple[float, ...]:
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise ValueError("range must be the smallest and the largest value, such as [0, 10]")
    return ends


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
    range: Annotated[tuple[float, ...], AsTuple, AfterValidator(_two_ends)] | None = None
    """Smallest and largest possible value of unit count or score, such as [0, 10]. Left out: none, so that a comparison is undecided where scores are missing, or all differences are equal."""

    @model_validator(mode="after")
    def _range_has_an_effect(self) -> Self:
        if self.range is not None and self.unit == "fraction":
            raise ValueError("range has no effect with unit: fraction, whose range is 0 to 1")
        return self

    @model_validator(mode="after")
    def _module_or_file(self) -> Self:
        if self.file is None and not all(self.function.partition(":")[::2]):
            raise ValueError("function: expected module:function, or file and the function's name")
        return self


LARGEST = 1e100
"""Larger numbers have no variance in float64."""
_ROUNDING = 1e-9
"""Values outside a range by no more are rounded to its end."""


@dataclass(frozen=True, slots=True)
class CallProblem:
    """Why a call gave no score.

    Attributes:
        broken: whether no answer could have avoided it: a wrong name or type in the code, or a value outside the unit.
    """

    text: str
    broken: bool


@dataclass(frozen=True, slots=True)
class UserFunction:
    """What the function returns for each answer. It is not called for rows without a response. `file` has its code, if known."""

    spec: Spec
    function: Callable[[Answer], object]
    file: str | None = None

    def score(self, answer: Answer) -> Score:
        found = self.call(answer)
        if isinstance(found, CallProblem):
            return unscored(self.spec, "error", found.text)
        if found is None:
            return unscored(self.spec, "skipped")
        return Score(self.spec.name, found, "ok")

    def call(self, answer: Answer) -> float | CallProblem | None:
        """The value of an answer, None for "no score", or why there is none."""
        try:
            value = self.function(answer)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - foreign code: any exception is an error of the row
            text = describe_error(error, self.file, answer)
            return CallProblem(text, _is_mistake(error))
        if value is None:
            return None
        found = _number(value, self._limits)
        if isinstance(found, float):
            return found
        name = getattr(self.function, "__name__", type(self.function).__name__)
        text = f"{place_of(self.function)}{name} returned {found}"
        return CallProblem(text, broken=True)

    @property
    def _limits(self) -> tuple[float, float, str]:
        """The smallest and the largest value, and where that is from."""
        unit, declared = self.spec.unit, self.spec.value_range
        if unit == "fraction":
            return 0.0, 1.0, "0 to 1, since its unit is fraction"
        if declared is not None:
            return declared.least, declared.most, f"{declared.least:g} to {declared.most:g}"
        if unit == "count":
            return 0.0, LARGEST, f"0 to {LARGEST:g}, since its unit is count"
        return -LARGEST, LARGEST, f"{-LARGEST:g} to {LARGEST:g}"


def _is_mistake(error: BaseException) -> bool:
    """Whether an error is one of the code, whatever the answer; what is done to None may depend on the answer."""
    kinds = NameError | ImportError | SyntaxError | NotImplementedError
    if isinstance(error, AttributeError | TypeError):
        return "NoneType" not in str(error)
    return isinstance(error, kinds)


def _number(value: object, limits: tuple[float, float, str]) -> float | str:
    """The value as a number within its limits; else what it is and what was expected, without text of the row."""
    least, most, expected = limits
    if not isinstance(value, int | float | np.integer | np.floating | np.bool_):
        return f"{_named(value)}; expected a number, true, false or None"
    try:
        number = float(value)
    except OverflowError:
        return f"a whole number of more than 300 digits; expected {expected}"
    if not math.isfinite(number):
        return f"{number}; expected a finite number"
    if least - _ROUNDING <= number <= most + _ROUNDING:
        return min(max(number, least), most)
    return f"{number:g}; expected {expected}"


def _named(value: object) -> str:
    """What a value is; a text is shown only if it is a short number."""
    if not isinstance(value, str):
        return f"an object of type {type(value).__name__}"
    short = value if len(value) <= 20 and _is_number(value) else ""
    return f"the text {short!r}" if short else f"a text of {len(value):,} characters"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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


class _SourceLoader(SourceFileLoader):
    """Compiles the file itself. Python's compiled copy may be that of an older file: it compares only seconds and size."""

    def get_code(self, fullname: str) -> CodeType:
        del fullname
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _execute(file: Path) -> ModuleType:
    try:
        file.read_bytes()
    except OSError as error:
        message = f"{file}: cannot be read: {error.strerror}"
        raise DataError(message, hint="Give the path of a Python file.") from error
    if file.suffix != ".py":
        raise DataError(f"{file}: is not a Python file", hint="Give a file whose name ends in .py.")
    name = f"batchgen_user_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
    loader = _SourceLoader(name, str(file))
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(file)))
    module.__file__ = str(file)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[name]
        raise DataError(
            f"{file}: cannot be imported: {describe_error(error, str(file))}",
            hint=f"Correct it; `python {file}` shows the whole error.",
        ) from error
    return module


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise DataError(
            f"module {name!r} cannot be imported: {describe_error(error, None)}",
            hint="For a file next to the job, set `file`.",
        ) from error


def _python(spec: Spec, options: PythonOptions) -> UserFunction:
    """Load the function. The signature is its name and the hash of its file."""
    module_name, _, name = options.function.rpartition(":")
    file = Path(options.file) if options.file else None
    module = _from_file(file) if file is not None else _imported(module_name)
    source = str(file) if file is not None else getattr(module, "__file__", None)
    try:
        function = getattr(module, name, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module's own __getattr__
        message = f"{file or module_name}: {name!r} cannot be read: {describe_error(error, source)}"
        raise DataError(message, hint="Correct it.") from error
    if not callable(function):
        raise DataError(
            f"{file or module_name}: has no function {name!r}",
            hint="Set `function` to the name of a function in it.",
        )
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
    spec = replace(
        spec,
        unit=options.unit,
        higher_is_better={"higher": True, "lower": False, "neither": None}[options.direction],
        signature=f"{name}|sha256:{digest}",
        declared_range=ValueRange(*options.range) if options.range else None,
    )
    return UserFunction(spec, function, source)


PYTHON = MetricType(PythonOptions, _python, unit="score")
