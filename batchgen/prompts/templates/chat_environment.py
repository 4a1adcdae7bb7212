"""The environment of a model's chat template: what transformers gives it, within the limits of `environment.py`.

The code of an unpinned model is not trusted. The clock is the date of the run, so that a prompt does not change at midnight.
"""

import json
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.utils import Namespace

from batchgen.prompts.templates.environment import TEXT_LIMIT, LimitedEnvironment
from batchgen.prompts.templates.size_limits import RefusedError


class ChatTemplate:
    """A compiled chat template."""

    def __init__(self, source: str, today: date) -> None:
        """Compile; raises TemplateError, or RecursionError, MemoryError or SyntaxError for a text that is too deep."""
        self._environment = LimitedEnvironment(
            {"tojson": _tojson},
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlock, LoopControlExtension],
        )
        midnight = datetime.combine(today, time.min)
        self._environment.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": midnight.strftime,
            "dict": _make_dict,
            "namespace": _SafeNamespace,
        }
        self._template = self._environment.compile_charged(self._environment.parse(source))
        self._limit = 2 * TEXT_LIMIT + len(source)

    def render(self, variables: Mapping[str, object]) -> str:
        """The text of a conversation; raises one of `RENDER_ERRORS`."""
        self._environment.restart()
        pieces: list[str] = []
        length = 0
        for piece in self._template.generate(variables):
            length += len(piece)
            if length > self._limit:
                raise RefusedError(f"the text is longer than {self._limit:,} characters")
            pieces.append(piece)
        return "".join(pieces)


class _GenerationBlock(Extension):
    """{% generation %}, which marks the assistant's text for training: the text alone."""

    tags = {"generation"}  # noqa: RUF012 - an attribute of instances, as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_unchanged")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _unchanged(self, caller: Macro) -> str:
        return caller()


class _SafeNamespace(Namespace):
    """Stores no private attributes, as in transformers."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - `self` may be an attribute
        self, *given = args
        attributes = dict(*given, **kwargs)
        for name in attributes:
            _refuse_private(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: object) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError("a namespace stores no private attributes")


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:  # noqa: ANN401 - as `dict`
    return dict(*args, **kwargs)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    *,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
