"""`decoding.generation_kwargs` accepts exactly the settings of plain `generate` that have no key in batchgen."""

from typing import Any

import pytest
from transformers import GenerationConfig

from batchgen.decoding.generation_kwargs import (
    ANY_MODE,
    BEAMS,
    NEUTRAL,
    OWN_KEYS,
    SAMPLING,
    check_generation_kwargs,
    is_neutral,
)
from batchgen.job.spec import Decoding


def test_the_fields_exist_in_transformers_and_have_no_key_of_the_same_name() -> None:
    make: Any = GenerationConfig  # its constructor has no annotations
    fields = [*ANY_MODE, *SAMPLING, *BEAMS, *OWN_KEYS]
    assert len(fields) == len(set(fields))
    assert set(fields) <= set(make().to_dict()) - set(Decoding.model_fields)


@pytest.mark.parametrize("field", ["top_p", "do_sample", "num_return_sequences"])
def test_the_schema_refuses_fields_that_have_a_key_of_the_same_name(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Decoding(generation_kwargs={field: 1})


def test_neutral_values_are_the_defaults_of_generate() -> None:
    defaults = GenerationConfig._get_default_generation_params()
    assert {k: v for k, v in NEUTRAL.items() if k in defaults} == {
        k: defaults[k] for k in NEUTRAL if k in defaults
    }


@pytest.mark.parametrize(
    ("field", "value", "off"),
    [
        ("bad_words_ids", None, True),
        ("bad_words_ids", [], True),
        ("bad_words_ids", [[1]], False),
        ("renormalize_logits", False, True),
        ("renormalize_logits", True, False),
        ("typical_p", 1.0, True),
        ("typical_p", 0.0, False),
        ("epsilon_cutoff", 0.0, True),
        ("guidance_scale", 1, True),
        ("forced_eos_token_id", 0, False),
    ],
)
def test_neutral_values_switch_a_field_off(field: str, value: object, off: bool) -> None:
    assert is_neutral(field, value) is off


def problems(kwargs: dict[str, Any], **others: Any) -> list[tuple[str, str, str]]:
    found = check_generation_kwargs(Decoding(generation_kwargs=kwargs, **others))
    return [(p.key, p.message, p.hint) for p in found]


@pytest.mark.parametrize("field", sorted(ANY_MODE))
def test_fields_with_an_effect_are_accepted(field: str) -> None:
    assert problems({field: 1}) == []


@pytest.mark.parametrize("field", sorted(SAMPLING))
def test_warpers_are_accepted_if_sampling(field: str) -> None:
    assert problems({field: 0.5}, temperature=0.7) == []
    assert problems({field: 0.5}, preset="model") == []
    assert problems({field: 0.5}, columns={"temperature": "t"}) == []
    [(key, message, hint)] = problems({field: 0.5})
    assert key == f"decoding.generation_kwargs.{field}"
    assert "no effect" in message
    assert "temperature" in hint


def test_early_stopping_is_accepted_with_beams() -> None:
    assert problems({"early_stopping": True}, num_beams=2) == []
    [(_, message, hint)] = problems({"early_stopping": True})
    assert "no effect" in message
    assert "num_beams" in hint


@pytest.mark.parametrize("field", sorted(OWN_KEYS))
def test_the_hint_names_the_key_of_a_field(field: str) -> None:
    [(_, message, hint)] = problems({field: 1})
    assert "not for generation_kwargs" in message
    assert hint == OWN_KEYS[field]


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("typical", "Did you mean typical_p?"),
        ("top-h", "Did you mean top_h?"),
        ("use_mtp", "Use one of: bad_words_ids"),
        ("zzz", "Use one of: bad_words_ids"),
    ],
)
def test_the_hint_names_the_nearest_field(field: str, hint: str) -> None:
    [(key, message, given_hint)] = problems({field: 1})
    assert key == f"decoding.generation_kwargs.{field}"
    assert "is not supported" in message
    assert hint in given_hint


def test_all_problems_are_found_at_once() -> None:
    wrong = {"zzz": 1, "max_length": 3, "max_time": 2, "typical_p": 0.5}
    assert [key.rpartition(".")[2] for key, _, _ in problems(wrong)] == list(wrong)
