"""Placeholders of other tools in a job's prompts, which would reach the model as they stand: `{q}`, `${vars.x}`, `｛｛q｝｝`.

An error is what cannot be meant; what may be a part of the text is a warning.
"""

import re
from collections.abc import Iterator, Sequence

from batchgen.errors import Problem
from batchgen.job.spec import Job
from batchgen.prompts.prompt_sources import PromptSource, prompt_sources
from batchgen.prompts.templates.columns import column_expression, literal_texts, nearest_column
from batchgen.prompts.templates.sandbox import InvalidTemplateError, Template

_JOB_PLACEHOLDER = re.compile(r"\$\{(?:vars\.|env:|date:|date[+-])[^}\n]*\}")
"""`${...}` that nothing but a job file has."""
_MAYBE_JOB_PLACEHOLDER = re.compile(r"\$\{(?:date|here|name)\}")
_WIDE = re.compile(r"[{｛]\s?[{｛]\s*([^{}｛｝\n]{1,80}?)\s*[}｝]\s?[}｝]")
_OTHERS = re.compile(
    r"(?<!\{)\{\s*(?P<braces>[^{}\n]{1,80}?)\s*\}(?!\})|<([^<>\n/]{1,80})>|\$\{?(\w{1,80})\}?|%\((\w{1,80})\)s"
    r"|\[\[([^\[\]\n]{1,80})\]\]|\[([^\[\]\n]{1,80})\]"
)
"""The ways in which other tools write the name of a column."""
_RECEIVED = ": the model receives it as it stands"
_CURLY = re.compile(r"[“‘](.*)[”’]\s*", re.DOTALL)


def placeholder_errors(job: Job, columns: Sequence[str]) -> Iterator[Problem]:
    """Placeholders that cannot be meant as text; the prompts are readable templates."""
    for source, text in _literals(job):
        for match in _JOB_PLACEHOLDER.finditer(text):
            yield Problem(
                source.key,
                f"{match[0]} is not replaced under prompt, so the model would receive it as it stands",
                "Write the value itself, or keep it in a column; write a literal ${ as {{ '${' }}.",
            )
        for match in _wide(text):
            if (column := _column(match[1], columns)) is not None:
                yield Problem(
                    source.key,
                    f"{match[0]} has full-width braces, so the model would receive it as it stands",
                    f"Write {{{{ {column_expression(column)} }}}}.",
                )
    if not _reads_a_column(job):
        for source, match in _other_placeholders(job, columns):
            if match["braces"]:
                yield Problem(
                    source.key,
                    f"{match[0]} is not a placeholder, so the model would receive it as it stands",
                    _hint(match, columns),
                )


def prompt_warnings(job: Job, columns: Sequence[str]) -> Iterator[Problem]:
    """What is allowed, and is rarely meant; the job has no problems."""
    yield from _unreplaced(job)
    reads_a_column = _reads_a_column(job)
    for source, match in _other_placeholders(job, columns):
        if match["braces"] or not reads_a_column:
            words = f"{match[0]} is not a placeholder{_RECEIVED}"
            yield Problem(source.key, words, _hint(match, columns))
    sources = list(prompt_sources(job))
    for source in sources:
        if _CURLY.fullmatch(source.text):
            words = "curly quotes around the text are part of it: the model receives them"
            yield Problem(source.key, words, "Write straight quotes, or none.")
    if sources and not reads_a_column:
        hint = f"Write a column as {{{{ name }}}}. The input has: {', '.join(columns[:20])}."
        words = "the prompt contains no column: it is the same for every row"
        yield Problem(sources[0].key, words, hint)


def _unreplaced(job: Job) -> Iterator[Problem]:
    for source, text in _literals(job):
        for match in _MAYBE_JOB_PLACEHOLDER.finditer(text):
            yield Problem(source.key, f"{match[0]} is not replaced under prompt{_RECEIVED}")
        for match in _wide(text):
            words = f"{match[0]} has full-width braces{_RECEIVED}"
            yield Problem(source.key, words, "Write {{ name }}.")


def _wide(text: str) -> Iterator[re.Match[str]]:
    return (match for match in _WIDE.finditer(text) if set("｛｝").intersection(match[0]))


def _other_placeholders(
    job: Job, columns: Sequence[str]
) -> Iterator[tuple[PromptSource, re.Match[str]]]:
    for source, text in _literals(job):
        for match in _OTHERS.finditer(text):
            if next(filter(None, match.groups())) in columns:
                yield source, match


def _hint(match: re.Match[str], columns: Sequence[str]) -> str:
    column = _column(next(filter(None, match.groups())), columns) or ""
    return f"Write {{{{ {column_expression(column)} }}}} for the column."


def _literals(job: Job) -> Iterator[tuple[PromptSource, str]]:
    """The parts of the templates that are sent as they stand."""
    sources = list(prompt_sources(job))
    if job.prompt.prefill is not None:
        sources.append(PromptSource("prompt.prefill", "assistant", job.prompt.prefill))
    for source in sources:
        for text in literal_texts(source.text):
            yield source, text


def _reads_a_column(job: Job) -> bool:
    columns = job.input.columns
    if columns.prompt or columns.messages or columns.turns:
        return True
    try:
        templates = [Template(source.text, source.key) for source in prompt_sources(job)]
    except InvalidTemplateError:
        return True
    return any(template.columns or template.functions for template in templates)


def _column(name: str, columns: Sequence[str]) -> str | None:
    first = name.partition("|")[0].strip()
    return first if first in columns else nearest_column(first, columns)
