"""A Jinja2 template of the job: compiled once in a sandbox, rendered with the columns of each row.

The author of the job is trusted, the rows are not: values are never compiled, limits stop a row that makes a sound
template endless or huge, and the text of the author stays distinct from the text of the row.
"""

import json
import traceback
from collections.abc import Iterable, Iterator, Mapping

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

from batchgen.prompts.templates.authored_text import AuthoredText, RowText, join_pieces
from batchgen.prompts.templates.columns import bind_columns
from batchgen.prompts.templates.environment import TEXT_LIMIT, LimitedEnvironment
from batchgen.prompts.templates.size_limits import RefusedError
from batchgen.records import Failure

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
        columns: the columns that it reads, in the order of their first use.
        functions: names that it reads as columns if the input has them, and otherwise as functions of Jinja.
    """

    def __init__(self, source: str, name: str) -> None:
        """Compile; raises InvalidTemplateError."""
        self.name = name
        self._environment = _Environment()
        try:
            tree = self._environment.parse(source)
            self._columns = bind_columns(tree, self._environment.globals)
            self._template = self._environment.compile_charged(tree)
        except TemplateSyntaxError as error:
            raise InvalidTemplateError(error.message or "invalid syntax", error.lineno) from error
        except (RecursionError, MemoryError, SyntaxError) as error:  # limits of Python's compiler
            raise InvalidTemplateError("nested too deeply", 1) from error
        variables, functions = self._columns.variables, self._columns.functions
        read = (column for variable, column in variables.items() if variable not in functions)
        self.columns = tuple(dict.fromkeys(read))
        self.functions = tuple(functions.values())
        # A text without columns is the same for every row, limits included.
        self._constant = self._rendered({}) if not variables else None
        if isinstance(self._constant, str):
            self._constant = AuthoredText(self._constant, ((0, len(self._constant)),))

    @property
    def reads_row(self) -> bool:
        """Whether the text may differ between rows."""
        return bool(self.columns or self.functions)

    def render(self, fields: Mapping[str, object]) -> AuthoredText | Failure:
        """The text for a row; not thread-safe. `fields` has at least `columns`; None is a null column."""
        return self._constant if self._constant is not None else self._rendered(fields)

    def _rendered(self, fields: Mapping[str, object]) -> AuthoredText | Failure:
        variables = self._columns.variables
        values = {v: self._value(v, c, fields) for v, c in variables.items()}
        self._environment.restart()
        try:
            return join_pieces(_limited(self._template.generate(values)))
        except _NullError as error:
            words = f"column {error.message!r} is null; give it another value with `default`"
            return Failure("prompt_null", f"{self._place(error)}: {words}")
        except RENDER_ERRORS as error:
            nulls = [c for c in variables.values() if c in fields and fields[c] is None]
            note = f" (null in this row: {', '.join(nulls)})" if nulls else ""
            return Failure("template_error", f"{self._place(error)}: {words_of(error)}{note}")

    def _value(self, variable: str, column: str, fields: Mapping[str, object]) -> object:
        if variable in self._columns.functions and column not in fields:
            return self._environment.globals[column]
        value = fields[column]
        return NullColumn(column) if value is None else value

    def _place(self, error: Exception) -> str:
        frames = traceback.walk_tb(error.__traceback__)
        lines = [n for frame, n in frames if frame.f_code.co_filename == "<template>"]
        return f"{self.name}, line {lines[-1]}" if lines else self.name


class _Environment(LimitedEnvironment):
    """Null columns and unknown values are errors; texts of the row are marked."""

    def __init__(self) -> None:
        super().__init__(
            {"tojson": _tojson},
            {"none": lambda value: value is None or isinstance(value, NullColumn)},
            undefined=StrictUndefined,
            keep_trailing_newline=True,
        )

    def printed(self, value: object) -> str:
        return value if isinstance(value, AuthoredText) else RowText(printed(value))

    def _concat(self, pieces: Iterable[str]) -> str:
        listed = list(pieces)
        self.charge(sum(map(len, listed)))
        return join_pieces(listed)


def printed(value: object) -> str:
    """The text of a value in templates and prompt columns; a list or a mapping is JSON.

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
    if callable(value) or isinstance(value, Iterator | Namespace):
        # Its text contains a memory address, so the prompt would differ between runs.
        raise RefusedError("an expression is a function, a generator or a namespace, not text")
    return _tojson(value) if isinstance(value, Mapping | list | tuple) else str(value)


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


def words_of(error: Exception) -> str:
    """The cause, without text of the row."""
    # Messages of libraries may quote the row, so only our own are repeated.
    if isinstance(error, RefusedError):
        return str(error)
    failed = f"a filter, function or operator failed ({type(error).__name__})"
    return next((words for kind, words in _WORDS.items() if isinstance(error, kind)), failed)
