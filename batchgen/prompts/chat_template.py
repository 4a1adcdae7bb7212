"""Formats a conversation as one text: with the model's chat template, or by plain concatenation."""

import json
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from hashlib import sha256
from types import FrameType
from typing import Any, NoReturn, Protocol

from batchgen.prompts.pretrained_tokenizer import PretrainedTokenizer
from batchgen.prompts.templates.sandbox import RENDER_ERRORS
from batchgen.records import Failure, Prompt

SECONDS, SECONDS_EACH = 2.0, 0.02
"""Limit of CPU time of a chat template for a call, and for each conversation in it: the model's code is not trusted."""


class ConversationFormat(Protocol):
    """Converts a conversation to the text or the tokens of a prompt, up to the start of the response."""

    adds_special_tokens: bool
    """Whether the tokenizer adds its own tokens, such as BOS, around the text."""
    facts: Mapping[str, object]
    """Part of the generation fingerprint."""

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
        self._variables = variables
        self.facts: Mapping[str, object] = {
            "chat_template_sha256": sha256(template.encode()).hexdigest(),
            "chat_template_kwargs": dict(variables),
            **({"chat_template_date": today.isoformat()} if _TODAY in template else {}),
        }

    def render(self, prompts: Sequence[Prompt]) -> list[str | Failure]:
        plain = [k for k, prompt in enumerate(prompts) if not prompt.prefill]
        prefilled = [k for k, prompt in enumerate(prompts) if prompt.prefill]
        texts: dict[int, str | Failure] = {}
        try:
            texts.update(zip(plain, self._render_plain([prompts[k] for k in plain]), strict=True))
            filled = self._render_prefilled([prompts[k] for k in prefilled])
            texts.update(zip(prefilled, filled, strict=True))
        except RENDER_ERRORS as error:
            if len(prompts) == 1:
                return [Failure("template_error", self._words(error))]
            # One rejected conversation fails the whole call: find it.
            return [self.render([prompt])[0] for prompt in prompts]
        return [texts[k] for k in range(len(prompts))]

    def encode_as_text(self, prompt: Prompt) -> list[int]:
        end = prompt.prefill
        with limit_cpu_time(SECONDS):
            ids: list[int] = self._tokenizer.apply_chat_template(
                _conversation(prompt, end),
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

    def _render_plain(self, prompts: Sequence[Prompt]) -> list[str]:
        return self._apply([_conversation(p, "") for p in prompts], add_generation_prompt=True)

    def _render_prefilled(self, prompts: Sequence[Prompt]) -> list[str | Failure]:
        # Templates trim, split and move texts of the assistant, so they get a placeholder. The prefill replaces it
        # unchanged at the end of the text.
        conversations = [_conversation(p, _PLACE) for p in prompts]
        texts = self._apply(conversations, continue_final_message=True)
        return [
            text.removesuffix(_PLACE) + prompt.prefill if text.endswith(_PLACE) else _NO_PLACE
            for text, prompt in zip(texts, prompts, strict=True)
        ]

    def _apply(self, conversations: list[list[dict[str, str]]], **mode: bool) -> list[str]:
        if not conversations:
            return []
        with limit_cpu_time(SECONDS + SECONDS_EACH * len(conversations)):
            texts: list[str] = self._tokenizer.apply_chat_template(
                conversations,
                chat_template=self._template,
                tokenize=False,
                **mode,
                **self._variables,
            )
        return texts

    def _words(self, error: Exception) -> str:
        if isinstance(error, OutOfTimeError):
            return f"the chat template takes more than {SECONDS:g} s of processor time"
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


def _conversation(prompt: Prompt, begun: str) -> list[dict[str, str]]:
    turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
    return [*turns, {"role": "assistant", "content": begun}] if begun else turns


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
