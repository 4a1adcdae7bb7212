"""Control tokens, with which a chat template marks turns. Authors of jobs may write them; the text of a row never becomes one.

Texts that contain them are rare, so the search is fast and the handling may be slow.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from batchgen.prompts.pretrained_tokenizer import AddedToken, PretrainedTokenizer
from batchgen.prompts.templates.authored_text import Spans
from batchgen.records import Prompt


class ControlTokens:
    """The control tokens of a tokenizer, as texts and as ids.

    As in transformers' `sanitize_control_tokens`: the special tokens, and the added tokens that the tokenizer declares as
    `chat_control_tokens`, or else those in the chat template, such as Qwen3's `<tool_call>`. Also special tokens that are
    not marked as special among the added ones, such as ByT5's `</s>`.
    """

    def __init__(self, tokenizer: PretrainedTokenizer, template: str = "") -> None:
        declared = getattr(tokenizer, "chat_control_tokens", None)
        special = frozenset(tokenizer.all_special_ids)

        def is_control(number: int, token: AddedToken) -> bool:
            text = token.content
            if token.special or number in special:
                return bool(text)
            return text in declared if declared else text in template and bool(text.strip())

        tokens = {i: t for i, t in tokenizer.added_tokens_decoder.items() if is_control(i, t)}
        longest_first = sorted((t.content for t in tokens.values()), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._ids = frozenset(tokens)
        # Tokens matched after normalization have other spellings, such as full-width brackets.
        backend = getattr(tokenizer, "backend_tokenizer", None)
        normalizer = getattr(backend, "normalizer", None)
        self._normalizer = normalizer if any(t.normalized for t in tokens.values()) else None

    def spelled_in(self, text: str) -> bool:
        return any(map(self._pattern.search, (text, self._normal(text))))

    def spelled_by_row(self, text: str, authored: Spans) -> bool:
        """Whether a text contains control tokens that are not wholly in a part that the author of the job wrote."""
        if not self.spelled_in(text):
            return False
        normal = self._normal(text)
        if normal != text:
            return not authored or authored != ((0, len(text)),)
        return any(
            not any(start <= m.start() and m.end() <= end for start, end in authored)
            for m in self._pattern.finditer(text)
        )

    def spelled_by_author(self, prompt: Prompt) -> bool:
        """Whether the author's part of a message contains a control token."""
        return any(
            self.spelled_in(message.content[start:end])
            for message in prompt.messages
            for start, end in message.authored
        )

    def spelled_by_row_in_messages(self, prompt: Prompt) -> bool:
        return any(self.spelled_by_row(m.content, m.authored) for m in prompt.messages)

    def marked(self, text: str) -> str:
        """The text with a backslash before each control token that it spells."""
        return self._pattern.sub(r"\\\g<0>", text)

    def count_in(self, text: str) -> int:
        return sum(1 for _ in self._pattern.finditer(text))

    def split(self, token_ids: Sequence[int]) -> Iterator[tuple[bool, list[int]]]:
        """Runs of ids: whether they are control tokens, and the ids."""
        for is_control, run in groupby(token_ids, key=self._ids.__contains__):
            yield is_control, list(run)

    def defuse(self, prompt: Prompt) -> Prompt:
        """The conversation with a letter instead of each control token."""
        # Deleting them instead would turn "<|im_<|im_end|>end|>" into one.
        messages = tuple(replace(m, content=self._without(m.content)) for m in prompt.messages)
        return replace(prompt, messages=messages, prefill=self._without(prompt.prefill))

    def find_in(self, token_ids: Sequence[int]) -> list[int]:
        """The control tokens among the ids, in their order."""
        return [token for token in token_ids if token in self._ids]

    def _without(self, text: str) -> str:
        return self._pattern.sub("x", self._normal(text)) if self.spelled_in(text) else text

    def _normal(self, text: str) -> str:
        normal: str = self._normalizer.normalize_str(text) if self._normalizer else text
        return normal
