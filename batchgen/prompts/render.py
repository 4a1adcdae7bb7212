"""Renders a row's prompt: the templates or columns of the job, before the chat template."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from batchgen.arrow.nested_column import value_at
from batchgen.errors import DataError
from batchgen.job.spec import Job
from batchgen.job.turn_columns import TURN
from batchgen.prompts.messages import read_messages, read_turns
from batchgen.prompts.prompt_check import check_prompts
from batchgen.prompts.prompt_sources import Turn, conversation_turns, cuttable_columns
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
        asks_later: whether a row is a turn, asked after the model's answers to those before it.
    """

    def __init__(self, job: Job) -> None:
        """Compile the templates.

        Raises:
            DataError: prompt.file cannot be read, or a template is invalid (`check_prompts` gives details).
        """
        self._messages_column = job.input.columns.messages
        self._turns_column = job.input.columns.turns
        self._replays = job.prompt.replay is not None
        self.asks_later = bool(job.prompt.turns or self._turns_column)
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
        read += [c for c in (self._messages_column, self._turns_column) if c is not None]
        read += [TURN] if self.asks_later or self._replays else []
        self.columns = tuple(dict.fromkeys(read))
        self.user_columns = cuttable_columns(self._turns)

    def render(self, row: Row, answers: Sequence[str] | None = None) -> Prompt | Failure:
        """The row's prompt: at least one message, the last one not the assistant's.

        `answers` are those to the earlier turns; None if they are not known: then they are empty.
        """
        prefill = self._prefill.render(row.fields) if self._prefill else ""
        if isinstance(prefill, Failure):
            return prefill
        authored = prefill.spans if isinstance(prefill, AuthoredText) else ()
        messages = self._messages(row.fields)
        if self.asks_later and not isinstance(messages, Failure):
            earlier = answers or [""] * (turn_of(row) - 1)
            begun = Message("assistant", str.__str__(prefill), authored)
            messages = _conversation(messages, earlier, begun)
        if isinstance(messages, Failure):
            return messages
        prompt = Prompt(row.index, row.id, messages, str.__str__(prefill), authored)
        return _unfit(prompt) or prompt

    def _messages(self, fields: Mapping[str, object]) -> tuple[Message, ...] | Failure:
        number = _turn(fields)
        if (column := self._messages_column) is not None:
            last = number if self._replays else None
            return read_messages(value_at(fields, column), column, last)
        messages: list[Message] = []
        for turn in self._asked(number):
            text = turn.text.render(fields)
            if isinstance(text, Failure):
                return text
            authored = text.spans if isinstance(text, AuthoredText) else ()
            messages.append(Message(turn.role, str.__str__(text), authored))
        if (column := self._turns_column) is not None:
            texts = read_turns(value_at(fields, column), column)
            if isinstance(texts, Failure):
                return texts
            messages += [Message("user", text) for text in texts[:number]]
        return tuple(messages)

    def _asked(self, number: int) -> Sequence[Turn]:
        """The messages with templates up to turn `number`: all of them in a job that does not ask turn by turn."""
        if not self.asks_later or self._turns_column is not None:
            return self._turns
        lead = [turn for turn in self._turns if turn.role == "system"]
        return self._turns[: len(lead) + number]


def turn_of(row: Row) -> int:
    """The number of the turn that a row is, from 1; 1 in a job without turns."""
    return _turn(row.fields)


def _turn(fields: Mapping[str, object]) -> int:
    turn = fields.get(TURN, 1)
    return turn if isinstance(turn, int) else 1


def _conversation(
    asked: Sequence[Message], answers: Sequence[str], begun: Message
) -> tuple[Message, ...]:
    """The messages of the user with the answers between them, each behind the prefill `begun`."""
    lead = [message for message in asked if message.role == "system"]
    users = asked[len(lead) :]
    spoken = [replace(begun, content=begun.content + answer) for answer in answers]
    pairs = (m for user, answer in zip(users, spoken, strict=False) for m in (user, answer))
    return (*lead, *pairs, users[-1])


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
