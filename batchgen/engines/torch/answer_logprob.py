"""Log-probability of a finished answer: the model's own forward over prompt and answer, without padding."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from batchgen.decoding.sampling import log_probabilities
from batchgen.decoding.upload import upload
from batchgen.engines.torch.completion_builder import LogprobCollector
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.token_chooser import record_most_likely
from batchgen.records import Completion, Request


@torch.inference_mode()
def with_logprobs(loaded: LoadedModel, request: Request, completion: Completion) -> Completion:
    """The completion with the log-probabilities that its request wants, from a forward of the answer's own."""
    if not request.decoding.logprobs or completion.failure is not None:
        return completion
    answer = completion.token_ids
    logits = last_logits(loaded, [request.token_ids], [answer[:-1]], len(answer))[0]
    table = log_probabilities(logits)
    tokens = upload(torch.tensor(answer), loaded.device)
    own = table.gather(1, tokens[:, None])[:, 0]
    collector = LogprobCollector()
    counts = [request.decoding.top_logprobs] * len(answer)
    values = zip(answer, own.tolist(), record_most_likely(logits, table, counts), strict=True)
    for token_id, logprob, likely in values:
        if likely is not None:
            collector.add(token_id, logprob, likely)
    mean = float(own.double().mean())
    return replace(completion, logprob_mean=mean, token_logprobs=collector.collected)


@torch.inference_mode()
def last_logits(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    count: int,
) -> Tensor:
    """Logits of the last `count` positions of rows of one length: [rows, count, vocab] in the model's dtype."""

    def tensor(rows: list[list[int]]) -> Tensor:
        return upload(torch.tensor(rows), loaded.device)

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
