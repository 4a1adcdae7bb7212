"""Models on a device, in the engine or alone."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.model import LoadedModel, rope_switch
from batchgen.job.spec import Batching
from batchgen.records import Completion, ResolvedDecoding
from tests.engines.torch.tiny_models import VOCABULARY, by_row, prompts, spell, tiny_model

NEW_TOKENS = 6
GREEDY = ResolvedDecoding(max_new_tokens=NEW_TOKENS)
_PREFIX = [9, 8, 7, 6, 5, 4, 3] * 3
PROMPTS = [*prompts(4), [*_PREFIX, 11, 12], [*_PREFIX, 13]]


class StaticEngine(TorchEngine):
    """Without the continuous tier."""

    fastest_tier = "static"


def model_on(family: str, dtype: torch.dtype, device: torch.device) -> LoadedModel:
    """A tiny model of a family, with random weights that do not depend on the device."""
    return loaded_on(tiny_model(family, dtype), device)


def loaded_on(model: PreTrainedModel, device: torch.device) -> LoadedModel:
    """A copy of a model on a device."""
    there: Any = deepcopy(model)
    there = there.to(device)
    encoder_decoder = bool(there.config.is_encoder_decoder)
    return LoadedModel(
        there, device, there.dtype, encoder_decoder, VOCABULARY, rope_switch(there.config)
    )


def engine_of(
    loaded: LoadedModel, kind: type[TorchEngine] = TorchEngine, **batching: Any
) -> TorchEngine:
    return kind(loaded, batching=Batching(**batching), decode=spell, should_stop=lambda: False)


def tokens_of(completions: Iterable[Completion]) -> list[list[int]]:
    """The tokens of each row; fails if a row failed."""
    found: Mapping[int, Completion] = by_row(completions)
    failures = {row: one.failure for row, one in found.items() if one.failure}
    assert failures == {}
    return [list(found[row].token_ids) for row in sorted(found)]


def generated_alone(loaded: LoadedModel) -> list[list[int]]:
    """The answers of `generate` on the same device to each prompt alone."""
    config = GenerationConfig(do_sample=False, pad_token_id=0, max_new_tokens=NEW_TOKENS)
    untyped: Any = loaded.model
    answers = []
    for prompt in PROMPTS:
        made = untyped.generate(
            torch.tensor([prompt], device=loaded.device), generation_config=config
        )
        answers.append(made[0, 1 if loaded.encoder_decoder else len(prompt) :].tolist())
    return answers
