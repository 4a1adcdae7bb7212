"""A conversation with a job's model: its turns, and the commands that change them."""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchgen.chat.live_model import LiveModel, Show, open_live_model
from batchgen.chat.try_rows import find_row
from batchgen.errors import BatchgenError
from batchgen.jobfile.load import LoadedJob
from batchgen.records import Failure, Message

Load = Callable[[Sequence[str]], LoadedJob]
"""Loads the job with overrides, `KEY=VALUE` each."""
HELP = {
    "/row ID": "start with the prompt of a row of the job",
    "/system TEXT": "set the system message, and start again",
    "/set KEY VALUE": "change the job, such as /set decoding.temperature 0.7",
    "/retry": "answer the last message again",
    "/undo": "remove the last message and its answer",
    "/new": "start again",
    "/save FILE": "append the conversation to FILE (prompt.replay reads it)",
    "/show prompt": "show what the model received",
    "/help": "list these commands",
    "/quit": "end",
}


@dataclass
class Conversation:
    """The turns so far, and the model that answers.

    Attributes:
        load: loads the job again, for `/set`.
        show: receives the pieces of an answer.
        report: receives a line for the user.
        messages: the system message, if any, then user and assistant in turn.
        overrides: those of `/set`.
        attempts: answers to the last message, each of which has a seed of its own.
    """

    model: LiveModel
    load: Load
    show: Show
    report: Callable[[str], None]
    messages: list[Message] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    attempts: int = 0

    def __post_init__(self) -> None:
        self._new("")

    def hold(self, lines: Iterable[str]) -> None:
        """Take lines until the command that ends the conversation."""
        for line in lines:
            if not self.take(line):
                return

    def close(self) -> None:
        """Free the model."""
        self.model.close()

    def take(self, line: str) -> bool:
        """Answer a line, or carry out a command; False for the command that ends the conversation."""
        if not line.startswith("/"):
            if line.strip():
                self._ask(Message("user", line))
            return True
        name, _, argument = line.partition(" ")
        if name in ("/quit", "/exit"):
            return False
        command = self._commands.get(name)
        if command is None:
            self.report(f"unknown command {name}; /help lists them")
            return True
        try:
            command(argument.strip())
        except BatchgenError as error:
            self.report(str(error))
        except OSError as error:
            self.report(f"{error.filename}: {error.strerror}")
        return True

    @property
    def _commands(self) -> Mapping[str, Callable[[str], None]]:
        return {
            "/row": self._row,
            "/system": self._system,
            "/set": self._set,
            "/retry": self._retry,
            "/undo": self._undo,
            "/new": self._new,
            "/save": self._save,
            "/show": self._show_prompt,
            "/help": self._help,
        }

    def _ask(self, message: Message) -> bool:
        """Answer a message; False, without the message, if that failed."""
        self.messages.append(message)
        self.attempts = 0
        if answered := self._answer():
            return answered
        self.messages.pop()
        return False

    def _answer(self) -> bool:
        """Answer the last message; False if that failed."""
        request = self.model.encode(self.messages, self.attempts)
        if isinstance(request, Failure):
            self.report(f"{request.code}: {request.message}\n  Use /undo or /new.")
            return False
        self.attempts += 1
        answer = self.model.answer(request, self.show)
        self.show("\n")
        if answer.failure is not None:
            self.report(f"{answer.failure.code}: {answer.failure.message}")
            return False
        self.messages.append(Message("assistant", answer.text))
        if answer.finish_reason != "stop":
            end = answer.finish_reason or "stopped"
            self.report(f"({end} after {answer.tokens:,} tokens)")
        return True

    def _row(self, id_: str) -> None:
        """Ask the row; of a conversation each turn up to the one with the id, behind the model's own answers."""
        tried = find_row(self.model, id_)
        row = self.model.setup.request_builder.prepare_rows(tried.rows[-1:], tried.failures)[0]
        if row.prompt is None:
            failure = row.decoding
            self.report(
                failure.message if isinstance(failure, Failure) else "the row has no prompt"
            )
            return
        asked = _turns(row.prompt.messages) if len(tried.rows) > 1 else [row.prompt.messages]
        self.messages = []
        for *lead, last in asked:
            for message in (*lead, last):
                self.report(f"{message.role}: {message.content}")
            self.messages += lead
            if not self._ask(last):
                return

    def _system(self, text: str) -> None:
        self._begin(text)
        self.report("the system message is set" if text else "without a system message")

    def _begin(self, system: str) -> None:
        self.messages = [Message("system", system)] if system else []

    def _set(self, argument: str) -> None:
        key, _, value = argument.partition(" ")
        if not key or not value.strip():
            self.report("expected /set KEY VALUE, such as /set decoding.temperature 0.7")
            return
        overrides = [*self.overrides, f"{key}={value.strip()}"]
        loaded = self.load(overrides)
        model = self.model.with_job(loaded)
        if model is None:
            self.model.close()
            model = open_live_model(loaded)
        self.model, self.overrides = model, overrides
        self.report(f"{key} is {value.strip()}")

    def _retry(self, _argument: str) -> None:
        if self.messages and self.messages[-1].role == "assistant":
            removed = self.messages.pop()
            if not self._answer():
                self.messages.append(removed)
        else:
            self.report("no message is answered")

    def _undo(self, _argument: str) -> None:
        while self.messages and self.messages[-1].role == "assistant":
            self.messages.pop()
        if self.messages and self.messages[-1].role == "user":
            self.messages.pop()
        turns = sum(message.role == "user" for message in self.messages)
        self.report(f"messages of yours that are left: {turns}")

    def _new(self, _argument: str) -> None:
        system = self.model.setup.job.prompt.system or ""
        # A template with variables needs a row: /row gives one.
        self._begin("" if "{{" in system or "{%" in system else system)

    def _save(self, argument: str) -> None:
        names = shlex.split(argument)
        if len(names) != 1:
            self.report("expected /save FILE, such as /save conversations.jsonl")
            return
        if not any(message.role == "user" for message in self.messages):
            self.report("nothing to save: no message was sent yet")
            return
        turns = [{"role": one.role, "content": one.content} for one in self.messages]
        with Path(names[0]).expanduser().open("a", encoding="utf-8") as opened:
            opened.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
        self.report(f"messages appended to {names[0]}: {len(turns)}")

    def _show_prompt(self, _argument: str) -> None:
        asked = list(self.messages)
        while asked and asked[-1].role == "assistant":
            asked.pop()
        request = self.model.encode(asked)
        if isinstance(request, Failure):
            self.report(f"{request.code}: {request.message}")
        else:
            self.report(self.model.setup.tokenizer.show(request.token_ids))

    def _help(self, _argument: str) -> None:
        width = max(map(len, HELP))
        for command, meaning in HELP.items():
            self.report(f"  {command:<{width}}  {meaning}")


def _turns(messages: Sequence[Message]) -> list[list[Message]]:
    """The messages that come before each answer: those of a conversation without its own, empty answers."""
    asked: list[list[Message]] = [[]]
    for message in messages:
        if message.role == "assistant":
            asked.append([])
        else:
            asked[-1].append(message)
    return asked
