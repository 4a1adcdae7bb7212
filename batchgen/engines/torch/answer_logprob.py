"""Log-probability of a finished answer: the model's own forward over prompt and answer, without padding."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from batchgen.decoding.sampling import logprob
from batchgen.engines.torch.model import LoadedModel


@torch.inference_mode()
def mean_logprob(loaded: LoadedModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Mean natural log-probability of the answer's tokens, at least one, under the model's unmodified distribution."""
    logits = last_logits(loaded, [prompt], [answer[:-1]], len(answer))[0]
    tokens = torch.tensor(answer, device=loaded.device)
    return float(logprob(logits, tokens).double().mean())


@torch.inference_mode()
def last_logits(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    count: int,
) -> Tensor:
    """Logits of the last `count` positions of rows of one length: [rows, count, vocab] in the model's dtype."""

    def tensor(rows: list[list[int]]) -> Tensor:
        return torch.tensor(rows, device=loaded.device)

    both = zip(prompts, answers, strict=True)
    inputs: dict[str, Any] = {
        "input_ids": tensor([[*loaded.before_answer(prompt), *answer] for prompt, answer in both])
    }
    if loaded.encoder_decoder:
        inputs = {
            "input_ids": tensor([list(prompt) for prompt in prompts]),
            "decoder_input_ids": inputs["input_ids"],
        }
    if "logits_to_keep" in inspect.signature(loaded.model.forward).parameters:
        inputs["logits_to_keep"] = count
    logits: Tensor = loaded.model(**inputs, use_cache=False, return_dict=True).logits
    return logits[:, -count:]
