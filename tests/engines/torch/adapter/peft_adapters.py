"""Adapters of tiny random models, made by peft: the reference for merging."""

import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from tests.engines.torch.tiny_models import tiny_model


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """A base model in `base`, an adapter in `folder`, and the model as peft runs it, unmerged."""

    base: Path
    folder: Path
    tuned: Any

    def logits(self, model: Any) -> torch.Tensor:
        ids = torch.arange(3, 30)[None]
        more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
        with torch.inference_mode():
            logits: torch.Tensor = model(input_ids=ids, **more).logits
        return logits


def make_adapter(
    folder: Path,
    family: str = "llama",
    *,
    tied: bool = False,
    dtype: torch.dtype = torch.float32,
    **config: Any,
) -> PeftAdapter:
    """Save a random adapter of a random model. `config` goes to peft's LoraConfig."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of tied weights and saved embeddings
        from peft import LoraConfig, get_peft_model

        model: Any = _base(family, tied=tied)
        model.to(dtype)
        model.save_pretrained(folder / "base")
        defaults: Mapping[str, Any] = {"r": 4, "lora_alpha": 8, "init_lora_weights": False}
        with torch.random.fork_rng():
            torch.manual_seed(1)
            tuned = get_peft_model(model, LoraConfig(**{**defaults, **config})).eval()
            _as_if_trained(tuned)
        tuned.save_pretrained(str(folder / "adapter"))
    return PeftAdapter(folder / "base", folder / "adapter", tuned)


def _base(family: str, *, tied: bool) -> PreTrainedModel:
    model = deepcopy(tiny_model(family, torch.float32))
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    return model


def _as_if_trained(tuned: torch.nn.Module) -> None:
    for name, parameter in tuned.named_parameters():
        if "magnitude" in name:
            parameter.data *= 1 + torch.rand_like(parameter)
        elif parameter.requires_grad and "lora_" not in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
