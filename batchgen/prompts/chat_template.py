"""Formats a conversation as one text: with the model's chat template, or by plain concatenation."""

import json
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from functools import cached_property
from hashlib import sha256
from types import FrameType
from typing import Any, NoReturn, Protocol

from batchgen.prompts.pretrained_tokenizer import PretrainedTokenizer
from batchgen.prompts.templates.chat_environment import ChatTemplate
from batchgen.prompts.templates.sandbox import RENDER_ERRORS
from batchgen.prompts.templates.size_limits import RefusedError
from batchgen.records import Failure, Message, Prompt, Role

SECONDS = 2.0
"""Limit of CPU time where transformers itself renders a conversation, which happens after it was rendered within limits."""


class ConversationFormat(Protocol):
    """Converts a conversation to the text or the tokens of a prompt, up to the start of the response."""

    adds_special_tokens: bool
    """Whether the tokenizer adds its own tokens, such as BOS, around the text."""
    facts: Mapping[str, object]
    """Part of the generation fingerprint."""

    def drops(self, role: Role) -> bool:
        """Whether the text of a message of this role does not reach the prompt."""

    def render(self, prompts: Sequence[Prompt]) -> list[str | Failure]:
        """The texts in the order of the prompts, prefill included."""

    def encode_as_text(self, prompt: Prompt) -> list[int]:
        """Token ids; control tokens that the prompt itself contains are encoded as plain text.

        Raises:
            Exception: one of `RENDER_ERRORS`; the message may quote the prompt.
        """


class PlainFormat:
    """`chat_template: none`: the messages without marks, for base models."""

    adds_special_tokens = True
    facts: Mapping[str, object] = {"chat_template": "none"}

    def __init__(self, tokenizer: PretrainedTokenizer) -> None:
        self._tokenizer = tokenizer

    def drops(self, role: Role) -> bool:
        del role
        return False

    def render(self, prompts: Sequence[Prompt]) -> list[str | Failure]:
        return [_joined(prompt) for prompt in prompts]

    def encode_as_text(self, prompt: Prompt) -> list[int]:
        return self._tokenizer.encode(
            _joined(prompt), add_special_tokens=True, split_special_tokens=True
        )


