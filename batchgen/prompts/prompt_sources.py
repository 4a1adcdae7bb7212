"""The sources of a job's prompts: templates in the job, a template file, or a column."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batchgen.arrow.nested_column import value_at
from batchgen.job.spec import Job
from batchgen.prompts.templates.sandbox import Template, printed
from batchgen.prompts.templates.size_limits import RefusedError
from batchgen.records import Failure, Role


class PromptText(Protocol):
    """A text of each row: from a template, or a column.

    Attributes:
        columns: that it reads.
        functions: names of functions that it reads as columns if the input has them.
    """

    columns: tuple[str, ...]
    functions: tuple[str, ...]

    def render(self, fields: Mapping[str, object]) -> str | Failure: ...


class ColumnText:
    """The text of a column."""

    functions: tuple[str, ...] = ()

    def __init__(self, column: str) -> None:
        self.columns: tuple[str, ...] = (column,)

    def render(self, fields: Mapping[str, object]) -> str | Failure:
        """The text of a template `{{ column }}`."""
        (column,) = self.columns
        value = value_at(fields, column)
        if value is None:
            return Failure("prompt_null", f"column {column!r} is null")
        try:
            return printed(value)
        except RefusedError as error:
            return Failure("template_error", f"column {column!r}: {error}")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of every row's conversation."""

    role: Role
    text: PromptText


@dataclass(frozen=True, slots=True)
class PromptSource:
    """The text of a template, and its key in the job."""

    key: str
    role: Role
    text: str


def prompt_sources(job: Job) -> Iterator[PromptSource]:
    """The message templates of a job, in the order of the turns.

    Raises:
        OSError, UnicodeDecodeError: prompt.file cannot be read as UTF-8.
    """
    prompt = job.prompt
    if prompt.system is not None:
        yield PromptSource("prompt.system", "system", prompt.system)
    if prompt.user is not None:
        yield PromptSource("prompt.user", "user", prompt.user)
    if prompt.file is not None:
        yield PromptSource("prompt.file", "user", Path(prompt.file).read_text("utf-8-sig"))
    for number, message in enumerate(prompt.messages or ()):
        yield PromptSource(f"prompt.messages.{number}.content", message.role, message.content)
    for number, text in enumerate(prompt.turns or ()):
        yield PromptSource(f"prompt.turns.{number}", "user", text)


def conversation_turns(job: Job) -> Iterator[Turn]:
    """The messages of a job's prompts that have templates, in order; none with a messages column.

    Raises:
        OSError, UnicodeDecodeError: prompt.file cannot be read as UTF-8.
        InvalidTemplateError: a text is not a template.
    """
    for source in prompt_sources(job):
        yield Turn(source.role, Template(source.text, source.key))
    if job.input.columns.prompt is not None:
        yield Turn("user", ColumnText(job.input.columns.prompt))


def cuttable_columns(turns: Sequence[Turn]) -> tuple[str, ...]:
    """The columns that may be cut: of the user's messages, or of all messages if those have none.

    The input need not have all of them: some may be names of functions.
    """
    read = [(turn.role, (*turn.text.columns, *turn.text.functions)) for turn in turns]
    user = [column for role, columns in read if role == "user" for column in columns]
    return tuple(dict.fromkeys(user or (c for _, columns in read for c in columns)))
