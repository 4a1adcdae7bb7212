"""A Jinja2 template of the job: compiled once in a sandbox, rendered with the columns of each row.

The author of the job is trusted, the rows are not: values are never compiled, and limits stop a row that makes a sound
template endless or huge. The limits count and never use a clock, so that the same row always fails.
"""

import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps

from jinja2 import (
    StrictUndefined,
    TemplateError,
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
    add_counting,
    refuse_other_files,
)
from batchgen.prompts.templates.size_limits import SIZED, RefusedError, call_size, operator_size
from batchgen.records import Failure

TEXT_LIMIT = 1_000_000
"""Most characters of one prompt."""
STEP_LIMIT = 100_000
"""Most loop steps and calls of one template for one row: about a second."""
WORK_LIMIT = 100 * TEXT_LIMIT
"""Most characters and items that operators, methods and filters may make for one prompt, a quarter of them at once:
0.1 s and at most 200 MB."""

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
"""Errors of filters, of methods of values and of the sandbox while a template is rendered."""


class InvalidTemplateError(Exception):
    """A template does not compile; `line` counts from 1 within the template."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class _NullError(UndefinedError):
    """A null column is used like a value; the message is the column's name."""


class NullColumn(Undefined):
    """A column that is null in this row. Templates can test it and give it a default; any other use fails."""

    def __init__(self, column: str) -> None:
        super().__init__(hint=column, name=column, exc=_NullError)

    __str__ = __repr__ = __iter__ = __len__ = Undefined._fail_with_undefined_error

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, NullColumn)

    def __hash__(self) -> int:
        return hash(None)


class Template:
    """A compiled template.

    Attributes:
        name: for messages, such as "prompt.user".
        columns: the variables that it reads, in the order of their first use.
    """

    def __init__(self, source: str, name: str) -> None:
        """Compile; raises InvalidTemplateError."""
        self.name = name
        self._environment = _Environment()
        try:
            tree = self._environment.parse(source)
            undeclared = meta.find_undeclared_variables(tree) - _GLOBALS
            self.columns = tuple(
                dict.fromkeys(n.name for n in tree.find_all(nodes.Name) if n.name in undeclared)
            )
            refuse_other_files(tree)
            add_counting(tree)
            self._template = self._environment.from_string(tree)
            # A text without columns is the same for every row, limits included.
            self._constant = None if self.columns else self._rendered({})
        except TemplateSyntaxError as error:
            raise InvalidTemplateError(error.message or "invalid syntax", error.lineno) from error
        except RecursionError as error:
            raise InvalidTemplateError("nested too deeply", 1) from error

    def render(self, fields: Mapping[str, object]) -> str | Failure:
        """The text for a row; not thread-safe. `fields` has at least `columns`; None is a null column."""
        return self._constant if self._constant is not None else self._rendered(fields)

    def _rendered(self, fields: Mapping[str, object]) -> str | Failure:
        values = {c: NullColumn(c) if fields[c] is None else fields[c] for c in self.columns}
        self._environment.steps = self._environment.made = 0
        try:
            return "".join(_limited(self._template.generate(values)))
        except _NullError as error:
            words = f"column {error.message!r} is null; give it another value with `default`"
            return Failure("prompt_null", f"{self._place(error)}: {words}")
        except RENDER_ERRORS as error:
            nulls = [c for c in self.columns if fields[c] is None]
            note = f" (null in this row: {', '.join(nulls)})" if nulls else ""
            return Failure("template_error", f"{self._place(error)}: {_words(error)}{note}")

    def _place(self, error: Exception) -> str:
        frames = traceback.walk_tb(error.__traceback__)
        lines = [n for frame, n in frames if frame.f_code.co_filename == "<template>"]
        return f"{self.name}, line {lines[-1]}" if lines else self.name


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with limits, and without the functions that differ between runs."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, keep_trailing_newline=True, finalize=printed)
        self.steps = self.made = 0
        self.filters["tojson"] = _tojson
        for name in self.filters.keys() & SIZED:
            self.filters[name] = self._limited(name, self.filters[name])
        self.filters[COUNTED] = self._counted
        self.filters[JOINED] = self._joined
        self.tests["none"] = lambda value: value is None or isinstance(value, NullColumn)
        del self.filters["random"], self.globals["lipsum"]

    def call(
        self, context: Context, function: object, /, *args: object, **kwargs: object
    ) -> object:
        self._step()
        # The sandbox wraps `format` of a text.
        method = getattr(function, "__wrapped__", function)
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str | bytes | int):
            self._make(call_size(name, owner, (*args, *kwargs.values())))
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        self._make(operator_size(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > STEP_LIMIT:
            raise RefusedError(f"more than {STEP_LIMIT:,} loop steps and calls")

    def _make(self, size: int) -> None:
        self.made += max(0, size)
        if size > WORK_LIMIT // 4 or self.made > WORK_LIMIT:
            raise RefusedError("too many characters or items are made on the way to the text")

    def _limited(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        # Filters that need the context get it as their first argument.
        skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def limited(*args: object, **kwargs: object) -> object:
            self._step()
            value, *rest = args[skipped:]
            rest += kwargs.values()
            if name == "format":
                self._make(operator_size("%", value, tuple(rest)))
            elif name == "join":
                self._make(call_size(name, rest[0] if rest else "", [value]))
            else:
                self._make(call_size(name, value, rest))
            return function(*args, **kwargs)

        return limited

    def _joined(self, text: str) -> str:
        self._make(len(text))
        return text

    def _counted(self, items: Iterable[object]) -> Iterator[object]:
        for item in items:
            self._step()
            yield item


def printed(value: object) -> str:
    """The text of a value in templates and prompt columns.

    Raises:
        RefusedError: the value is null, bytes, a function or a generator.
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
        # Its text contains a memory address, so the prompt would differ between runs.
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
    # Jinja's own filter escapes for HTML: \u003c for < and \u4f60 for 你.
    return json.dumps(value, ensure_ascii=False, indent=indent, default=printed)


_WORDS: Mapping[type[Exception], str] = {
    SecurityError: "the sandbox does not allow this",
    UndefinedError: "a value does not exist",
    RecursionError: "endless recursion",
    MemoryError: "not enough memory",
    ZeroDivisionError: "division by zero",
}


def _words(error: Exception) -> str:
    # Messages of libraries may quote the row, so only our own are repeated.
    if isinstance(error, RefusedError):
        return str(error)
    failed = f"a filter, function or operator failed ({type(error).__name__})"
    return next((words for kind, words in _WORDS.items() if isinstance(error, kind)), failed)


_GLOBALS = frozenset(_Environment().globals)
"""Functions in templates: range, dict, namespace, cycler, joiner."""
