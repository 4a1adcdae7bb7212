"""Jinja's sandbox with limits on work and memory, for templates of jobs and of models.

Work is counted in units of about a nanosecond before it is done, and never measured with a clock, so that the same row
always fails. No single step is long, so signals are handled while a template is rendered.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import wraps
from types import MappingProxyType
from typing import Any, cast

from jinja2 import Undefined, nodes, pass_context
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from batchgen.prompts.templates.rewrite import (
    COPIED,
    COUNTED,
    JOINED,
    PASSED,
    READ,
    SEARCHED,
    add_charges,
    macro_work,
    refuse_other_files,
)
from batchgen.prompts.templates.size_limits import (
    SIZED,
    RefusedError,
    call_size,
    operator_size,
)
from batchgen.prompts.templates.value_size import NODE, shallow_size, value_size

TEXT_LIMIT = 1_000_000
"""Most characters of one prompt."""
STEP_LIMIT = 100_000
"""Most loop steps and calls of one template for one row: about a second."""
WORK_LIMIT = 100 * TEXT_LIMIT
"""Most units of work for one prompt, a quarter of them at once: about a second and at most 400 MB."""

_CONSTANT = frozenset(("attr", "count", "d", "default", "first", "items", "last", "length", "safe"))
"""Filters whose work does not depend on the size of the value."""
_LAZY = frozenset(
    ("batch", "list", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "slice")
)
"""Filters that read the value's items, but not what is in them."""
_ORDERING = frozenset(("dictsort", "groupby", "max", "min", "sort", "sum", "unique"))
"""Filters that read items more than once."""
_SLOW = frozenset(("pprint", "striptags", "title", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"))  # fmt: skip
"""Filters in Python that handle character by character or word by word."""
_READING_TESTS = frozenset(
    (
        *("==", "!=", ">", ">=", "<", "<=", "eq", "equalto", "ne", "gt", "greaterthan", "ge", "lt"),
        *("lessthan", "le", "in", "lower", "upper"),
    )
)
_OWN_METHODS = frozenset(("fromkeys", "get", "items", "keys", "values"))
"""Methods of a mapping whose work does not depend on its size."""


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox. An environment renders one template, one row at a time."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(
        self,
        filters: Mapping[str, Callable[..., Any]],
        tests: Mapping[str, Callable[..., bool]] = MappingProxyType({}),
        **options: Any,  # noqa: ANN401 - the options of Jinja
    ) -> None:
        """`filters` and `tests` take the place of Jinja's own."""
        super().__init__(finalize=self._charge_printed, **options)
        self.steps = self.work = self.macro_work = 0
        self.concat = self._concat  # type: ignore[method-assign]  # Jinja declares the function of all environments
        for name, own in {**self.filters, **filters}.items():
            self.filters[name] = self._limited_filter(name, own)
        self.tests.update(tests)
        for name in _READING_TESTS & self.tests.keys():
            self.tests[name] = self._limited_test(cast("Callable[..., bool]", self.tests[name]))
        self.filters |= {
            COUNTED: self._counted,
            PASSED: self._passed,
            JOINED: self._joined,
            READ: self._read,
            SEARCHED: self._searched,
            COPIED: self._copied,
        }
        # Their results differ between runs.
        del self.filters["random"], self.globals["lipsum"]

    def compile_charged(self, tree: nodes.Template) -> Any:  # noqa: ANN401 - a template of any environment
        """Compile a parsed template, with the charges."""
        refuse_other_files(tree)
        self.macro_work = macro_work(tree)
        add_charges(tree)
        return self.from_string(tree)

    def restart(self) -> None:
        """Begin another row."""
        self.steps = self.work = 0

    def printed(self, value: object) -> object:
        """The value that is converted to text in {{ }}."""
        return value

    def call(
        self, context: Context, function: object, /, *args: object, **kwargs: object
    ) -> object:
        self._step(self.macro_work if isinstance(function, Macro) else NODE)
        # The sandbox wraps `format` of a text.
        method = getattr(function, "__wrapped__", function)
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if name == "join" and args and isinstance(args[0], Iterator):
            args = (list(args[0]), *args[1:])
        if not isinstance(function, Macro):
            given = [*args, *kwargs.values()]
            for value in given:
                self.charge_value(value)
            if isinstance(owner, str | bytes | int | list | tuple | dict):
                self._charge_method(owner, name, given)
        return super().call(context, function, *args, **kwargs)

    def _charge_method(self, owner: object, name: str, arguments: Sequence[object]) -> None:
        if name == "copy":
            self.charge(shallow_size(owner))
        elif not (isinstance(owner, dict) and name in _OWN_METHODS):
            self.charge_value(owner)
        if name in SIZED:
            self.charge(call_size(name, owner, arguments))

    def call_binop(self, context: Context, symbol: str, left: object, right: object) -> object:
        if not (isinstance(left, float) and isinstance(right, float)):
            self.charge(operator_size(symbol, left, right, self.charge_value))
        return super().call_binop(context, symbol, left, right)

    def charge_value(self, value: object, times: int = 1) -> None:
        """Charge the reading of a whole value."""
        size = value_size(value, WORK_LIMIT // 4 // times)
        self.charge(size * times)

    def charge(self, size: int) -> None:
        """Charge work before it is done; raises RefusedError at the limit."""
        self.work += max(0, size)
        if size > WORK_LIMIT // 4 or self.work > WORK_LIMIT:
            raise RefusedError("too many characters or items are made on the way to the text")

    def _step(self, work: int) -> None:
        self.steps += 1
        if self.steps > STEP_LIMIT:
            raise RefusedError(f"more than {STEP_LIMIT:,} loop steps and calls")
        self.charge(work)

    def _charge_printed(self, value: object) -> object:
        if not isinstance(value, str | Undefined):
            self.charge_value(value)
        return self.printed(value)

    def _concat(self, pieces: Iterable[str]) -> str:
        listed = list(pieces)
        self.charge(sum(map(len, listed)))
        return "".join(listed)

    def _limited_filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        # Filters that need the context get it as their first argument.
        place = 1 if hasattr(function, "jinja_pass_arg") else 0
        needs_list = name in _ORDERING or name == "join"

        @wraps(function)
        def limited(*args: Any, **kwargs: Any) -> object:  # noqa: ANN401 - the arguments of any filter
            self._step(NODE)
            value = args[place]
            if needs_list and isinstance(value, Iterator):
                value = list(value)
                args = (*args[:place], value, *args[place + 1 :])
            self._charge_filter(name, value, [*args[place + 1 :], *kwargs.values()])
            outcome = function(*args, **kwargs)
            return self._charged_items(outcome) if isinstance(outcome, Iterator) else outcome

        return limited

    def _charge_filter(self, name: str, value: object, arguments: Sequence[object]) -> None:
        if name in _LAZY:
            self.charge(shallow_size(value))
        elif name in _ORDERING and isinstance(value, Sized):
            self._charge_ordered(name, value, arguments)
        elif name not in _CONSTANT:
            self.charge_value(value, 20 if name in _SLOW else 1)
        for argument in arguments:
            self.charge_value(argument)
        if name == "format":
            self.charge(operator_size("%", value, tuple(arguments), self.charge_value))
        elif name == "join":
            self.charge(call_size(name, arguments[0] if arguments else "", [value]))
        elif name in SIZED:
            self.charge(call_size(name, value, arguments))

    def _charge_ordered(self, name: str, items: Sized, arguments: Sequence[object]) -> None:
        """Charge a filter that reads items again and again: sorting, and sums of lists."""
        times = 1 + len(items).bit_length()
        if name == "sum":
            added = any(not isinstance(start, str | int | float) for start in arguments)
            times = 1 + (len(items) if added else 0)
        self.charge_value(items, times)

    def _limited_test(self, function: Callable[..., bool]) -> Callable[..., bool]:
        @wraps(function)
        def limited(*args: object, **kwargs: object) -> bool:
            self._step(NODE)
            for value in args:
                self._read(value)
            return function(*args, **kwargs)

        return limited

    def _charged_items(self, items: Iterable[object]) -> Iterator[object]:
        for item in items:
            self.charge(NODE)
            yield item

    def _counted(self, items: Iterable[object], work: int) -> Iterator[object]:
        for item in items:
            self._step(work)
            yield item

    @staticmethod
    @pass_context
    def _passed(context: Context, nothing: str, work: int) -> str:
        environment = context.environment
        assert isinstance(environment, LimitedEnvironment)
        environment._step(work)
        return nothing

    def _joined(self, text: str) -> str:
        self.charge(len(text))
        return text

    def _read(self, value: object) -> object:
        if isinstance(value, str):
            self.charge(1 + len(value) // 16)
        elif not isinstance(value, int | float | Undefined | None):
            self.charge_value(value)
        return value

    def _searched(self, value: object) -> object:
        if not isinstance(value, Mapping | range):
            self.charge_value(value)
        return value

    def _copied(self, value: object) -> object:
        self.charge(shallow_size(value))
        return value
