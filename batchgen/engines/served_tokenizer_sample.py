"""The tokenizer of this machine, as it is compared with that of a model on a server."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from batchgen.job.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class TokenizerSample:
    """What the tokenizer of this machine does with some texts.

    Attributes:
        token_ids: of all parts of the vocabulary, those of `rendered_ids` among them.
        text: what `token_ids` mean.
        messages: role and content.
        rendered: the prompt of these messages, special tokens included; `rendered_ids` are its tokens.
    """

    token_ids: tuple[int, ...]
    text: str
    messages: tuple[tuple[str, str], ...]
    rendered: str
    rendered_ids: tuple[int, ...]


class CompareTokenizer(Protocol):
    """Compares the tokenizer of this machine with that of the model, where that is not on this machine."""

    def __call__(
        self, model: ModelSpec, sample: TokenizerSample, report: Callable[[str], None], /
    ) -> str:
        """How they differ, in a few words; empty if they do not. `model` has what `identify` found."""
