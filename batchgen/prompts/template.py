"""A Jinja2 template of the job: compiled once in a sandbox, rendered with the columns of each row.

The job's author is trusted, the rows are not: a value of a row is never compiled, and limits that are counted,
never timed, keep a row from turning a sound template into an endless one. Counted, so that a row that fails fails
every time. Knows nothing of rows, chats, tokens or jobs.
"""

import json
import traceback
from collections.abc import Iterable, Iterator, Mapping
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

from batchgen.records import Failure

TEXT_LIMIT = 1_000_000
"""Most characters of one prompt."""
STEP_LIMIT = 100_000
"""Most loop steps and calls of one template for one row: a second or so."""

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
            _refuse_other_files(tree)
            _count_loops(tree)
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
        self._environment.steps = 0
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

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            autoescape=False,
            keep_trailing_newline=True,
            finalize=printed,
        )
        self.steps = 0
        self.filters["tojson"] = _tojson
        self.filters[_COUNTED] = self._counted
        self.tests["none"] = lambda value: value is None or isinstance(value, NullColumn)
        del self.filters["random"], self.globals["lipsum"]

    def call(
        self, context: Context, function: object, /, *args: object, **kwargs: object
    ) -> object:
        """Call from inside the template."""
        self._step()
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        """Multiply or raise to a power, where the result stays small."""
        if _size(operator, left, right) > TEXT_LIMIT:
            raise RefusedError(f"the result of {operator} is too large")
        return super().call_binop(context, operator, left, right)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > STEP_LIMIT:
            raise RefusedError(f"more than {STEP_LIMIT:,} loop steps and calls")

    def _counted(self, items: Iterable[object]) -> Iterator[object]:
        for item in items:
            self._step()
            yield item


_COUNTED = "batchgen_counted"


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


def _size(operator: str, left: object, right: object) -> int:
    """About how many characters, items or digits the result has; 0 where it cannot be large."""
    match operator, left, right:
        case "**", int(), int():
            return left.bit_length() * right
        case ("*", str() | bytes() | list() | tuple(), int()):
            return len(left) * right
        case ("*", int(), str() | bytes() | list() | tuple()):
            return left * len(right)
        case _:
            return 0


def _tojson(value: object, indent: int | None = None) -> str:
    # Jinja's own is for HTML pages: it writes \u003c for < and \u4f60 for 你.
    return json.dumps(value, ensure_ascii=False, indent=indent, default=printed)


def _count_loops(tree: nodes.Template) -> None:
    # {% for x in xs %} becomes {% for x in xs | counted %}; `loop.length` and `loop.last` work as before.
    for loop in tree.find_all(nodes.For):
        loop.iter = nodes.Filter(
            loop.iter,
            _COUNTED,
            [],
            [],
            None,
            None,
            lineno=loop.lineno,
            environment=tree.environment,
        )


def _refuse_other_files(tree: nodes.Template) -> None:
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise TemplateSyntaxError(
            "a template here is one text: no include, import or extends", node.lineno
        )


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
