"""A tokenizer without a model: UTF-8 bytes, for `engine: echo` and for tests.

[system] bytes [end] [user] bytes [end] [assistant] bytes of the prefill
"""

import re
from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from batchgen.prompts.tokenize import ContinuedPrompt
from batchgen.records import Failure, Prompt, Role

END = 256
"""The id that ends a turn; bytes are 0 to 255."""
ROLE_IDS: Mapping[Role, int] = {"system": 257, "user": 258, "assistant": 259}
"""The ids that start a turn."""
_MARKS = {END: "<end>\n"} | {token: f"<{role}>" for role, token in ROLE_IDS.items()}


class ByteText:
    """Token ids to the text without the ids of turns; an `AnswerDecoder`."""

    special_tokens: Mapping[int, str] = MappingProxyType({})
    """None: the ids of turns have no name that a model's special token has."""

    def __call__(
        self, token_ids: Sequence[int], prompt: Sequence[int] = (), *, special: bool = False
    ) -> str:
        del prompt, special
        return _bytes(token_ids).decode(errors="replace")

    def decode_complete(self, token_ids: Sequence[int], prompt: Sequence[int] = ()) -> str:
        del prompt
        return getincrementaldecoder("utf-8")("replace").decode(_bytes(token_ids))

    def tokenizer_json(self) -> None:
        """None: bytes need none."""


class ByteTokenizer:
    """One token a byte, so that the text of a row cannot become a control token."""

    opens_reasoning = False
    bos_token_id = None
    facts: Mapping[str, object] = {"class": "ByteTokenizer", "version": 1}
    decode = ByteText()

    def encode(self, prompts: Sequence[Prompt]) -> list[list[int] | Failure]:
        return [_encode(prompt) for prompt in prompts]

    def encode_after(
        self, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]
    ) -> list[ContinuedPrompt | Failure]:
        return [
            ContinuedPrompt(_encode(prompt), [list(text.encode()) for text in after])
            for prompt, after in zip(prompts, texts, strict=True)
        ]

    def encode_labels(
        self, context: Sequence[int], labels: Sequence[str]
    ) -> Sequence[Sequence[int]]:
        del context
        return [list(label.encode()) for label in labels]

    def show(self, token_ids: Sequence[int]) -> str:
        shown: list[str] = []
        start = 0
        for place, token in enumerate(token_ids):
            if token >= END:
                shown += [_marked(self.decode(token_ids[start:place])), _MARKS[token]]
                start = place + 1
        return "".join([*shown, _marked(self.decode(token_ids[start:]))])


def _bytes(token_ids: Sequence[int]) -> bytes:
    return bytes(i for i in token_ids if i < END)


def _marked(text: str) -> str:
    """The text with a backslash before what only spells a mark."""
    return _SPELLED.sub(r"\\\g<0>", text)


_SPELLED = re.compile("|".join(re.escape(mark.strip()) for mark in _MARKS.values()))


def _encode(prompt: Prompt) -> list[int]:
    ids: list[int] = []
    for message in prompt.messages:
        ids.append(ROLE_IDS[message.role])
        ids += message.content.encode()
        ids.append(END)
    ids.append(ROLE_IDS["assistant"])
    ids += prompt.prefill.encode()
    return ids
