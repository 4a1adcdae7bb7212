"""Runs with models that generate a known chain of tokens: where the answer ends, and what its text is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from tests.engines.torch.scripted_model import write_scripted_model
from tests.prompts.small_tokenizers import ids_of, sentencepiece

MakeJob = Callable[..., Path]
CODE = ["\n", "▁▁▁▁", "return", "▁", "1", "</s>"]
MARKED = [":", "▁yes", "<|eom|>", "▁red", "[/INST]", "return", "</s>"]
LINES = [":", "▁yes", "\n", "▁red", "1", "return", "x", "</s>"]
HALVED = [":", "▁yes", "<0xE9>", "<0xBE>", "<0x98>", "</s>"]
ENDS = {"generation_config": {"eos_token_id": [3, 4]}}  # [/INST] and <|eom|>

CASES: Sequence[Any] = [
    pytest.param("def foo():\n", CODE, {}, {}, ("    return 1", "stop", 5), id="indentation"),
    pytest.param("Q:", MARKED, {}, {}, (" yes redreturn", "stop", 6), id="special tokens have no text"),
    pytest.param("Q:", MARKED, {"stop": ["<|eom|>"]}, {}, (" yes", "stop_string", 2), id="special stop string"),
    pytest.param("Q:", MARKED, {"stop": ["<|eom|> red[/INST]"]}, {}, (" yes", "stop_string", 4), id="several"),
    pytest.param("Q:", MARKED, {}, ENDS, (" yes", "stop", 2), id="end tokens of generation_config"),
    pytest.param("Q:", MARKED, {"min_new_tokens": 3}, ENDS, None, id="end tokens wait for the minimum"),
    pytest.param("Q:", [":", "▁yes", "</s>"], {}, ENDS, (" yes", "stop", 2), id="end token of config"),
    pytest.param("Q:", LINES, {"stop": ["\n"]}, {}, (" yes", "stop_string", 2), id="stop string"),
    pytest.param("Q:", LINES, {"stop": ["\n"], "min_new_tokens": 4}, {}, (" yes\n red1returnx", "stop", 7), id="minimum"),
    pytest.param("Q:", HALVED, {"max_new_tokens": 3}, {}, (" yes", "length", 3), id="half a character"),
    pytest.param("Q:", HALVED, {"max_new_tokens": 4}, {}, (" yes龘", "length", 4), id="a whole character"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("prompt", "chain", "decoding", "model", "expected"), CASES)
def test_the_answer_is_the_chain(
    make_job: MakeJob,
    tmp_path: Path,
    prompt: str,
    chain: Sequence[str],
    decoding: Mapping[str, Any],
    model: Mapping[str, Any],
    expected: tuple[str, str, int] | None,
) -> None:
    tokenizer = sentencepiece(metaspace=False)
    write_scripted_model(tmp_path / "model", tokenizer, ids_of(tokenizer, *chain), **model)
    job = make_job(
        [{"q": prompt}],
        prompt={"chat_template": "none"},
        model={"path": str(tmp_path / "model"), "engine": "transformers"},
        decoding={"max_new_tokens": 20, **decoding},
    )
    row = run(load_job(job)).frame().row(0, named=True)
    if expected is None:
        assert row["output_tokens"] > decoding["min_new_tokens"]
    else:
        assert (row["response"], row["finish_reason"], row["output_tokens"]) == expected


@pytest.mark.slow
def test_only_rows_with_a_token_beyond_the_embedding_fail(
    make_job: MakeJob, tmp_path: Path
) -> None:
    tokenizer = sentencepiece(metaspace=False)
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.add_tokens(["<extra>"])
    chain = ids_of(tokenizer, ":", "▁yes", "</s>")
    write_scripted_model(tmp_path / "model", tokenizer, chain, rows=rows)
    job = make_job(
        [{"q": "Q:"}, {"q": "a <extra> b:"}, {"q": "x:"}],
        prompt={"chat_template": "none"},
        model={"path": str(tmp_path / "model"), "engine": "transformers"},
        run={"max_error_rate": 1},
    )
    frame = run(load_job(job)).frame()
    assert frame["response"].to_list() == [" yes", None, " yes"]
    assert frame["error_code"].to_list() == [None, "unknown_token", None]
