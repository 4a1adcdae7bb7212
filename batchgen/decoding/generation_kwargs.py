"""`GenerationConfig` fields that batchgen has no key for: which ones `decoding.generation_kwargs` takes.

The lists are checked against the installed transformers by a test: each field of `GenerationConfig` stands in
exactly one of them. They are written out here so that `validate` need not import transformers.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from batchgen.errors import Problem
from batchgen.job.spec import Decoding

ANY_MODE: Final = frozenset(
    {
        "bad_words_ids",
        "begin_suppress_tokens",
        "cache_config",
        "cache_implementation",
        "encoder_no_repeat_ngram_size",
        "encoder_repetition_penalty",
        "exponential_decay_length_penalty",
        "guidance_scale",
        "prefill_chunk_size",
        "remove_invalid_values",
        "renormalize_logits",
        "sequence_bias",
        "suppress_tokens",
        "watermarking_config",
    }
)
"""These do something however tokens are chosen."""

SAMPLING: Final = frozenset({"epsilon_cutoff", "eta_cutoff", "top_h", "typical_p"})
"""These do something only where tokens are drawn."""

BEAMS: Final = frozenset({"early_stopping"})
"""These do something only in beam search."""

ACCEPTED_KWARGS: Final = ANY_MODE | SAMPLING | BEAMS

OWN_KEYS: Final = {
    "eos_token_id": "every end token that tokenizer, config and generation_config name counts already",
    "max_length": "use decoding.max_new_tokens",
    "min_length": "use decoding.min_new_tokens",
}
"""Fields that batchgen decides by another name, and what to do. The schema refuses those of the same name."""

NEUTRAL: Final[dict[str, object]] = {
    "constraints": None,
    "diversity_penalty": 0.0,
    "dola_layers": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "force_words_ids": None,
    "guidance_scale": 1.0,
    "min_length": 0,
    "num_beam_groups": 1,
    "penalty_alpha": 0.0,
    "typical_p": 1.0,
}
"""Values that switch a field off, beside None, false and an empty list."""

REFUSED_KWARGS: Final = {
    "constraints": "transformers has dropped constrained beam search",
    "diversity_penalty": "transformers has dropped group beam search",
    "dola_layers": "transformers has dropped DoLa decoding",
    "force_words_ids": "transformers has dropped constrained beam search",
    "low_memory": "transformers has dropped contrastive search",
    "num_beam_groups": "transformers has dropped group beam search",
    "penalty_alpha": "transformers has dropped contrastive search",
    "max_time": "what an answer says would depend on how fast the machine is",
    "token_healing": "it rewrites the prompt",
    "forced_bos_token_id": "it acts on encoder-decoder models only",
    "forced_eos_token_id": "a forced end token says nothing about the answer; finish_reason tells its end",
    "decoder_start_token_id": "it acts on encoder-decoder models only",
    "bos_token_id": "the prompt's first token is the chat template's and the tokenizer's",
    "pad_token_id": "padding never changes an answer",
    "use_cache": "it does not change an answer, only slows it",
    "max_cache_len": "it does not change an answer",
    "compile_config": "it does not change an answer",
    "disable_compile": "it does not change an answer",
    "continuous_batching_config": "batches are the engine's own",
    "output_attentions": "nothing would read it",
    "output_hidden_states": "nothing would read it",
    "output_logits": "nothing would read it; decoding.logprobs writes the mean log-probability",
    "output_scores": "nothing would read it; decoding.logprobs writes the mean log-probability",
    "return_dict_in_generate": "nothing would read it",
    "transformers_version": "it is a record, not a setting",
} | dict.fromkeys(
    (
        "assistant_confidence_threshold",
        "assistant_early_exit",
        "assistant_ensemble_weight",
        "assistant_lookbehind",
        "is_assistant",
        "max_matching_ngram_size",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "prompt_lookup_num_tokens",
        "speculation_type",
        "target_lookbehind",
        "use_mtp",
    ),
    "assisted generation takes one row at a time",
)
"""Fields that would do nothing, or something that batchgen promises not to, and why."""


def is_neutral(field: str, value: object) -> bool:
    """Whether a field's value does nothing."""
    absent = value is None or value is False or value in ([], {})
    return absent or (field in NEUTRAL and value == NEUTRAL[field])


def check_generation_kwargs(spec: Decoding) -> list[Problem]:
    """What is wrong with `decoding.generation_kwargs`: unknown, doubled and pointless fields. Never raises."""
    return [
        Problem(f"decoding.generation_kwargs.{field}", *words)
        for field in spec.generation_kwargs
        if (words := _objection(field, spec)) is not None
    ]


def _objection(field: str, spec: Decoding) -> tuple[str, str] | None:
    if field in OWN_KEYS:
        return "is not for generation_kwargs", OWN_KEYS[field]
    if field in REFUSED_KWARGS:
        return f"is not taken: {REFUSED_KWARGS[field]}", "leave it out"
    if field not in ACCEPTED_KWARGS:
        return "is no field of GenerationConfig", _nearest(field, ACCEPTED_KWARGS)
    return _without_effect(field, spec)


def _without_effect(field: str, spec: Decoding) -> tuple[str, str] | None:
    if field in SAMPLING and not spec.may_sample:
        return "has no effect: decoding is greedy", "set decoding.temperature above 0"
    if field in BEAMS and spec.num_beams == 1 and spec.preset != "model":
        return "has no effect without beam search", "set decoding.num_beams above 1"
    return None


def _nearest(field: str, known: Iterable[str]) -> str:
    near = get_close_matches(field, sorted(known), n=1)
    return (
        f"did you mean {near[0]}?"
        if near
        else f"these can be given: {', '.join(sorted(ACCEPTED_KWARGS))}"
    )
