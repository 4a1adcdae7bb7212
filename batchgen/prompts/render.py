"""Renders a row's prompt: the templates or columns of the job, before the chat template."""

from collections.abc import Mapping

from batchgen.arrow.nested_column import value_at
from batchgen.errors import DataError
from batchgen.job.spec import Job
from batchgen.prompts.messages import read_messages
from batchgen.prompts.prompt_check import check_prompts
from batchgen.prompts.prompt_sources import conversation_turns, cuttable_columns
from batchgen.prompts.templates.authored_text import AuthoredText
from batchgen.prompts.templates.environment import TEXT_LIMIT
from batchgen.prompts.templates.sandbox import InvalidTemplateError, Template
from batchgen.records import Failure, Message, Prompt, Row

__all__ = ["PromptRenderer", "check_prompts"]


class PromptRenderer:
    """Renders the prompts of a job without problems in `check_prompts`.

    Attributes:
        columns: the input columns that are read, in the order of their first use; some may be paths (`value_at`).
        functions: names of functions in the templates; a column of the same name is read instead.
        user_columns: those that may be cut when a prompt is too long; empty with a messages column.
    """

    def __init__(self, job: Job) -> None:
        """Compile the templates.

        Raises:
            DataError: prompt.file cannot be read, or a template is invalid (`check_prompts` gives details).
        """
        self._messages_column = job.input.columns.messages
        try:
            self._turns = tuple(conversation_turns(job))
            given = job.prompt.prefill
            self._prefill = None if given is None else Template(given, "prompt.prefill")
        except (OSError, UnicodeDecodeError, InvalidTemplateError) as error:
            raise DataError(f"the prompt of job {job.name} cannot be used: {error}") from error
        texts = [turn.text for turn in self._turns] + ([self._prefill] if self._prefill else [])
        self.functions = tuple(dict.fromkeys(f for text in texts for f in text.functions))
        read = [c for turn in self._turns for c in turn.text.columns]
        read += self._prefill.columns if self._prefill else ()
        read += [self._messages_column] if self._messages_column is not None else []
        self.columns = tuple(dict.fromkeys(read))
        self.user_columns = cuttable_columns(self._turns)

    def render(self, row: Row) -> Prompt | Failure:
        """The row's prompt: at least one message, the last one not the assistant's."""
        messages = self._messages(row.fields)
        if isinstance(messages, Failure):
            return messages
        prefill = self._prefill.render(row.fields) if self._prefill else ""
        if isinstance(prefill, Failure):
            return prefill
        authored = prefill.spans if isinstance(prefill, AuthoredText) else ()
        prompt = Prompt(row.index, row.id, messages, str.__str__(prefill), authored)
        return _unfit(prompt) or prompt

    def _messages(self, fields: Mapping[str, object]) -> tuple[Message, ...] | Failure:
        if self._messages_column is not None:
            return read_messages(value_at(fields, self._messages_column), self._messages_column)
        messages: list[Message] = []
        for turn in self._turns:
            text = turn.text.render(fields)
            if isinstance(text, Failure):
                return text
            authored = text.spans if isinstance(text, AuthoredText) else ()
            messages.append(Message(turn.role, str.__str__(text), authored))
        return tuple(messages)


def _unfit(prompt: Prompt) -> Failure | None:
    texts = [*(m.content for m in prompt.messages), prompt.prefill]
    length = sum(map(len, texts))
    if length > TEXT_LIMIT:
        return Failure(
            "prompt_too_long", f"the prompt has {length:,} characters, more than {TEXT_LIMIT:,}"
        )
    if any(not text.isascii() and not _is_unicode(text) for text in texts):
        return Failure(
            "invalid_unicode", "the prompt contains a lone surrogate, which is not valid text"
        )
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
