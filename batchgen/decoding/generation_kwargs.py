"""The fields of transformers' `GenerationConfig` that `decoding.generation_kwargs` accepts.

They are listed here so that `validate` need not import transformers; a test compares them with the installed version.
"""

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
"""Fields that have an effect in every decoding mode."""

SAMPLING: Final = frozenset({"epsilon_cutoff", "eta_cutoff", "top_h", "typical_p"})
"""Fields that have an effect only in sampling."""

BEAMS: Final = frozenset({"early_stopping"})
"""Fields that have an effect only in beam search."""

ACCEPTED_KWARGS: Final = ANY_MODE | SAMPLING | BEAMS

OWN_KEYS: Final = {
    "eos_token_id": "Leave it out: the end tokens of tokenizer, config and generation_config all apply.",
    "max_length": "Use decoding.max_new_tokens.",
    "min_length": "Use decoding.min_new_tokens.",
}
"""Fields with a key of another name, and a hint. The schema rejects fields with a key of the same name."""

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
"""Values that switch a field off; None, false and empty lists do so for every field."""


def is_neutral(field: str, value: object) -> bool:
    """Whether a value of a field has no effect."""
    absent = value is None or value is False or value in ([], {})
    return absent or (field in NEUTRAL and value == NEUTRAL[field])


def check_generation_kwargs(spec: Decoding) -> list[Problem]:
    """The fields of `decoding.generation_kwargs` that are not supported, or have no effect. Never raises."""
    return [
        Problem(f"decoding.generation_kwargs.{field}", *text)
        for field in spec.generation_kwargs
        if (text := _objection(field, spec)) is not None
    ]


def _objection(field: str, spec: Decoding) -> tuple[str, str] | None:
    if field in OWN_KEYS:
        return "is not for generation_kwargs", OWN_KEYS[field]
    if field not in ACCEPTED_KWARGS:
        near = get_close_matches(field, sorted(ACCEPTED_KWARGS), n=1)
        names = ", ".join(sorted(ACCEPTED_KWARGS))
        return "is not supported", f"Did you mean {near[0]}?" if near else f"Use one of: {names}."
    if field in SAMPLING and not spec.may_sample:
        return "has no effect: decoding is greedy", "Set decoding.temperature above 0."
    if field in BEAMS and spec.num_beams == 1 and spec.preset != "model":
        return "has no effect without beam search", "Set decoding.num_beams above 1."
    return None
