"""How likely a model finds an answer that is already there: one forward over prompt and answer, unpadded."""

from collections.abc import Sequence
from typing import Any

import torch

from batchgen.decoding.sampling import logprob
from batchgen.engines.torch.model import LoadedModel


@torch.inference_mode()
def mean_logprob(loaded: LoadedModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Mean natural log-probability of the answer's tokens under the model's unmodified distribution.

    Args:
        loaded: the model.
        prompt: token ids before the answer.
        answer: at least one token id.
    """

    def row(token_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor([token_ids], device=loaded.device)

    before = loaded.before_answer(prompt)
    inputs: dict[str, Any] = {"input_ids": row([*before, *answer[:-1]])}
    if loaded.encoder_decoder:
        inputs = {"input_ids": row(prompt), "decoder_input_ids": inputs["input_ids"]}
    logits = loaded.model(**inputs, use_cache=False, return_dict=True).logits[0, -len(answer) :]
    tokens = torch.tensor(answer, device=loaded.device)
    return float(logprob(logits, tokens).double().mean())