class ChatFormat:
    """A chat template with a fixed date."""

    adds_special_tokens = False  # The template writes them; a second BOS would change the response.

    def __init__(
        self,
        tokenizer: PretrainedTokenizer,
        template: str,
        variables: Mapping[str, Any],
        today: date,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = hold_date(template, today)
        self._source, self._today = template, today
        self._variables = variables
        self._in_parts: frozenset[Role] = frozenset()
        for role in _TRIALS:
            self._give_parts(role)
        self.facts: Mapping[str, object] = {
            "chat_template_sha256": sha256(template.encode()).hexdigest(),
            "chat_template_kwargs": dict(variables),
            **({"chat_template_date": today.isoformat()} if _TODAY in template else {}),
            **({"content_parts": sorted(self._in_parts)} if self._in_parts else {}),
        }

    def _give_parts(self, role: Role) -> None:
        """Give the messages of a role as a list of parts if the template reads only that: it would drop a text."""
        before = self._in_parts
        if not self._holds(role):
            self._in_parts = before | {role}
            if not self._holds(role):
                self._in_parts = before

    def _holds(self, role: Role) -> bool:
        (text,) = self.render([Prompt(0, "", _TRIALS[role])])
        return isinstance(text, str) and _TRIAL_WORD in text.casefold()

    def drops(self, role: Role) -> bool:
        (text,) = self.render([Prompt(0, "", _TRIALS[role])])
        return isinstance(text, str) and _TRIAL_WORD not in text.casefold()

    def render(self, prompts: Sequence[Prompt]) -> list[str | Failure]:
        return [self._rendered(prompt) for prompt in prompts]

    def _rendered(self, prompt: Prompt) -> str | Failure:
        # Templates trim, split and move texts of the assistant, so they get a placeholder. The prefill replaces it
        # unchanged at the end of the text.
        place = _PLACE if prompt.prefill else ""
        try:
            text = self._compiled.render(
                {
                    **self._special_tokens,
                    **self._variables,
                    "messages": self._conversation(prompt, place),
                    "tools": None,
                    "documents": None,
                    "add_generation_prompt": not place,
                }
            )
        except (*RENDER_ERRORS, SyntaxError) as error:
            return Failure("template_error", self._words(error))
        if not place:
            return text
        before, found, _ = text.rpartition(place)
        return before + prompt.prefill if found else _NO_PLACE

    @cached_property
    def _compiled(self) -> ChatTemplate:
        return ChatTemplate(self._source, self._today)

    @cached_property
    def _special_tokens(self) -> Mapping[str, object]:
        tokens: Mapping[str, object] = getattr(self._tokenizer, "special_tokens_map", {})
        return {k: v if isinstance(v, list) else str(v) for k, v in tokens.items()}

    def encode_as_text(self, prompt: Prompt) -> list[int]:
        end = prompt.prefill
        with limit_cpu_time(SECONDS):
            ids: list[int] = self._tokenizer.apply_chat_template(
                self._conversation(prompt, end),
                chat_template=self._template,
                add_generation_prompt=not end,
                continue_final_message=bool(end),
                # Older versions of transformers treat this as a variable of the template and do nothing:
                # `ModelTokenizer` checks the result.
                sanitize_control_tokens=True,
                return_dict=False,
                **self._variables,
            )
        return ids

    def _conversation(self, prompt: Prompt, begun: str) -> list[dict[str, object]]:
        turns = [(m.role, m.content) for m in prompt.messages]
        last: list[tuple[Role, str]] = [("assistant", begun)] if begun else []
        return [{"role": role, "content": self._content(role, text)} for role, text in turns + last]

    def _content(self, role: Role, text: str) -> object:
        return [{"type": "text", "text": text}] if role in self._in_parts else text

    def _words(self, error: Exception) -> str:
        if isinstance(error, OutOfTimeError):
            return f"the chat template takes more than {SECONDS:g} s of processor time"
        if isinstance(error, RefusedError):
            return f"the chat template is refused: {error}"
        # A message of the template itself ("roles must alternate") helps, but others may quote the row.
        text = str(error)
        reason = text if text and text in self._template else type(error).__name__
        return f"the chat template rejects this conversation: {reason}"


_PLACE = "\ue000prefill\ue001"
_NO_PLACE = Failure(
    "template_error", "the chat template does not end with the text of prompt.prefill"
)


def _joined(prompt: Prompt) -> str:
    return "".join([*(message.content for message in prompt.messages), prompt.prefill])


_TRIAL_WORD = "batchgentrial"
_TRIALS: Mapping[Role, tuple[Message, ...]] = {
    "user": (Message("user", _TRIAL_WORD),),
    "system": (Message("system", _TRIAL_WORD), Message("user", "x")),
    "assistant": (Message("user", "x"), Message("assistant", _TRIAL_WORD), Message("user", "x")),
}
"""For each role, a conversation in which a message of it is the only one with this word."""


_TODAY = "strftime_now"


def hold_date(template: str, today: date) -> str:
    """The chat template with a `strftime_now` that returns midnight of `today`.

    The global of transformers reads the clock, so a row's prompt would change after midnight; a function passed as a
    variable arrives as a string. A macro of the same name at the start of the template hides the global.
    """
    if _TODAY not in template:
        return template
    midnight = datetime.combine(today, time.min)
    known = [
        f"%{flag}{letter}" for flag in ("", "-") for letter in "aAbBcdDeFGhHIjmMpRSTuUVwWxXyYzZ"
    ]
    filled = "".join(
        f" | replace({json.dumps(d)}, {json.dumps(midnight.strftime(d))})"
        for d in known
        if d in template
    )
    body = "{{ format | replace('%%', '\\0')" + filled + " | replace('\\0', '%') }}"
    # transformers trims the line break after the last tag, so the template starts exactly as it did.
    return f"{{%- macro {_TODAY}(format) -%}}{body}{{%- endmacro %}}\n{template}"


class OutOfTimeError(RuntimeError):
    """The block exceeded its CPU time."""


@contextmanager
def limit_cpu_time(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the block when it has used so much CPU time, which does not depend on the machine's load.

    Python handles signals in the main thread; in other threads there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _raise)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _raise(_number: int, _frame: FrameType | None) -> NoReturn:
    raise OutOfTimeError
