"""Two engines in processes of their own give rows with forms the answers of one engine."""

import json
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from batchgen.decoding_settings import ResolvedDecoding
from batchgen.engines.engine_registry import open_engine
from batchgen.engines.replicas.replicated_engine import open_replicas
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.kv_cache_plan import Workers
from batchgen.records import Request
from tests.engines.torch.structured.letters import LetterDecoder, formed, letters, tokens
from tests.engines.torch.tiny_models import by_row, prompts, requests, tiny_model

LABELS = ["in", "inside", "out"]
FORMS = (
    formed("regex", "[A-F]{3,9}-[0-9]+", max_new_tokens=14, temperature=1.5),
    ResolvedDecoding(max_new_tokens=8),
    formed("choice", json.dumps(LABELS), max_new_tokens=9),
    formed("json_object", "", max_new_tokens=12),
)


def unending() -> bool:
    return False


def submitted() -> list[Request]:
    """96 requests; those of a choice have the tokens of their labels, except every second one."""
    labels = [tokens(label) for label in LABELS]
    prompted = [ids for seed in range(12) for ids in prompts(8, seed)]
    return [
        replace(one, label_tokens=labels) if one.index % 8 == 2 else one
        for one in requests(prompted, *FORMS)
    ]


@pytest.mark.soak
def test_two_engines_give_the_answers_of_one(tmp_path: Path) -> None:
    folder, spec = tmp_path / "model", ModelSpec(path="model")
    tiny_model("llama", torch.float32).save_pretrained(folder)
    opening = partial(open_engine, folder=folder, workers=1, decode=LetterDecoder())
    with closing(opening(spec, batching=Batching(), should_stop=unending)) as one:
        expected = by_row(one.generate(submitted()))
    two = Workers(2, "for a test", ("cpu", "cpu"))
    batching = Batching(part_rows=8)
    with closing(
        open_replicas(two, spec, opening, batching=batching, should_stop=unending)
    ) as engines:
        found = by_row(engines.generate(submitted()))
    assert found.keys() == expected.keys()
    for row, answer in expected.items():
        assert list(found[row].token_ids) == list(answer.token_ids)
        assert found[row].finish_reason == answer.finish_reason
        assert (found[row].label_logprobs is None) == (row % 8 != 2)
    chosen = {letters(found[row].token_ids) for row in found if row % 4 == 2}
    assert chosen <= set(LABELS)
