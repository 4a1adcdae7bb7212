"""Data sets in the form in which they are published are scored as they stand, from Parquet and from JSONL."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchgen


@dataclass(frozen=True)
class DataSet:
    """Rows with a `response`; the expected values are those of the metric for each row, None for no score."""

    rows: list[dict[str, Any]]
    metric: dict[str, Any] | str
    values: list[float | None]
    reference: str | None = None


def _ifeval_kwargs(**given: Any) -> dict[str, Any]:
    """Arguments as the Hub's Parquet file has them: every one in every row, mostly null."""
    names = ("num_words", "relation", "num_bullets", "keywords", "language", "end_phrase")
    return {**dict.fromkeys(names), **given}


SQUAD_ROWS = [
    {"response": "the Denver Broncos", "answers": {"text": ["Denver Broncos", "Broncos"], "answer_start": [1, 8]}},
    {"response": "1,066", "answers": {"text": ["1066"], "answer_start": [4]}},
    {"response": "", "answers": {"text": [], "answer_start": []}},
    {"response": "Rome", "answers": {"text": [], "answer_start": []}},
]  # fmt: skip
DATA: dict[str, DataSet] = {
    "SQuAD 2.0": DataSet(SQUAD_ROWS, "squad_em", [1.0, 1.0, 1.0, 0.0], "answers"),
    "SQuAD 2.0 with exact": DataSet(SQUAD_ROWS, "exact", [0.0, 0.0, None, None], "answers"),
    "TriviaQA": DataSet(
        [
            {"response": "Sinclair Lewis", "answer": {
                "aliases": ["(Harry) Sinclair Lewis", "Sinclair Lewis"], "matched_wiki_entity_name": "",
                "normalized_aliases": ["sinclair lewis"], "normalized_value": "sinclair lewis",
                "type": "WikipediaEntity", "value": "Sinclair Lewis"}},
            {"response": "Zola", "answer": {
                "aliases": [], "matched_wiki_entity_name": "", "normalized_aliases": [],
                "normalized_value": "balzac", "type": "Numerical", "value": "Balzac"}},
        ],
        "exact", [1.0, 0.0], "answer",
    ),
    "Natural Questions open": DataSet(
        [{"response": "May 18, 2018", "answer": ["14 December 1972 UTC", "May 18, 2018"]}, {"response": "x", "answer": ["y"]}],
        "exact", [1.0, 0.0], "answer",
    ),
    "MMLU": DataSet(
        [
            {"response": "B", "choices": ["0", "4", "2", "6"], "answer": 1},
            {"response": "The answer is C.", "choices": ["1", "2", "3", "0"], "answer": 0},
            {"response": "D", "choices": ["a", "b", "c", "d"], "answer": 3},
        ],
        {"type": "choice", "options": "choices"}, [1.0, 0.0, 1.0], "answer",
    ),
    "MMLU-Pro": DataSet(
        [{"response": "The answer is (I).", "options": [f"option {n}" for n in range(10)], "answer": "I", "answer_index": 8}],
        {"type": "choice", "options": "options"}, [1.0], "answer",
    ),
    "ARC": DataSet(
        [
            {"response": "dry palms", "choices": {"text": ["dry palms", "wet palms"], "label": ["A", "B"]}, "answerKey": "A"},
            {"response": "2", "choices": {"text": ["3", "1", "2"], "label": ["1", "2", "3"]}, "answerKey": "2"},
            {"response": "3", "choices": {"text": ["3", "1", "2"], "label": ["1", "2", "3"]}, "answerKey": "2"},
        ],
        {"type": "choice", "options": "choices"}, [1.0, 1.0, 0.0], "answerKey",
    ),
    "HellaSwag": DataSet(
        [
            {"response": "D", "endings": ["runs.", "sings.", "eats.", "sleeps."], "label": "3"},
            {"response": "A", "endings": ["runs.", "sings.", "eats.", "sleeps."], "label": "3"},
        ],
        {"type": "choice", "options": "endings"}, [1.0, 0.0], "label",
    ),
    "MedQA": DataSet(
        [{"response": "B", "options": [{"key": "A", "value": "rest"}, {"key": "B", "value": "ice"}], "answer_idx": "B"}],
        {"type": "choice", "options": "options"}, [1.0], "answer_idx",
    ),
    "BoolQ": DataSet(
        [{"response": "true", "answer": True}, {"response": "True", "answer": True}, {"response": "false", "answer": True}],
        "exact", [1.0, 1.0, 0.0], "answer",
    ),
    "GSM8K": DataSet(
        [
            {"response": "So it is 18.", "answer": "16 - 3 - 4 = <<16-3-4=9>>9 eggs.\n9 * 2 = $<<9*2=18>>18.\n#### 18"},
            {"response": "#### 9", "answer": "She makes 9 * 2 = $18.\n#### 18"},
            {"response": "#### 1,080", "answer": "It is 1080.\n#### 1,080"},
        ],
        "number", [1.0, 0.0, 1.0], "answer",
    ),
    "IFEval": DataSet(
        [
            {"response": "one two three", "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
             "kwargs": [_ifeval_kwargs(), _ifeval_kwargs(num_words=3, relation="at least")]},
            {"response": "- one, two", "instruction_id_list": ["punctuation:no_comma", "detectable_format:number_bullet_lists"],
             "kwargs": [_ifeval_kwargs(), _ifeval_kwargs(num_bullets=1)]},
            {"response": "the sea", "instruction_id_list": ["keywords:existence"],
             "kwargs": [_ifeval_kwargs(keywords=["sea"])]},
        ],
        {"type": "ifeval", "variants": ["prompt_strict"], "instructions": "instruction_id_list", "kwargs": "kwargs"},
        [1.0, 0.0, 1.0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
@pytest.mark.parametrize("data", DATA.values(), ids=DATA.keys())
def test_a_published_data_set_is_scored(data: DataSet, format_: str, tmp_path: Path) -> None:
    file, output = tmp_path / f"in.{format_}", tmp_path / "out"
    rows = [{"id": str(number), **row} for number, row in enumerate(data.rows)]
    if format_ == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    batchgen.score(file, [data.metric], reference=data.reference or (), output=output)
    scores = pl.read_parquet(output / "scores.parquet").sort("id")
    assert scores["value"].to_list() == data.values
