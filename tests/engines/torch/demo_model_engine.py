"""The demo model's answers compared with plain `generate`, prompt by prompt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.model import load_model
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.batches import sort_by_length
from batchgen.prompts.answer_text import AnswerText
from batchgen.records import ResolvedDecoding
from tests.engines.torch.tiny_models import by_row, generated, requests

MARGIN = 1e-3
"""Where the two best logits are this close in float32, either token is right."""


def demo_engine(folder: Path, tokenizer: Any) -> tuple[TorchEngine, Any]:
    """The engine on the demo model, and that model."""
    loaded = load_model(folder, ModelSpec(path="model"))
    engine = TorchEngine(
        loaded, batching=Batching(), decode=AnswerText(tokenizer), should_stop=lambda: False
    )
    return engine, loaded.model


def tokens_as_generated(
    engine: TorchEngine, model: Any, prompts: Sequence[Sequence[int]], *, end: int, new: int
) -> int:
    """Check each answer's tokens up to the first close decision; return how many were checked."""
    decoding = ResolvedDecoding(max_new_tokens=new, end_token_ids=frozenset({end}))
    found = by_row(engine.generate(sort_by_length(requests(prompts, decoding))))
    same = 0
    for row, prompt in enumerate(prompts):
        made = generated(
            model,
            prompt,
            max_new_tokens=new,
            eos_token_id=end,
            output_logits=True,
            return_dict_in_generate=True,
        )
        for step, token in enumerate(made.sequences[0, len(prompt) :].tolist()):
            first, second = torch.topk(made.logits[step][0], 2).values
            if first - second < MARGIN:
                break
            assert found[row].token_ids[step] == token, f"row {row}, step {step}"
            same += 1
    return same
