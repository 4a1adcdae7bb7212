"""One answer, or one row of any table, as text for a terminal."""

from collections.abc import Mapping
from typing import Any

import click

from batchgen.cli.render.metric_table import format_value
from batchgen.cli.render.terminal import format_count, printable, shorten, wrapped_line
from batchgen.inspection.answer_table import AnswerTable, RowSelection
from batchgen.output.score_tables import SCORE_PREFIX

_INDENT = 11


def print_first_answers(table: AnswerTable, most: int, characters: int) -> None:
    """Print the first answers, each after an empty line."""
    for row in table.take(table.select(RowSelection(most=most))):
        click.echo()
        print_row(table, row, characters)


def print_row(table: AnswerTable, row: Mapping[str, Any], characters: int) -> None:
    """Print a row, at most so many characters of each text.

    An answer of batchgen: the messages, the response, why it ended, and its scores. Of other tables: each column.
    """
    if table.has_answers:
        _print_answer(table, row, characters)
        return
    label = str(row[table.prefix + "id"]) if table.prefix + "id" in row else ""
    _print_rule(f"id {label}" if label else "row")
    for name, value in row.items():
        if name not in table.score_columns:
            _print_text(f"{name}:", "" if value is None else str(value), characters)
    _print_scores(table, row)


def _print_answer(table: AnswerTable, row: Mapping[str, Any], characters: int) -> None:
    answer = {name.removeprefix(table.prefix): value for name, value in row.items()}
    sample = f" · sample {answer['sample']}" if answer["sample"] else ""
    _print_rule(f"id {answer['id']}{sample}")
    for message in answer["messages"] or ():
        _print_text(f"{message['role']}:", message["content"], characters)
    if answer["reasoning"]:
        _print_text("reasoning:", answer["reasoning"], characters)
    if answer["response"] is None:
        why = f"{answer['error_code']}: {answer['error']}"
        _print_text("no answer:", why, characters)
    else:
        _print_text("answer:", answer["response"], characters)
        tokens = format_count(answer["output_tokens"] or 0, "token")
        click.echo(f"{'':<{_INDENT}}({answer['finish_reason']}, {tokens})")
    _print_scores(table, row)


def _print_scores(table: AnswerTable, row: Mapping[str, Any]) -> None:
    scores = []
    for name in table.score_columns:
        metric = name.removeprefix(table.prefix).removeprefix(SCORE_PREFIX)
        value = row[name]
        known = isinstance(value, int | float)
        scores.append(f"{metric} {format_value(value, '') if known else 'none'}")
    if scores:
        _print_text("scores:", " · ".join(scores), 10_000)


def _print_rule(title: str) -> None:
    rule = f"── {title} "
    click.echo(printable(rule + "─" * max(4, 61 - len(rule))))


def _print_text(label: str, text: str, characters: int) -> None:
    head = f"{printable(label):<{_INDENT}}"
    for line in shorten(printable(text.strip()), characters).split("\n"):
        click.echo(wrapped_line(head + line, _INDENT))
        head = " " * _INDENT
