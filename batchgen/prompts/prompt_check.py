"""Checks the prompts of a job before a run: invalid templates, missing columns and files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from batchgen.arrow.nested_column import split_path
from batchgen.errors import Problem
from batchgen.job.spec import Job
from batchgen.prompts.placeholder_check import placeholder_errors
from batchgen.prompts.prompt_sources import (
    PromptSource,
    conversation_turns,
    cuttable_columns,
    prompt_sources,
)
from batchgen.prompts.templates.columns import (
    ROW,
    column_expression,
    nearest_column,
    nearest_written,
    written_column,
)
from batchgen.prompts.templates.sandbox import InvalidTemplateError, Template


def check_prompts(job: Job, columns: Sequence[str]) -> list[Problem]:
    """The problems of a job's prompts, given the columns of its input."""
    named = job.input.columns
    read = {"input.columns.prompt": named.prompt, "input.columns.messages": named.messages}
    read["input.columns.turns"] = named.turns
    read |= {f"decoding.columns.{name}": column for name, column in job.decoding.columns.items()}
    unknown = [
        _unknown(key, column, columns)
        for key, column in read.items()
        if column is not None and split_path(column, columns)[0] not in columns
    ]
    texts = list(_text_problems(job, columns))
    if not texts:
        texts = list(placeholder_errors(job, columns))
    return [*unknown, *(texts or _truncation_problems(job, columns)), *_chat_problems(job)]


def _text_problems(job: Job, columns: Sequence[str]) -> Iterator[Problem]:
    try:
        found = list(prompt_sources(job))
    except (OSError, UnicodeDecodeError) as error:
        hint = "Give the path of a template in UTF-8, relative to the job file."
        yield Problem("prompt.file", _file_words(error), hint)
        return
    if job.prompt.prefill is not None:
        found.append(PromptSource("prompt.prefill", "assistant", job.prompt.prefill))
    for source in found:
        yield from _template_problems(source, columns)


def _template_problems(source: PromptSource, columns: Sequence[str]) -> Iterator[Problem]:
    try:
        template = Template(source.text, source.key)
    except InvalidTemplateError as error:
        yield Problem(
            source.key,
            f"line {error.line} of the template: {error.message}",
            _syntax_hint(source.text.split("\n")[error.line - 1], columns),
        )
        return
    hinted: set[str] = set()
    for column in template.columns:
        if column in columns:
            continue
        written = written_column(source.text, columns, column)
        # `{{ order-no }}` is two unknown columns, but one mistake.
        if written is None or written not in hinted:
            yield _unknown(source.key, column, columns, written)
        hinted.update([written] if written else [])


def _syntax_hint(line: str, columns: Sequence[str]) -> str:
    meant = written_column(line, columns)
    curly = next((c for c in "“”‘’" if c in line), "")
    if curly and meant is None:
        return f"Write straight quotes instead of {curly}."
    if meant := meant or nearest_written(line, columns):
        return _written_hint(meant)
    return "Write a column as {{ name }}, and the characters {{ as {{ '{{' }}."


def _written_hint(column: str) -> str:
    return f"Write {{{{ {column_expression(column)} }}}}."


def _truncation_problems(job: Job, columns: Sequence[str]) -> Iterator[Problem]:
    if not job.prompt.on_overflow.startswith("truncate"):
        return
    read, truncate = cuttable_columns(list(conversation_turns(job))), job.prompt.truncate_column
    cuttable = [column for column in read if column in columns]
    if job.input.columns.messages is not None:
        if truncate is not None:
            yield Problem(
                "prompt.truncate_column",
                "has no effect with a messages column, whose last user message is cut",
                "Remove the line.",
            )
    elif not cuttable:
        yield Problem(
            "prompt.on_overflow",
            "no text can be cut: the messages contain no column",
            "Set on_overflow to error or skip.",
        )
    elif truncate is not None and truncate not in cuttable:
        yield Problem(
            "prompt.truncate_column",
            f"column {truncate!r} is not part of the user message",
            f"Give one of: {', '.join(cuttable)}.",
        )


def _chat_problems(job: Job) -> Iterator[Problem]:
    prompt = job.prompt
    if prompt.messages and prompt.messages[-1].role == "assistant":
        yield Problem(
            f"prompt.messages.{len(prompt.messages) - 1}.role",
            "the last message is the assistant's",
            "End with the user's message, and put the start of the response in prompt.prefill.",
        )
    if prompt.chat_template not in ("auto", "none"):
        try:
            Path(prompt.chat_template).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            hint = "Give auto, none, or the path of a .jinja file, relative to the job file."
            yield Problem("prompt.chat_template", _file_words(error), hint)
    for name in sorted(RESERVED.intersection(prompt.chat_template_kwargs)):
        yield Problem(
            f"prompt.chat_template_kwargs.{name}", "is set by batchgen", "Remove the line."
        )


RESERVED = frozenset(
    (
        *("conversation", "conversations", "messages", "chat_template", "add_generation_prompt"),
        *("continue_final_message", "tokenize", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"),
        "sanitize_control_tokens",
    )
)
"""Parameters of `apply_chat_template`, which cannot be template variables."""


def _file_words(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, OSError):
        return f"cannot read {error.filename}: {error.strerror}"
    return f"not UTF-8 text (byte {error.start})"


def _unknown(key: str, column: str, columns: Sequence[str], written: str | None = None) -> Problem:
    if not columns:
        return Problem(
            key, "the input has no rows, and so no columns", "Check that it is complete."
        )
    meant = written or nearest_column(column, columns)
    shown = ", ".join(columns[:_SHOWN]) + (", …" if len(columns) > _SHOWN else "")
    hint = f"The input has: {shown}."
    in_template = key.startswith("prompt.")
    if meant and in_template and column_expression(meant) != meant:
        hint = _written_hint(meant)
    elif meant:
        hint = f"Did you mean {meant!r}? {hint}"
    elif in_template and column == ROW:
        hint = f'Write {{{{ {ROW}["name"] }}}} with the name of a column. {hint}'
    return Problem(key, f"column {column!r} is not in the input", hint)


_SHOWN = 40
