"""Names of modules match the config as they match in peft."""

import warnings
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from batchgen.lora.lora_config import parse_lora_config

NAMES = [
    *(
        f"{root}.{number}.{part}"
        for root, number, part in product(
            ("model.layers", "transformer.h", "model.layers.1.experts"),
            (0, 1, 11),
            ("self_attn.q_proj", "mlp.down_proj", "xq_proj", "q_proj"),
        )
    ),
    "lm_head", "model.embed_tokens", "q_proj", "model.norm",
]  # fmt: skip
CONFIGS: list[dict[str, Any]] = [
    {"target_modules": ["q_proj"]},
    {"target_modules": ["self_attn.q_proj", "model.embed_tokens"]},
    {"target_modules": r".*\.1\..*(q|down)_proj"},
    {"target_modules": "q_proj"},
    {"target_modules": ["q_proj", "lm_head"], "exclude_modules": ["layers.0.self_attn.q_proj"]},
    {"target_modules": ["q_proj"], "exclude_modules": r".*self_attn.*"},
    {"target_modules": ["q_proj", "down_proj"], "modules_to_save": ["mlp", "lm_head"]},
    {"target_modules": ["q_proj"], "layers_to_transform": 1},
    {"target_modules": ["q_proj"], "layers_to_transform": [0, 11], "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["h", "layers"]},
    {"target_modules": ["q_proj"], "layers_to_transform": []},
]


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("keys", CONFIGS, ids=str)
def test_modules_are_targeted_as_by_peft(keys: dict[str, Any]) -> None:
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    ours, problems = parse_lora_config({"peft_type": "LORA", **keys})
    assert problems == []
    assert ours is not None
    theirs = LoraConfig(**keys)
    expected = {n for n in NAMES if bool(check_target_module_exists(theirs, n))}
    assert {name for name in NAMES if ours.targets(name)} == expected


def test_ranks_and_scales_are_those_of_peft() -> None:
    from peft.utils.other import get_pattern_key

    patterns = {"q_proj": 2, r"layers\.1\..*": 3, "h.1.mlp.down_proj": 5, "self_attn": 7}
    ours, _ = parse_lora_config(
        {"peft_type": "LORA", "r": 9, "rank_pattern": patterns, "alpha_pattern": {"q_proj": 12}}
    )
    assert ours is not None
    for name in NAMES:
        rank = patterns.get(get_pattern_key([*patterns], name), 9)
        alpha = 12 if get_pattern_key(["q_proj"], name) == "q_proj" else 8
        assert (ours.rank(name), ours.scale(name)) == (rank, alpha / rank)


def test_a_pattern_that_never_ends_is_stopped() -> None:
    ours, _ = parse_lora_config({"peft_type": "LORA", "target_modules": "(a|aa)+c"})
    assert ours is not None
    with pytest.raises(TimeoutError):
        ours.targets("a" * 60 + "d")
