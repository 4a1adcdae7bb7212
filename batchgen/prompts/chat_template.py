"""How a conversation becomes one text: through the model's chat template, or plainly, one text after the other.

Knows nothing of batches of rows, limits or control tokens in them.
"""

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
"""Most processor time that a chat template may take for a call, and for each conversation in it: it is the model's."""


class ConversationFormat(Protocol):
    """A way from a conversation to the text or the tokens of a prompt, up to where the answer starts."""

    adds_special_tokens: bool
    """Whether the tokenizer adds its own tokens, such as BOS, around the text."""
    facts: Mapping[str, object]
    """What decides the text: part of the generation fingerprint."""

    def render(self, prompts: Sequence[Prompt]) -> list[str | Failure]:
        """The text of each prompt, in their order, prefill included."""

    def encode_as_text(self, prompt: Prompt) -> list[int]:
        """Token ids, where control tokens that the prompt itself spells out are encoded as plain text.

        Raises:
            Exception: one of `RENDER_ERRORS`; the message may quote the prompt.
        """


class PlainFormat:
    """`chat_template: none`: the messages as they are, for models that continue a text."""

    adds_special_tokens = True
    facts: Mapping[str, object] = {"chat_template": "none"}

    def __init__(self, tokenizer: PretrainedTokenizer) -> None:
        self._tokenizer = tokenizer

    def render(self, prompts: Sequence[Prompt]) -> list[str | Failure]:
        """The text of each prompt, in their order, prefill included."""
        return [_joined(prompt) for prompt in prompts]

    def encode_as_text(self, prompt: Prompt) -> list[int]:
        """Token ids, special tokens that the text spells out being plain text."""
        return self._tokenizer.encode(
            _joined(prompt), add_special_tokens=True, split_special_tokens=True
        )


class ChatFormat:
    """A chat template, with the date it may ask for held still."""

    adds_special_tokens = False  # The template writes them: a second BOS would change the answer.

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
        """The text of each prompt, in their order, prefill included."""
        asked = [k for k, prompt in enumerate(prompts) if not prompt.prefill]
        begun = [k for k, prompt in enumerate(prompts) if prompt.prefill]
        texts: dict[int, str | Failure] = {}
        try:
            texts.update(zip(asked, self._ask([prompts[k] for k in asked]), strict=True))
            texts.update(zip(begun, self._begin([prompts[k] for k in begun]), strict=True))
        except RENDER_ERRORS as error:
            if len(prompts) == 1:
                return [Failure("template_error", self._words(error))]
            # One conversation that the template refuses fails the call for all: find it.
            return [self.render([prompt])[0] for prompt in prompts]
        return [texts[k] for k in range(len(prompts))]

    def encode_as_text(self, prompt: Prompt) -> list[int]:
        """Token ids, control tokens that the conversation spells out being plain text."""
        end = prompt.prefill
        with limit_cpu_time(SECONDS):
            ids: list[int] = self._tokenizer.apply_chat_template(
                _conversation(prompt, end),
                chat_template=self._template,
                add_generation_prompt=not end,
                continue_final_message=bool(end),
                # Older versions of transformers take this for a variable of the template and do nothing:
                # `ModelTokenizer` checks what came out.
                sanitize_control_tokens=True,
                return_dict=False,
                **self._variables,
            )
        return ids

    def _ask(self, prompts: Sequence[Prompt]) -> list[str]:
        return self._apply([_conversation(p, "") for p in prompts], add_generation_prompt=True)

    def _begin(self, prompts: Sequence[Prompt]) -> list[str | Failure]:
        # A word of ours holds the place of the prefill, because templates trim, split and move what assistants
        # said; the prefill itself then stands at the very end as it was written.
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
        # A template's own message ("roles must alternate") helps, but others may quote the row.
        if isinstance(error, OutOfTimeError):
            return f"the chat template takes more than {SECONDS:g} s of processor time"
        said = str(error)
        reason = said if said and said in self._template else type(error).__name__
        return f"the chat template refuses this conversation: {reason}"


_PLACE = "\ue000prefill\ue001"
_NO_PLACE = Failure(
    "template_error", "the chat template has no place for prompt.prefill at the end of the prompt"
)


def _joined(prompt: Prompt) -> str:
    return "".join([*(message.content for message in prompt.messages), prompt.prefill])


def _conversation(prompt: Prompt, begun: str) -> list[dict[str, str]]:
    turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
    return [*turns, {"role": "assistant", "content": begun}] if begun else turns


_TODAY = "strftime_now"


def hold_date(template: str, today: date) -> str:
    """The chat template, with `strftime_now` answering for midnight of `today`.

    transformers offers the function to templates as a global that reads the clock, so that the same row asks
    something else after midnight; passed as a variable, a function arrives as a string. A macro of the same name at
    the head of the template hides the global for this template alone, and nothing has to be patched.
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
    """The block took more processor time than it may."""


@contextmanager
def limit_cpu_time(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError once the block has used so much processor time of this process, between two steps of Python.

    Not by the clock: a busy machine makes nothing fail. Signals belong to the main thread: elsewhere there is no limit.
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
