"""A Jinja2 template of the job: compiled once in a sandbox, rendered with the columns of each row.

The job's author is trusted, the rows are not: a value of a row is never compiled, and limits that are counted,
never timed, keep a row from turning a sound template into an endless one. Counted, so that a row that fails fails
every time. Knows nothing of rows, chats, tokens or jobs.
"""

import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import NoReturn

from jinja2 import (
    StrictUndefined,
    TemplateError,
    TemplateRuntimeError,
    TemplateSyntaxError,
    Undefined,
    UndefinedError,
    meta,
    nodes,
)
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from batchgen.prompts.templates.rewrite import (
    COUNTED,
    JOINED,
    add_step_counting,
    refuse_other_files,
)
from batchgen.prompts.templates.size_limits import FILTERS, call_size, filter_size, operator_size
from batchgen.records import Failure

TEXT_LIMIT = 1_000_000
"""Most characters of one prompt."""
STEP_LIMIT = 100_000
"""Most loop steps and calls of one template for one row: a second or so."""
WORK_LIMIT = 100 * TEXT_LIMIT
"""Most characters and items that operators, methods and filters may make on the way to one prompt."""

RENDER_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Whatever a filter, a method of a value or the sandbox may raise while a template is rendered."""


class InvalidTemplateError(Exception):
    """A template that cannot be compiled; `line` counts from 1 within the template."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class RefusedError(TemplateRuntimeError):
    """Something a template may not do here. The words are ours: they hold no text of the row."""


class _NullError(UndefinedError):
    """A null column was used as if it had a value; the message is the column's name."""


class NullColumn(Undefined):
    """A column that is null in this row: it can be tested and given a default, but never printed or computed with."""

    def __init__(self, column: str) -> None:
        super().__init__(hint=column, name=column, exc=_NullError)

    def __str__(self) -> NoReturn:
        self._fail_with_undefined_error()

    def __repr__(self) -> NoReturn:
        self._fail_with_undefined_error()

    def __iter__(self) -> NoReturn:
        self._fail_with_undefined_error()

    def __len__(self) -> NoReturn:
        self._fail_with_undefined_error()

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, NullColumn)

    def __hash__(self) -> int:
        return hash(None)


