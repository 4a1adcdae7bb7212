"""The shown answers as plain values for the page: prompt, answer, reference, scores. Long texts are cut."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchgen.arrow.nested_column import column_at, column_paths, split_path
from batchgen.arrow.values import python_values
from batchgen.evaluation.comparing.scored_run import ScoredRun
from batchgen.metrics.references import read_references
from batchgen.report.page import json_island
from batchgen.report.rows.row_choice import ShownAnswer
from batchgen.report.visible_text import shorten_line

MAX_CHARACTERS = 4000
"""Of one text on the page."""
MAX_TOTAL_BYTES = 3_500_000
"""Of all records, as they are written into the page; if they exceed it, each text is cut to fewer characters."""
MAX_TURNS = 20
"""Of one prompt: its last ones."""
MAX_REFERENCES = 5
_SLICE_CHARACTERS = 200
_FEWEST_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class RowRecords:
    """The records of the page, and the number of characters at which texts are cut."""

    records: Sequence[Mapping[str, Any]]
    characters: int


def read_records(run: ScoredRun, shown: Sequence[ShownAnswer]) -> list[dict[str, Any]]:
    """The shown answers with their scores, with whole texts."""
    columns = _columns(run)
    table = run.responses.take([one.row for one in shown], sorted({*columns.values()}))
    texts = {name: table.column(column).to_pylist() for name, column in columns.items()}
    scores = read_scores(run, {one.id for one in shown})
    references = _references(run, [one.row for one in shown])
    return [
        {
            "id": one.id,
            "sample": one.sample,
            "why": one.reasons,
            "slices": [shorten_line(name, _SLICE_CHARACTERS) for name in one.slices],
            "reference": references[n],
            "scores": {**scores.get((one.id, None), {}), **scores.get((one.id, one.sample), {})},
            **{name: values[n] for name, values in texts.items()},
            **_last_turns(texts["prompt"][n] if "prompt" in texts else None),
        }
        for n, one in enumerate(shown)
    ]


def _last_turns(turns: list[Any] | None) -> dict[str, Any]:
    """The prompt's last turns, and how many are before them."""
    found = turns or []
    return {"prompt": found[-MAX_TURNS:], "earlier": max(0, len(found) - MAX_TURNS)}


def cut_records(records: Sequence[Mapping[str, Any]]) -> RowRecords:
    """Cut long texts, further if there are too many bytes of them."""
    limit = MAX_CHARACTERS
    cut = [cut_texts(one, limit) for one in records]
    while limit > _FEWEST_CHARACTERS and len(json_island(cut).encode()) > MAX_TOTAL_BYTES:
        limit //= 2
        cut = [cut_texts(one, limit) for one in records]
    return RowRecords(cut, limit)


def cut_texts(value: Any, limit: int) -> Any:  # noqa: ANN401  # JSON
    """The same with shorter texts: `{"cut": beginning, "more": characters}` in place of a longer one."""
    if isinstance(value, str):
        return value if len(value) <= limit else {"cut": value[:limit], "more": len(value) - limit}
    if isinstance(value, Mapping):
        return {key: cut_texts(one, limit) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [cut_texts(one, limit) for one in value]
    return value


def _columns(run: ScoredRun) -> dict[str, str]:
    """The columns of the page by their key in a record; only those that the answers have."""
    own = {
        "prompt": "messages",
        "reasoning": "reasoning",
        "finish": "finish_reason",
        "code": "error_code",
        "error": "error",
        "tokens": "output_tokens",
    }
    columns = {key: run.prefix + name for key, name in own.items()} | {"answer": run.response}
    existing = set(run.responses.schema.names)
    return {key: name for key, name in columns.items() if name in existing}


def _references(run: ScoredRun, rows: Sequence[int]) -> list[list[str]]:
    """The accepted references of each row."""
    names = run.responses.schema.names
    existing = column_paths(run.responses.schema)
    recorded = run.facts.get("evaluate", {}).get("references", ())
    paths = [path for path in recorded if path in existing]
    if not paths:
        return [[] for _ in rows]
    columns = sorted({split_path(path, names)[0] for path in paths})
    table = run.responses.take(rows, columns)
    cells = [python_values(column_at(table, path)) for path in paths]
    found = (read_references([column[n] for column in cells]) for n in range(len(rows)))
    return [list(one.texts[:MAX_REFERENCES]) for one in found]


Scores = dict[tuple[str, int | None], dict[str, list[Any]]]


def read_scores(run: ScoredRun, ids: Iterable[str]) -> Scores:
    """Value, status, answer and rule of each metric, by id and sample."""
    wanted = pa.array(sorted(ids), pa.string())
    found: Scores = {}
    names = ["id", "sample", "metric", "value", "status", "answer", "rule"]
    for table in run.scores.row_groups(names):
        for one in table.filter(pc.is_in(table.column("id"), wanted)).to_pylist():
            values = [one[name] for name in ("value", "status", "answer", "rule")]
            found.setdefault((one["id"], one["sample"]), {})[one["metric"]] = values
    return found
