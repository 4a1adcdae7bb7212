"""The answer to a request with labels, from the likelihoods of these: the most likely label, or a sampled one."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from batchgen.decoding.rng import uniforms
from batchgen.records import Completion, Failure, Likelihood, Request, ResolvedDecoding
from batchgen.structured.disjoint_labels import deciding_tokens, disjoint_logprobs
from batchgen.structured.label_choice import labels_of

NO_LABEL = Failure(
    "grammar_stuck",
    "no label of decoding.response_format.choice is possible: all have probability 0",
)


def scored_tokens(request: Request) -> Sequence[Sequence[int]]:
    """Of each label, the tokens whose likelihood `label_answer` needs: all of them only for the answer's own log-probability."""
    return request.label_tokens if request.decoding.logprobs else _deciding(request)


def _deciding(request: Request) -> Sequence[tuple[int, ...]]:
    return _deciding_of(tuple(map(tuple, request.label_tokens)))


_deciding_of = lru_cache(1024)(deciding_tokens)


def label_answer(request: Request, likelihoods: Sequence[Likelihood]) -> Completion:
    """The answer to a request from the likelihoods of the `scored_tokens` of its labels, in their order."""
    key = request.index, request.sample
    failure = next((one.failure for one in likelihoods if one.failure), None)
    logprobs: list[float] = []
    if failure is None:
        deciding = _deciding(request)
        pairs = zip(likelihoods, deciding, strict=True)
        totals = [math.fsum(one.logprobs[: len(ids)]) for one, ids in pairs]
        logprobs = disjoint_logprobs(totals, deciding)
        failure = NO_LABEL if max(logprobs) == -math.inf else None
    if failure is not None:
        return Completion(*key, (), "", "error", failure=failure)
    decoding = request.decoding
    chosen = choose_label(logprobs, decoding, request.seed)
    tokens = request.label_tokens[chosen]
    return Completion(
        *key,
        tokens,
        labels_of(decoding)[chosen],
        "stop",
        likelihoods[chosen].total / len(tokens) if decoding.logprobs else None,
        label_logprobs=tuple(logprobs),
    )


def choose_label(logprobs: Sequence[float], decoding: ResolvedDecoding, seed: int) -> int:
    """The place of the label: the most likely one, the first of equal ones; or one that is sampled with the settings."""
    best = max(logprobs)
    if decoding.greedy:
        return logprobs.index(best)
    weights = {
        place: math.exp((one - best) / decoding.temperature) for place, one in enumerate(logprobs)
    }
    kept = _kept(weights, decoding)
    number = float(uniforms(np.array([seed], np.uint64), np.array([0]))[0])
    left = number * math.fsum(weights[place] for place in kept)
    for place in kept:
        left -= weights[place]
        if left < 0:
            return place
    return kept[-1]


def _kept(weights: Mapping[int, float], decoding: ResolvedDecoding) -> list[int]:
    """The places that top_k, top_p and min_p keep, in order; each works on what the one before keeps, as for tokens."""
    order = sorted((place for place in weights if weights[place]), key=lambda one: -weights[one])
    if decoding.top_k:
        order = order[: decoding.top_k]
    if decoding.top_p < 1:
        enough, total = decoding.top_p * math.fsum(weights[one] for one in order), 0.0
        for count, place in enumerate(order, start=1):
            total += weights[place]
            if total >= enough:
                order = order[:count]
                break
    return sorted(place for place in order if weights[place] >= decoding.min_p)
