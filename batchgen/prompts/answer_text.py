r"""Token ids of an answer to its text, behind the prompt.

    prompt "def foo():\n"   answer [▁▁▁▁, return]      alone "   return"      behind the prompt "    return"

SentencePiece tokenizers write a space before each word and drop the first one of a text. An answer continues the text of
its prompt, so nothing of it may be dropped: it is decoded together with the last tokens of the prompt. An answer behind a
special token starts a text, and so does a message before which the chat template itself writes the space.
"""

from collections.abc import Mapping, Sequence
from copy import copy

from batchgen.prompts.pretrained_tokenizer import PretrainedTokenizer
from batchgen.records import AnswerDecoder

_TAIL = 16
"""Tokens of the prompt that are decoded before an answer."""
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LATER_BYTES = (0x80, 0x90, 0xA0)
"""Bytes that continue a character: after any first byte, one of them is valid."""


class AnswerText:
    """Token ids to the text of a response. Can be pickled, unlike chat templates."""

    def __init__(self, tokenizer: PretrainedTokenizer, message_start: str = "") -> None:
        """`message_start`: end of the prompts behind which the chat template writes a space of its own; empty: none."""
        self._tokenizer = tokenizer
        self._message_start = message_start
        added = tokenizer.added_tokens_decoder
        special = {i: token.content for i, token in added.items() if token.special}
        listed = {i: self._text([i], special=True) for i in tokenizer.all_special_ids}
        self.special_tokens: Mapping[int, str] = {
            i: name for i, name in {**listed, **special}.items() if name
        }
        self._later_bytes = [i for byte in _LATER_BYTES for i in self._byte_tokens(byte)]

    def __call__(
        self, token_ids: Sequence[int], prompt: Sequence[int] = (), *, special: bool = False
    ) -> str:
        tail = self._tail(prompt)
        # A character of several byte tokens, before which a broken one follows, is decoded as broken too: then the
        # text before it is the beginning.
        for end in range(len(tail), 0, -1):
            before = self._text(tail[:end], special=special)
            text = self._text([*tail[:end], *token_ids], special=special)
            if text.startswith(before):
                return text[len(before) :]
        return self._text(token_ids, special=special)

    def decode_complete(self, token_ids: Sequence[int], prompt: Sequence[int] = ()) -> str:
        text = self(token_ids, prompt)
        if not text.endswith(_REPLACEMENT):
            return text
        for first in self._later_bytes:
            for more in range(3):
                completed = self([*token_ids, first, *[self._later_bytes[0]] * more], prompt)
                if completed and not completed.endswith(_REPLACEMENT):
                    return completed[:-1]
        return text

    def tokenizer_json(self) -> str | None:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        backend = copy(backend)
        backend.no_padding()
        backend.no_truncation()
        text: str = backend.to_str()
        return text

    def _tail(self, prompt: Sequence[int]) -> list[int]:
        """The last tokens of the prompt; none if the answer starts a text."""
        tail = list(prompt[-_TAIL:])
        special = [n for n, token in enumerate(tail) if token in self.special_tokens]
        tail = tail[special[-1] + 1 :] if special else tail
        # A tail that begins inside a character may be decoded as broken as a whole.
        tail = next(
            (t for n in range(4) if not self._text(t := tail[n:]).startswith(_REPLACEMENT)), tail
        )
        if self._message_start and tail:
            shown = self._text(prompt[-_TAIL:], special=True)
            if shown.endswith(self._message_start):
                return []
        return tail

    def _byte_tokens(self, byte: int) -> list[int]:
        """The token of a byte: of byte-level BPE, or of SentencePiece with byte fallback."""
        # Byte-level BPE writes the bytes from 127 to 160 as the letters from U+0121 on.
        names = (chr(0x121 + byte - 127), f"<0x{byte:02X}>")
        ids = (self._tokenizer.convert_tokens_to_ids(name) for name in names)
        return [i for i in ids if isinstance(i, int) and self._text([i]) == _REPLACEMENT]

    def _text(self, token_ids: Sequence[int], *, special: bool = False) -> str:
        text: str = self._tokenizer.decode(
            token_ids,
            skip_special_tokens=not special,
            clean_up_tokenization_spaces=False,
            spaces_between_special_tokens=False,
        )
        return text


class TokenTexts:
    """The texts of single tokens within an answer, each decoded once: special tokens by name, U+FFFD for a part of a character."""

    def __init__(self, decode: AnswerDecoder) -> None:
        self._decode = decode
        self._texts: dict[int, str] = {}

    def __call__(self, token_id: int) -> str:
        text = self._texts.get(token_id)
        if text is None:
            # Behind itself, so that SentencePiece does not drop the space before a word.
            text = self._decode([token_id], [token_id], special=True)
            self._texts[token_id] = text
        return text