class Template:
    """A compiled template.

    Attributes:
        name: what messages call it, such as "prompt.user".
        columns: the variables it reads, in the order in which it names them.
    """

    def __init__(self, source: str, name: str) -> None:
        """Compile.

        Raises:
            InvalidTemplateError: not a template, or one that would need other files.
        """
        self.name = name
        self._environment = _Environment()
        try:
            tree = self._environment.parse(source)
            undeclared = meta.find_undeclared_variables(tree) - _GLOBALS
            self.columns = tuple(
                dict.fromkeys(n.name for n in tree.find_all(nodes.Name) if n.name in undeclared)
            )
            refuse_other_files(tree)
            add_step_counting(tree)
            self._template = self._environment.from_string(tree)
            # A text without columns is the same for every row, limits included.
            self._constant = None if self.columns else self._rendered({})
        except TemplateSyntaxError as error:
            raise InvalidTemplateError(error.message or "not a template", error.lineno) from error
        except RecursionError as error:
            raise InvalidTemplateError("nested too deeply", 1) from error

    def render(self, fields: Mapping[str, object]) -> str | Failure:
        """The text for a row. Not for several threads at once.

        Args:
            fields: at least `columns`; None is a null column.
        """
        return self._constant if self._constant is not None else self._rendered(fields)

    def _rendered(self, fields: Mapping[str, object]) -> str | Failure:
        values = {c: NullColumn(c) if fields[c] is None else fields[c] for c in self.columns}
        self._environment.steps = self._environment.made = 0
        try:
            return "".join(_limited(self._template.generate(values)))
        except _NullError as error:
            return Failure(
                "prompt_null", f"{self._place(error)}: {_null_words(str(error.message))}"
            )
        except RENDER_ERRORS as error:
            nulls = [c for c in self.columns if fields[c] is None]
            note = f" (null in this row: {', '.join(nulls)})" if nulls else ""
            return Failure("template_error", f"{self._place(error)}: {_words(error)}{note}")

    def _place(self, error: Exception) -> str:
        lines = [
            number
            for frame, number in traceback.walk_tb(error.__traceback__)
            if frame.f_code.co_filename == "<template>"
        ]
        return f"{self.name}, line {lines[-1]}" if lines else self.name


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with steps counted, and without what differs from one run to the next."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            autoescape=False,
            keep_trailing_newline=True,
            finalize=printed,
        )
        self.steps = self.made = 0
        self.filters["tojson"] = _tojson
        for name in FILTERS:
            self.filters[name] = self._sized(name, self.filters[name])
        self.filters[COUNTED] = self._counted
        self.filters[JOINED] = self._joined
        self.tests["none"] = lambda value: value is None or isinstance(value, NullColumn)
        del self.filters["random"], self.globals["lipsum"]

    def call(
        self, context: Context, function: object, /, *args: object, **kwargs: object
    ) -> object:
        """Call from inside the template."""
        self._step()
        self._make(call_size(function, args, kwargs))
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        """Add, multiply, format or raise to a power, where the result stays small."""
        self._make(operator_size(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > STEP_LIMIT:
            raise RefusedError(f"more than {STEP_LIMIT:,} loop steps and calls")

    def _make(self, size: int) -> None:
        self.made += size
        if size > TEXT_LIMIT:
            raise RefusedError(f"what it makes is larger than {TEXT_LIMIT:,} characters or items")
        if self.made > WORK_LIMIT:
            raise RefusedError(f"more than {WORK_LIMIT:,} characters or items on the way to it")

    def _sized(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        # Filters that ask for the context get it as their first argument.
        skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def sized(*args: object, **kwargs: object) -> object:
            self._step()
            self._make(filter_size(name, args[skipped:], kwargs))
            return function(*args, **kwargs)

        return sized

    def _joined(self, text: object) -> object:
        self._make(len(text) if isinstance(text, str) else 0)
        return text

    def _counted(self, items: Iterable[object]) -> Iterator[object]:
        for item in items:
            self._step()
            yield item


def printed(value: object) -> str:
    """The text of a value, as templates and prompt columns print it.

    Raises:
        RefusedError: the value has no text that is worth sending; the message says why.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise RefusedError("an expression is null; give it another value with `default`")
    if isinstance(value, bytes | bytearray | memoryview):
        raise RefusedError("a value holds bytes, not text")
    if isinstance(value, Undefined):
        return str(value)
    if callable(value) or isinstance(value, Iterator):
        # Printed, it would show an address in memory: another prompt in every run.
        raise RefusedError("an expression is a function or a generator, not text")
    return str(value)


def _limited(pieces: Iterable[str]) -> Iterator[str]:
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > TEXT_LIMIT:
            raise RefusedError(f"the text is longer than {TEXT_LIMIT:,} characters")
        yield piece


def _tojson(value: object, indent: int | None = None) -> str:
    # Jinja's own is for HTML pages: it writes \u003c for < and \u4f60 for 你.
    return json.dumps(value, ensure_ascii=False, indent=indent, default=printed)


def _null_words(column: str) -> str:
    return f"column {column!r} is null; the template can give it another value with `default`"


_WORDS: Mapping[type[Exception], str] = {
    SecurityError: "the sandbox does not allow this",
    UndefinedError: "a value is used that does not exist",
    RecursionError: "recursion without end",
    MemoryError: "not enough memory",
    ZeroDivisionError: "division by zero",
}


def _words(error: Exception) -> str:
    """What went wrong. Messages of libraries may quote the row, so only our own are repeated."""
    if isinstance(error, RefusedError):
        return str(error)
    for kind, words in _WORDS.items():
        if isinstance(error, kind):
            return words
    return f"a filter, function or operator failed ({type(error).__name__})"


_GLOBALS = frozenset(_Environment().globals)
"""Names of functions in templates: range, dict, namespace, cycler, joiner."""
