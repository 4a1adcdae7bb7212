"""Prompts to token ids: applies the chat template, and prevents the row's text from becoming control tokens.

`byte_tokenizer.py` is the tokenizer for runs without a model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from batchgen.errors import ModelError
from batchgen.job.spec import PromptSpec
from batchgen.prompts.answer_text import AnswerText
from batchgen.prompts.chat_template import ChatFormat, ConversationFormat, PlainFormat
from batchgen.prompts.control_tokens import ControlTokens
from batchgen.prompts.pretrained_tokenizer import PretrainedTokenizer
from batchgen.prompts.templates.columns import literal_texts
from batchgen.prompts.templates.sandbox import RENDER_ERRORS, Template
from batchgen.prompts.text_behind_prompt import TextBehindPrompt
from batchgen.records import AnswerDecoder, Failure, Message, Prompt, Role
from batchgen.think_tags import ends_inside_reasoning


@dataclass(frozen=True, slots=True)
class ContinuedPrompt:
    """Token ids of a prompt and of texts that may follow it.

    Attributes:
        context: as of `encode`.
        texts: for each text; empty for an empty text.
    """

    context: list[int]
    texts: list[list[int]]


class Tokenizer(Protocol):
    """Converts prompts to token ids, and ids to text."""

    @property
    def facts(self) -> Mapping[str, object]:
        """Plain values that identify tokenizer and chat format; part of the generation fingerprint."""

    @property
    def opens_reasoning(self) -> bool:
        """Whether prompts end inside an open think mark, so that the response starts as reasoning."""

    @property
    def bos_token_id(self) -> int | None:
        """The token before the first one of a text; None if the tokenizer has none."""

    def encode(self, prompts: Sequence[Prompt]) -> list[list[int] | Failure]:
        """The token ids of each prompt, in their order, up to the start of the response."""

    def encode_after(
        self, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]
    ) -> list[ContinuedPrompt | Failure]:
        """Each prompt with texts that may follow it, in their order.

        Prompt and text are encoded together, and the prompt's own tokens removed. If the result does not start with
        these (a token crosses the boundary), or the text contains a control token, the text is encoded alone, so that
        its tokens have exactly its characters.
        """

    def encode_labels(
        self, context: Sequence[int], labels: Sequence[str]
    ) -> Sequence[Sequence[int]]:
        """The token ids of short texts that may follow a prompt, from the tokens of the prompt; as `encode_after`."""

    @property
    def decode(self) -> AnswerDecoder:
        """Token ids to the text of a response."""

    def show(self, token_ids: Sequence[int]) -> str:
        """The text of a prompt, special tokens included. A backslash stands before text that only spells a special token."""


class ModelTokenizer:
    """A tokenizer of transformers with the chat template of the job.

    The text of a row never becomes a control token. The author of a job can write them in templates, and in a `prefill`
    such as `<think>`.
    """

    def __init__(self, tokenizer: PretrainedTokenizer, spec: PromptSpec, today: date) -> None:
        """Find and test the chat template.

        Args:
            tokenizer: a `PreTrainedTokenizerBase`. Its padding and truncation are switched off.
            spec: the job's prompt section.
            today: the date for chat templates.

        Raises:
            ModelError: there is no chat template, or it fails.
        """
        self._tokenizer = tokenizer
        self.bos_token_id = tokenizer.bos_token_id
        template = _chat_template(tokenizer, spec.chat_template)
        self._format: ConversationFormat = (
            PlainFormat(tokenizer)
            if template is None
            else ChatFormat(tokenizer, template, spec.chat_template_kwargs, today)
        )
        self._control = ControlTokens(tokenizer, template or "")
        prefill = spec.prefill or ""
        self._prefill_is_ours = not Template(prefill, "prompt.prefill").reads_row
        start = _try_out(self._format, prefill)
        self.opens_reasoning = ends_inside_reasoning(start + prefill)
        self.decode: AnswerDecoder = AnswerText(tokenizer, _spaced_start(self._format))
        self._behind = TextBehindPrompt(tokenizer, self.decode, self._control)
        self.facts: Mapping[str, object] = {
            "class": type(tokenizer).__name__,
            "vocabulary": len(tokenizer),
            **self._format.facts,
            **({"authored_control_tokens": True} if self._job_writes_tokens(spec) else {}),
        }
        for role in _roles(spec):
            if self._format.drops(role):
                raise ModelError(
                    f"the chat template drops the text of {role} messages",
                    hint="Set prompt.chat_template to another one.",
                )

    def _job_writes_tokens(self, spec: PromptSpec) -> bool:
        sources = [spec.system, spec.user, *(m.content for m in spec.messages or ())]
        sources += spec.turns or ()
        if spec.file is not None:
            sources.append(Path(spec.file).read_text("utf-8-sig"))
        texts = (text for source in sources if source for text in literal_texts(source))
        return any(self._control.spelled_in(text) for text in texts)

    def encode(self, prompts: Sequence[Prompt]) -> list[list[int] | Failure]:
        """As `Tokenizer.encode`.

        A prompt whose text would become control tokens is a Failure `control_tokens`; one that the chat template
        rejects is a Failure `template_error`.
        """
        hostile = [self._spells_control_tokens(prompt) for prompt in prompts]
        plain = [p for p, unsafe in zip(prompts, hostile, strict=True) if not unsafe]
        encoded = iter(self._encode_plain(plain))
        return [
            self._encode_hostile(prompt) if unsafe else next(encoded)
            for prompt, unsafe in zip(prompts, hostile, strict=True)
        ]

    def show(self, token_ids: Sequence[int]) -> str:
        text = self._decoded(token_ids)
        if self._control.count_in(text) == len(self._control.find_in(token_ids)):
            return text
        return "".join(
            self._decoded(run) if is_control else self._control.marked(self._decoded(run))
            for is_control, run in self._control.split(token_ids)
        )

    def _decoded(self, token_ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(token_ids, clean_up_tokenization_spaces=False)
        return text

    def encode_after(
        self, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]
    ) -> list[ContinuedPrompt | Failure]:
        contexts = self.encode(prompts)
        sound = [k for k, prompt in enumerate(prompts) if not self._spells_control_tokens(prompt)]
        rendered = dict(zip(sound, self._format.render([prompts[k] for k in sound]), strict=True))
        whole = {
            (k, text): before + text
            for k, before in rendered.items()
            if isinstance(before, str)
            for text in texts[k]
            if not self._control.spelled_in(text)
        }
        encoded = dict(zip(whole, self._encode_texts(list(whole.values())), strict=True))

        def after(k: int, context: list[int], text: str) -> list[int]:
            together = encoded.get((k, text), [])
            if together[: len(context)] == context:
                return together[len(context) :]
            return self._behind.encode(context, text)

        return [
            context
            if isinstance(context, Failure)
            else ContinuedPrompt(context, [after(k, context, text) for text in texts[k]])
            for k, context in enumerate(contexts)
        ]

    def encode_labels(
        self, context: Sequence[int], labels: Sequence[str]
    ) -> Sequence[Sequence[int]]:
        return self._behind.encode_labels(context, labels)

    def _spells_control_tokens(self, prompt: Prompt) -> bool:
        if self._control.spelled_by_row_in_messages(prompt):
            return True
        return not self._prefill_is_ours and self._control.spelled_by_row(
            prompt.prefill, prompt.prefill_authored
        )

    def _encode_plain(self, prompts: Sequence[Prompt]) -> list[list[int] | Failure]:
        texts = self._format.render(prompts)
        encoded = iter(self._encode_texts([t for t in texts if isinstance(t, str)]))
        return [next(encoded) if isinstance(text, str) else text for text in texts]

    def _encode_texts(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        special = self._format.adds_special_tokens
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=special)["input_ids"]
            return ids
        # All texts at once, on all cores, without the offsets and masks of the call above: a quarter faster.
        # A tokenizer file may set padding or truncation, which `__call__` also undoes.
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = False
        return [e.ids for e in backend.encode_batch_fast(texts, add_special_tokens=special)]

    def _encode_hostile(self, prompt: Prompt) -> list[int] | Failure:
        ours = self._prefill_is_ours and self._control.spelled_in(prompt.prefill)
        if ours or self._control.spelled_by_author(prompt):
            return _FORGED  # Encoded as text, it would differ from the tokens that the job writes.
        # Independent of the version of transformers: the row has forged no turn if and only if the prompt has the same
        # control tokens as the conversation without those texts.
        (harmless,) = self._encode_plain([self._control.defuse(prompt)])
        if isinstance(harmless, Failure):
            return harmless
        try:
            ids = self._format.encode_as_text(prompt)
        except RENDER_ERRORS:
            return _FORGED
        return ids if self._control.find_in(ids) == self._control.find_in(harmless) else _FORGED


_FORGED = Failure(
    "control_tokens",
    "the row contains control tokens of the model, which cannot be encoded as plain text",
)


def _roles(spec: PromptSpec) -> list[Role]:
    """The roles of the messages that the job writes."""
    system = spec.system is not None or any(m.role == "system" for m in spec.messages or ())
    return ["user", "system"] if system else ["user"]


def _chat_template(tokenizer: PretrainedTokenizer, choice: str) -> str | None:
    """The text of the chat template; None for `chat_template: none`."""
    if choice == "none":
        return None
    if choice != "auto":
        try:
            return Path(choice).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(
                f"the chat template {choice} cannot be read: {error}",
                hint="Set prompt.chat_template to auto, none, or the path of a .jinja file in UTF-8.",
            ) from error
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        raise ModelError(
            "the model's tokenizer has no chat template: it is a base model, or the file is missing",
            hint="Set prompt.chat_template: none to send plain text, or the path of a .jinja file.",
        ) from error


_WORD = "batchgen"


def _trial(chat: ConversationFormat, prefill: str) -> str | Failure:
    """The text of the format after a user's message, with the prefill."""
    (text,) = chat.render([Prompt(0, "", (Message("user", _WORD),), prefill)])
    return text if isinstance(text, Failure) else text.rpartition(_WORD)[2]


def _spaced_start(chat: ConversationFormat) -> str:
    """The last characters of prompts behind which the format writes a space before a message; empty if it writes none."""
    start, continued = _trial(chat, ""), _trial(chat, "x")
    return start[-8:] if isinstance(start, str) and continued == start + " x" else ""


def _try_out(chat: ConversationFormat, prefill: str) -> str:
    """The text of the format after the user's message, without the prefill."""
    text = _trial(chat, begun := "x" if prefill else "")
    if isinstance(text, Failure):
        raise ModelError(
            f"the chat template does not work with this job: {text.message}",
            hint="Set prompt.chat_template to another one, or remove prompt.prefill.",
        )
    return text.removesuffix(begun)
