"""Messages for invalid YAML. Those of PyYAML ("expected <block end>") describe its parser, not the mistake."""

import re

import yaml

from batchgen.errors import Problem
from batchgen.jobfile.wide_punctuation import wide_problem

TEMPLATE_MESSAGE = "a bare {{ … }} or {% … %} is read as a YAML mapping"
TEMPLATE_HINT = 'Put the template in quotes, "{{ question }}", or in a block after |.'

_BARE_TEMPLATE = re.compile(r"^\s*(?:- +)?(?:(?P<key>[\w.-]+): +)?(?:\[ *)?(?P<template>\{[{%])")
_INNER_QUOTES = re.compile(r'"[^"]*\{[{%][^"}]*\["')
"""A template in double quotes with the name of a column in double quotes."""
_WORDS = (
    # (pattern in PyYAML's message, message, hint)
    (r"character '\\t'", "a tab, where YAML allows only spaces", "Indent with spaces."),
    (r"mapping values are not allowed", "a second ': ' on this line, or a line indented too far", "Put text that contains ': ' in quotes or in a block after |."),
    (r"could not find expected ':'|expected ':'", "a line that is not `key: value`", "Indent text of several lines, quote it, or put it in a block after |."),
    (r"character '.*' that cannot start", "text that starts with a character that YAML reserves", "Put values that start with @ ` % & * ! { [ in quotes."),
    (r"expected alphabetic or numeric|unexpected end of stream.*alias", "text that starts with * or & is read as an alias", "Put it in quotes."),
    (r"expected ',' or", "a bracket that is not closed, or text after it", "Close the bracket, or quote the text."),
    (r"expected <block end>|expected the node content|expected <document start>", "wrong indentation, or text after a closed value", "Align the keys of a section; quote values as a whole."),
    (r"unexpected end of stream|document separator", "a quote that is not closed", "Close the quote."),
)  # fmt: skip


class UnreadableYamlError(Exception):
    """Raised within the reader when the rest of the text cannot be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def explain_syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    """The problem for the user. A template without quotes is the usual cause and has its own message."""
    found = f"{error.problem or error.context} {error.context or ''}"
    opened = "quoted scalar" in found or "flow" in found
    mark = (error.context_mark if opened else None) or error.problem_mark or error.context_mark
    if mark is None:
        return Problem("", f"not valid YAML: {error.problem}", file=file)
    line = _line(text, mark.line)
    template = _BARE_TEMPLATE.match(line)
    if template:
        column = template.start("template") + 1
        key = template["key"] or ""
        return Problem(key, TEMPLATE_MESSAGE, TEMPLATE_HINT, mark.line + 1, column, file)
    if (wide := wide_problem(_lines(text), mark.line, file)) is not None:
        return wide
    if _INNER_QUOTES.search(line):
        hint = "Write single quotes around the template: '{{ row[\"name\"] }}', or a block after |."
        return Problem(
            "",
            "not valid YAML: a double quote inside double quotes",
            hint,
            mark.line + 1,
            mark.column + 1,
            file,
        )
    message, hint = error.problem or "", ""
    for pattern, words, way_out in _WORDS:
        if re.search(pattern, found):
            message, hint = words, way_out
            break
    if "${" in line and "bracket" in message:
        hint = "Quote text such as ${name} inside { } and [ ]."
    return Problem("", f"not valid YAML: {message}", hint, mark.line + 1, mark.column + 1, file)


def _line(text: str, number: int) -> str:
    lines = _lines(text)
    return lines[number][:2000] if number < len(lines) else ""


def _lines(text: str) -> list[str]:
    return re.split(r"\r\n|[\n\r\x85\u2028\u2029]", text)
