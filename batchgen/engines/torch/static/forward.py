"""Prefill and decode of a static batch, as tensors.

    prefill()         -> logits of each row's first new token
    decode(tokens)    -> logits of the next one
    select(rows)      removes finished rows

`static_runner.py` decides which rows run, which tokens are taken and when a row ends.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from batchgen.decoding.upload import upload
from batchgen.engines.torch.memory import cache_argument
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.static.cache import (
    is_joinable,
    is_recurrent,
    join_caches,
    select_rows,
    static_cache,
)

_FORWARD_COST_CPU = 64
_FORWARD_COST_GPU = 2048
"""Cost of another prefill, in tokens: reading the weights again, or launching a few hundred kernels."""
_PREFILL_TOKENS = 4096
"""Most tokens of one prefill of several rows: more is not faster, and the activations need memory."""


class CausalForward:
    """A decoder's forward with the arguments that its model accepts."""

    def __init__(self, loaded: LoadedModel, forward_cost: int | None = None) -> None:
        self._model = loaded.model
        self._config = loaded.model.config.get_text_config(decoder=True)
        self.device = loaded.device
        parameters = inspect.signature(self._model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._cache_argument = cache_argument(self._model)
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        empty = self.cache(0)
        self.joinable = is_joinable(empty)
        # State-space models mask padding in prefill only.
        self._state_space = is_recurrent(empty)
        default = _FORWARD_COST_CPU if loaded.device.type == "cpu" else _FORWARD_COST_GPU
        self.cost = default if forward_cost is None else forward_cost

    def cache(self, new_tokens: int) -> DynamicCache:
        return static_cache(self._config, new_tokens)

    @torch.inference_mode()
    def __call__(self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Cache) -> Tensor:
        """Run new tokens and add them to the cache.

        Args:
            ids: int64 [rows, new].
            mask: int64 [rows, past + new], 0 at padding; None when nothing is padded.
            positions: int64 [rows, new], without padding.
            cache: of the same rows; changed.

        Returns:
            Logits of the last position, [rows, vocab], in the model's dtype.
        """
        fresh = mask is None or mask.shape[1] == ids.shape[1]
        more: dict[str, Any] = {
            self._cache_argument: cache,
            "attention_mask": mask if fresh or not self._state_space else None,
            **self._last_only,
        }
        if self._takes_positions:
            more["position_ids"] = positions
        output = self._model(input_ids=ids, use_cache=True, return_dict=True, **more)
        logits: Tensor = output.logits[:, -1]
        return logits


class StaticBatch:
    """The rows of one batch on the device."""

    def __init__(
        self, forward: CausalForward, prompts: Sequence[Sequence[int]], new_tokens: int
    ) -> None:
        """`prompts`: longest first; their answers have at most `new_tokens` tokens."""
        self._forward = forward
        self._prompts = prompts
        self._new_tokens = new_tokens
        self._lengths = upload(torch.tensor([len(p) for p in prompts]), forward.device)
        self._cache = forward.cache(new_tokens)
        self._past = len(prompts[0])
        self._mask = _mask(self._lengths, self._past, new_tokens)
        self._padded = len(prompts[-1]) < len(prompts[0])

    @torch.inference_mode()
    def prefill(self) -> Tensor:
        caches, logits = [], []
        groups = self._groups()
        for first, last in groups:
            # Parts of a join are copied immediately: only the joined cache needs memory for the answers.
            cache = self._forward.cache(self._new_tokens if len(groups) == 1 else 0)
            logits.append(self._prefill(self._prompts[first:last], cache))
            caches.append(cache)
        self._cache = join_caches(caches, self._forward.cache(self._new_tokens))
        return torch.cat(logits)

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        """Append one token per row, int64 [rows]; returns logits [rows, vocab] of the next."""
        self._past += 1
        mask = self._mask[:, : self._past] if self._padded else None
        logits = self._forward(tokens[:, None], mask, self._lengths[:, None], self._cache)
        self._lengths = self._lengths + 1
        return logits

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        select_rows(self._cache, rows, self._forward.device)
        index = upload(torch.tensor(rows), self._forward.device)
        self._lengths = self._lengths[index]
        self._mask = self._mask[index]

    def _groups(self) -> list[tuple[int, int]]:
        lengths = [len(prompt) for prompt in self._prompts]
        if not self._forward.joinable:
            return [(0, len(lengths))]
        return group_by_length(lengths, self._forward.cost, _PREFILL_TOKENS)

    def _prefill(self, prompts: Sequence[Sequence[int]], cache: Cache) -> Tensor:
        longest = len(prompts[0])
        device = self._forward.device
        # Padding is the row's own first token: it adds no embedding with NaN.
        padded = torch.tensor([[p[0]] * (longest - len(p)) + list(p) for p in prompts])
        ids = upload(padded, device)
        mask = None
        positions = torch.arange(longest, device=device).expand(len(prompts), -1)
        if len(prompts[-1]) < longest:
            lengths = upload(torch.tensor([len(p) for p in prompts]), device)
            mask = _mask(lengths, longest, 0)
            positions = (positions - (longest - lengths)[:, None]).clamp(min=0)
        return self._forward(ids, mask, positions, cache)


def group_by_length(lengths: Sequence[int], padding: int, tokens: int) -> list[tuple[int, int]]:
    """Groups of rows that are padded to one length, as (first, last + 1).

    Args:
        lengths: of the prompts, longest first.
        padding: most padding of a group, in tokens.
        tokens: most tokens of a group of several rows, padding included.
    """
    groups: list[tuple[int, int]] = []
    first = padded = 0
    for row, length in enumerate(lengths):
        padded += lengths[first] - length
        full = (row - first + 1) * lengths[first] > tokens
        if row > first and (full or padded > padding):
            groups.append((first, row))
            first, padded = row, 0
    groups.append((first, len(lengths)))
    return groups


def _mask(lengths: Tensor, longest: int, new_tokens: int) -> Tensor:
    """int64 [rows, longest + new_tokens]: 0 at the padding on the left, 1 after it."""
    positions = torch.arange(longest + new_tokens, device=lengths.device)
    return (positions >= (longest - lengths)[:, None]).long()
