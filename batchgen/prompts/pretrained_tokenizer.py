"""What is used of a transformers tokenizer, so that nothing here has to import transformers.

`PreTrainedTokenizerBase` has this shape, whichever backend it runs on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class AddedToken(Protocol):
    """A token that is found in text as a whole, before the text is split."""

    content: str
    special: bool
    normalized: bool


class PretrainedTokenizer(Protocol):
    """A tokenizer of transformers. Its methods are described there; their options differ between versions."""

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """The `AddedToken` of each id."""

    @property
    def all_special_ids(self) -> Sequence[int]:
        """The ids of BOS, EOS and the like."""

    @property
    def get_chat_template(self) -> Callable[..., str]:
        """The text of the chat template; a ValueError where there is none."""

    @property
    def apply_chat_template(self) -> Callable[..., Any]:
        """Conversations to texts or token ids."""

    @property
    def encode(self) -> Callable[..., list[int]]:
        """One text to token ids."""

    @property
    def decode(self) -> Callable[..., Any]:
        """Token ids to one text."""

    @property
    def __call__(self) -> Callable[..., Any]:
        """Many texts to token ids."""

    def __len__(self) -> int:
        """How many tokens there are."""
