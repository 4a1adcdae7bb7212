"""One call of `model.generate` for several prompts, with only the given settings."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from batchgen.decoding.upload import upload
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.quiet import first_line, quiet
from batchgen.errors import ModelError

Item = TypeVar("Item")


def group_by(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Group items by key; groups are in the order of their first item."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


@torch.inference_mode()
def call_generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    config: Mapping[str, Any],
    *,
    processor: LogitsProcessor,
    criterion: StoppingCriteria,
) -> Tensor:
    """Generate for several prompts at once.

    Args:
        loaded: the model.
        prompts: token ids; padded on the left, for an encoder on the right.
        config: fields of `GenerationConfig`.
        processor: called last, after the processors for `config`.
        criterion: decides which rows are done.

    Returns:
        New tokens, int64 [rows, longest answer]; meaningless after a row's end.

    Raises:
        ModelError: the model or transformers does not support these settings.
    """
    inputs = pad_prompts(loaded, prompts)
    with quiet(), _translated(loaded):
        output: Tensor = cast(Any, loaded.model).generate(
            **inputs,
            generation_config=GenerationConfig(**{"pad_token_id": 0, **config}),
            logits_processor=LogitsProcessorList([processor]),
            stopping_criteria=StoppingCriteriaList([criterion]),
        )
    return output[:, 1 if loaded.encoder_decoder else inputs["input_ids"].shape[1] :]


def pad_prompts(loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Prompts as arguments of a forward: input_ids and attention_mask, int64 [rows, longest prompt]."""
    longest = max(map(len, prompts))
    gaps = [longest - len(prompt) for prompt in prompts]
    # Padding is the row's own first token: it adds no embedding with NaN.
    fill = [[prompt[0]] * gap for prompt, gap in zip(prompts, gaps, strict=True)]
    if loaded.encoder_decoder:
        ids = [[*p, *f] for p, f in zip(prompts, fill, strict=True)]
        mask = [[1] * (longest - gap) + [0] * gap for gap in gaps]
    else:
        ids = [[*f, *p] for p, f in zip(prompts, fill, strict=True)]
        mask = [[0] * gap + [1] * (longest - gap) for gap in gaps]
    return {
        "input_ids": upload(torch.tensor(ids), loaded.device),
        "attention_mask": upload(torch.tensor(mask), loaded.device),
    }


@contextmanager
def _translated(loaded: LoadedModel) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
        raise ModelError(
            f"{type(loaded.model).__name__}: generate does not support these settings: {first_line(error)}",
            hint="Check decoding.generation_kwargs and decoding.num_beams: not every model supports every setting.",
        ) from error
