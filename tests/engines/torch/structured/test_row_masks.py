"""Rows with a grammar: their answers have its form in any batch, and the answers of other rows do not change."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import pytest
import regex
import torch
from transformers import GenerationConfig, PreTrainedModel

from batchgen.decoding_settings import ResolvedDecoding
from batchgen.engines.torch.batched_tier import BatchedTier
from batchgen.engines.torch.continuous.token_picker import TokenSampler
from batchgen.engines.torch.static.static_runner import StaticRunner
from batchgen.engines.torch.structured.row_masks import RowMasks, apply_masks
from batchgen.errors import ModelError
from batchgen.planning.batches import BatchLimits
from batchgen.records import Completion, Request
from batchgen.structured.label_choice import labels_of
from batchgen.structured.row_matchers import RowMatchers
from tests.engines.torch.continuous.tiny_continuous_tier import (
    CAPACITIES,
    WIDE,
    Capacity,
    own_forward,
    slots,
)
from tests.engines.torch.structured.letters import END, LetterDecoder, formed, letters, tokens
from tests.engines.torch.tiny_models import (
    CPU,
    VOCABULARY,
    break_token,
    by_row,
    engine,
    loaded,
    options,
    prompts,
    requests,
    tiny_model,
)

PAIRS = [(first, second) for first in "abcdef" for second in "xyz()w"]
FREE = ResolvedDecoding(max_new_tokens=12)
SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["xy", "z", 7]}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
FORMS = (
    formed("json_schema", json.dumps(SCHEMA), max_new_tokens=40),
    FREE,
    formed("regex", "[A-F]{3,9}-[0-9]+", max_new_tokens=14, temperature=1.5),
    formed("choice", '["in","inside","(o)ut"]', max_new_tokens=9, temperature=3.0),
    ResolvedDecoding(max_new_tokens=12, temperature=1.0, top_p=0.9),
    formed("grammar", 'start: "<" item item? ">"\nitem: /[ab]/', max_new_tokens=20),
    formed("json_object", "", max_new_tokens=20, temperature=1.0, top_k=20),
    formed("choice", '["no"]', after="k", max_new_tokens=30, temperature=5.0),
)


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return tiny_model("llama")


def submitted() -> list[Request]:
    return requests(prompts(8), *FORMS)


def continuous(
    model: PreTrainedModel, some: Iterable[Request], capacity: Capacity = WIDE
) -> dict[int, Completion]:
    sampler = TokenSampler(CPU, RowMasks(RowMatchers(LetterDecoder())))
    return by_row(slots(own_forward(model), capacity, sampler=sampler).generate(some))


def static(model: PreTrainedModel, some: Iterable[Request], rows: int) -> dict[int, Completion]:
    chosen = replace(options(), masks=RowMasks(RowMatchers(LetterDecoder())))
    runner = StaticRunner(loaded(model), chosen)
    tier = BatchedTier(runner, BatchLimits(rows, 10_000, "none"), CPU, chosen)
    return by_row(tier.generate(some))


def has_form(decoding: ResolvedDecoding, text: str) -> bool:
    grammar = decoding.grammar
    assert grammar is not None
    text = text.partition(grammar.after)[2] if grammar.after else text
    match grammar.kind:
        case "json_schema":
            value = json.loads(text)
            return list(value) == ["a", "b"] and value["a"] in ("xy", "z", 7)
        case "json_object":
            return isinstance(json.loads(text), dict)
        case "choice":
            return text in json.loads(grammar.text)
        case "regex":
            return regex.fullmatch(grammar.text, text) is not None
    return text.count("<") == text.count(">") > 0


def test_ended_answers_have_their_form_and_others_are_unchanged(llama: PreTrainedModel) -> None:
    found = continuous(llama, submitted())
    free = continuous(llama, [r for r in submitted() if r.decoding.grammar is None])
    ended = 0
    for request in submitted():
        answer = found[request.index]
        if request.decoding.grammar is None:
            assert answer == free[request.index]
        elif answer.finish_reason == "stop":
            ended += 1
            assert has_form(request.decoding, letters(answer.token_ids))
        else:
            assert answer.finish_reason == "length"
    assert ended >= 4


@pytest.mark.parametrize("name", CAPACITIES)
def test_answers_do_not_depend_on_the_batch_or_on_lost_memory(
    llama: PreTrainedModel, name: str
) -> None:
    expected = continuous(llama, submitted())
    assert continuous(llama, submitted(), CAPACITIES[name]) == expected
    assert continuous(llama, submitted()[::-1], CAPACITIES[name]) == expected


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_the_static_tier_gives_the_same_answers(llama: PreTrainedModel, rows: int) -> None:
    assert static(llama, submitted(), rows) == continuous(llama, submitted())


MANY = [f"{first}{second}{'z' * (n % 3)}" for n, (first, second) in enumerate(PAIRS)]
"""Of some, another one is the beginning."""


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        pytest.param(MANY, {}, id="more labels than are scored"),
        pytest.param(["in", "inside", "out"], {"top_logprobs": 2, "logprobs": True}, id="logprobs"),
        pytest.param(["aab", "aba", "bab", "ba"], {"repetition_penalty": 3.0}, id="penalty"),
        pytest.param(["no", "nothing"], {"after": "k", "max_new_tokens": 60}, id="after a mark"),
    ],
)
def test_labels_token_by_token_are_those_of_a_masked_generate(
    llama: PreTrainedModel, labels: list[str], settings: dict[str, Any]
) -> None:
    decoding = formed("choice", json.dumps(labels), **{"max_new_tokens": 9, **settings})
    assert not labels_of(decoding)
    found = continuous(llama, requests(prompts(8), decoding))
    after, untyped = settings.get("after", ""), cast("Any", llama)
    for row, prompt in enumerate(prompts(8)):

        def allowed(_: int, ids: torch.Tensor, begin: int = len(prompt)) -> list[int]:
            text = letters(ids[begin:].tolist())
            _before, mark, said = text.partition(after) if after else ("", "x", text)
            if not mark:  # no answer ends before its form
                return [token for token in range(VOCABULARY) if token != END]
            longer = {one[len(said)] for one in labels if one.startswith(said) and one != said}
            return [*tokens("".join(sorted(longer))), *[END] * (said in labels)]

        config = GenerationConfig(
            do_sample=False,
            pad_token_id=0,
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=END,
            repetition_penalty=decoding.repetition_penalty,
        )
        ids = torch.tensor([prompt])
        made = untyped.generate(ids, generation_config=config, prefix_allowed_tokens_fn=allowed)
        text = letters(made[0, len(prompt) :].tolist())
        assert letters(found[row].token_ids) == text
        if text.endswith(tuple(labels)) and (not after or after in text):
            assert found[row].finish_reason == "stop"


def test_an_answer_ends_with_its_last_token_not_with_an_end_token(llama: PreTrainedModel) -> None:
    decoding = formed("choice", '["no"]', max_new_tokens=2)
    (answer,) = continuous(llama, requests(prompts(1), decoding)).values()
    assert (list(answer.token_ids), answer.finish_reason) == (tokens("no"), "stop")


def test_a_row_without_an_allowed_token_fails_alone() -> None:
    model = tiny_model("llama")
    (no,) = tokens("n")
    with torch.no_grad():
        model.get_output_embeddings().weight[no] = 0
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(97, dtype=model.dtype))
    model.lm_head.bias.data[no] = -torch.inf
    some = requests(prompts(2), formed("choice", '["no"]'), FREE)
    found = static(model, some, 2)
    failure = found[0].failure
    assert failure is not None
    assert failure.code == "grammar_stuck"
    assert found[1].finish_reason == "length"


def test_broken_logits_are_not_hidden_by_a_mask() -> None:
    model = tiny_model("llama")
    broken = prompts(2)
    broken[0][0] = 7
    broken[1] = [n for n in broken[1] if n != 7]
    break_token(model, 7)
    found = continuous(model, requests(broken, formed("choice", '["no"]')))
    failure = found[0].failure
    assert failure is not None
    assert failure.code == "nonfinite_logits"
    assert found[1].finish_reason == "stop"


def test_a_model_of_plain_generate_is_rejected_with_the_reason() -> None:
    with pytest.raises(ModelError, match="through its own generate"):
        list(engine(tiny_model("t5")).generate(requests(prompts(1), FORMS[0])))


def test_a_row_that_may_change_its_positions_fails_alone() -> None:
    long = replace(FORMS[0], max_new_tokens=40)
    (answer,) = engine(tiny_model("phi3")).generate(requests(prompts(1), long))
    assert answer.failure is not None
    assert answer.failure.code == "grammar_unsupported"


@pytest.mark.parametrize("places", [[0, 1, 2], [2], [0, 2]])
def test_a_mask_excludes_exactly_its_tokens(places: list[int]) -> None:
    scores = torch.randn(3, 70, generator=torch.Generator().manual_seed(1))
    bits = torch.rand(len(places), 96, generator=torch.Generator().manual_seed(2)) < 0.5
    weights = 2 ** torch.arange(32, dtype=torch.int64)
    words = (bits.view(len(places), 3, 32) * weights).sum(-1)
    masks = words.to(torch.int32).numpy()
    before = scores.clone()
    found = apply_masks(scores, places, masks)
    expected = before.clone()
    expected[places] = before[places].masked_fill(~bits[:, :70], -torch.inf)
    assert torch.equal(found, expected)
    again = RowMasks(RowMatchers(LetterDecoder()))
    for _ in range(2):
        assert torch.equal(again._apply(scores, places, masks), expected)
    assert torch.equal(scores, before)
