"""Encodes texts that may follow a prompt, from the tokens of the prompt."""

from collections.abc import Sequence

from batchgen.prompts.control_tokens import ControlTokens
from batchgen.prompts.pretrained_tokenizer import PretrainedTokenizer
from batchgen.records import AnswerDecoder

_TAIL = 32
"""Tokens of a prompt that decide how a label after it is encoded: those from its last special token on, at most so many."""
_LISTS = 4096
"""Lists of labels whose tokens are kept."""
_ANCHORS = ("\n", "x", ".", "=")
"""Texts behind which another text is encoded without the mark of a first word: one of them merges with no token of it."""


class TextBehindPrompt:
    """Encodes texts of which nothing is dropped or added."""

    def __init__(
        self, tokenizer: PretrainedTokenizer, decode: AnswerDecoder, control: ControlTokens
    ) -> None:
        self._tokenizer = tokenizer
        self._decode = decode
        self._control = control
        self._labels: dict[tuple[tuple[int, ...], tuple[str, ...]], list[list[int]]] = {}

    def encode(self, context: Sequence[int], text: str) -> list[int]:
        """The tokens of a text alone, without the space that some tokenizers write before the first word of a text."""
        alone = self._letters(text)
        if self._decode(alone, context) == text:
            return alone
        for anchor in _ANCHORS:
            before, both = self._letters(anchor), self._letters(anchor + text)
            rest = both[len(before) :]
            if both[: len(before)] == before and self._decode(rest, before) == text:
                return rest
        return alone

    def encode_labels(
        self, context: Sequence[int], labels: Sequence[str]
    ) -> Sequence[Sequence[int]]:
        """The tokens of each label, encoded together with the end of the prompt where that leaves its tokens as they are."""
        tail, names = tuple(context[-_TAIL:]), self._decode.special_tokens
        starts = [place for place, token in enumerate(tail) if token in names]
        key = tail[starts[-1] :] if starts else tail, tuple(labels)
        if key not in self._labels:
            if len(self._labels) >= _LISTS:
                self._labels.clear()
            self._labels[key] = [self._label(key[0], label) for label in labels]
        return self._labels[key]

    def _label(self, tail: Sequence[int], label: str) -> list[int]:
        if not self._control.spelled_in(label):
            text = self._tokenizer.decode(tail, clean_up_tokenization_spaces=False) + label
            together = self._tokenizer.encode(text, add_special_tokens=False)
            if together[: len(tail)] == list(tail):
                return together[len(tail) :]
        return self.encode(tail, label)

    def _letters(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
