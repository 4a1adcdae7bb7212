"""The part of a transformers tokenizer that is used here, so that transformers need not be imported.

`PreTrainedTokenizerBase` has this shape with every backend.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class AddedToken(Protocol):
    """A token that is matched before the text is split."""

    content: str
    special: bool
    normalized: bool


class PretrainedTokenizer(Protocol):
    """A tokenizer of transformers; the options of its methods differ between versions."""

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """The `AddedToken` of each id."""

    @property
    def all_special_ids(self) -> Sequence[int]: ...

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def get_chat_template(self) -> Callable[..., str]:
        """Raises ValueError if there is none."""

    @property
    def apply_chat_template(self) -> Callable[..., Any]: ...

    @property
    def encode(self) -> Callable[..., list[int]]:
        """One text to token ids."""

    @property
    def convert_tokens_to_ids(self) -> Callable[[str], object]:
        """The name of a token to its id."""

    @property
    def decode(self) -> Callable[..., Any]: ...

    @property
    def __call__(self) -> Callable[..., Any]:
        """Many texts to token ids."""

    def __len__(self) -> int:
        """The number of tokens."""
