"""Plain sorted `generate`, the baseline of `bench`. A run does not use it.

longest prompt first  ->  padded batches of 48  ->  model.generate, until the last row of a batch ends
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig

from batchgen.engines.torch.generate.call import group_by, pad_prompts
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.quiet import quiet
from batchgen.planning.batches import sort_by_length
from batchgen.records import Request, ResolvedDecoding

ROWS = 48
"""Rows of a batch: enough for two cores, and the number in published comparisons."""


@torch.inference_mode()
def sorted_generate(
    loaded: LoadedModel,
    requests: Sequence[Request],
    tokenizer: Any,  # noqa: ANN401  (a PreTrainedTokenizerBase: only `generate` uses it, for stop strings)
) -> list[int]:
    """Answer all requests; returns the number of new tokens of each, in the order of `requests`."""
    lengths: dict[tuple[int, int], int] = {}
    for alike in group_by(
        sort_by_length(requests), lambda one: repr(replace(one.decoding, max_new_tokens=0))
    ):
        for at in range(0, len(alike), ROWS):
            batch = alike[at : at + ROWS]
            answers = _call(loaded, batch, tokenizer).tolist()
            for request, tokens in zip(batch, answers, strict=True):
                lengths[request.index, request.sample] = answer_length(tokens, request.decoding)
    return [lengths[request.index, request.sample] for request in requests]


def answer_length(tokens: Sequence[int], decoding: ResolvedDecoding) -> int:
    """Number of tokens in a row's answer: up to its first end token, at most max_new_tokens."""
    ends = (at + 1 for at, token in enumerate(tokens) if token in decoding.end_token_ids)
    return min(next(ends, len(tokens)), decoding.max_new_tokens)


def _call(loaded: LoadedModel, batch: Sequence[Request], tokenizer: Any) -> Tensor:  # noqa: ANN401  (as above)
    """New tokens, int64 [rows, longest answer]; meaningless after a row's end."""
    inputs = pad_prompts(loaded, [request.token_ids for request in batch])
    decoding = batch[0].decoding
    stops = {"stop_strings": list(decoding.stop_strings), "tokenizer": tokenizer}
    with quiet():
        output: Tensor = cast(Any, loaded.model).generate(
            **inputs,
            generation_config=_config(decoding, max(r.decoding.max_new_tokens for r in batch)),
            **(stops if decoding.stop_strings else {}),
        )
    return output[:, 1 if loaded.encoder_decoder else inputs["input_ids"].shape[1] :]


def _config(decoding: ResolvedDecoding, most: int) -> GenerationConfig:
    ends = sorted(decoding.end_token_ids)
    sampling = {
        "do_sample": True,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": decoding.top_k,
        "min_p": decoding.min_p or None,
    }
    return GenerationConfig(
        max_new_tokens=most,
        min_new_tokens=decoding.min_new_tokens or None,
        repetition_penalty=decoding.repetition_penalty,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        num_beams=decoding.num_beams,
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
        **({"do_sample": False} if decoding.greedy else sampling),
        **dict(decoding.generation_kwargs),
    )
