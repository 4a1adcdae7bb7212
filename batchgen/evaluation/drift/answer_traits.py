"""One pass over the answers of a run: what drift is measured by, prompt by prompt.

    responses, a row group at a time ──> length, finish reason, refusal, language, text of each answer ──> by prompt

Texts are not kept. What a metric of the job measures is not read: traits are computed here for both runs, so that two runs
are comparable whatever their metrics are.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from batchgen.errors import UsageError
from batchgen.job.evaluate import DriftKind
from batchgen.metrics.language import main_script
from batchgen.metrics.refusal import refusal_rule
from batchgen.metrics.statistics.drift_tests import PromptTexts
from batchgen.metrics.statistics.intervals import Floats
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.published_run import (
    PublishedRun,
    check_no_pending_release,
    responses_in,
    written_prefix,
)
from batchgen.output.unfinished_run import check_manifest_exists, why_unfinished
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists

REFUSAL_NAME = "refusal"
"""The category of answers that decline to answer."""
_READ_CHARACTERS = 2_000
"""Characters of an answer by which its language is found."""


@dataclass(frozen=True, slots=True)
class Categories:
    """The category of each answer that has one.

    Attributes:
        prompts: the prompt of each answer: int64 [answers].
        names: the category of each.
    """

    prompts: npt.NDArray[np.int64]
    names: Sequence[str]

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.names)

    def shares(self, names: Sequence[str]) -> Floats:
        """The shares of these categories in the answers to each prompt: float64 [prompts, names]."""
        place = {name: number for number, name in enumerate(names)}
        rows, prompt = np.unique(self.prompts, return_inverse=True)
        found = np.zeros((len(rows), len(names)))
        column = np.array([place[name] for name in self.names], np.int64)
        np.add.at(found, (prompt, column), 1.0)
        shares: Floats = found / found.sum(axis=1, keepdims=True)
        return shares


@dataclass(frozen=True, slots=True)
class AnswerTraits:
    """What the answers of a run are like.

    Attributes:
        lengths: mean characters of the answers to each prompt that has one: float64 [prompts].
        categories: by kind of drift, those that were read.
        texts: the different texts, without empty ones.
    """

    lengths: Floats
    categories: Mapping[DriftKind, Categories]
    texts: PromptTexts


@dataclass(frozen=True, slots=True)
class AnswerSource:
    """The answers of a run: published, or staged before its publication. `prefix` is that of their columns."""

    responses: ParquetTable
    prefix: str
    run_id: str = ""


def open_answers(path: Path, staged: Path | None = None) -> AnswerSource:
    """Open the answers of a complete run, or staged ones.

    Raises:
        UsageError: the run is unfinished, or the folder is not that of a run.
        StateError: files are damaged.
    """
    folder = RunFolder((staged or path).absolute())
    check_no_pending_release(folder)
    if exists(folder.manifest):
        run = PublishedRun(folder)
        run.check(hashes=False, only_responses=True)
        return AnswerSource(run.responses, run.manifest.prefix, run.manifest.run_id)
    if staged is None:
        check_manifest_exists(folder)
        raise why_unfinished(folder).error(UsageError)
    responses = responses_in(folder)
    return AnswerSource(responses, written_prefix(responses))


def read_traits(source: AnswerSource, kinds: Collection[DriftKind]) -> AnswerTraits:
    """Read the answers once, for these kinds of drift."""
    lengths: list[Floats] = [np.empty(0)]
    texts = [pl.DataFrame(schema={"prompt": pl.Int64, "text": pl.UInt64})]
    named: dict[DriftKind, list[pl.DataFrame]] = {
        kind: [] for kind in kinds if kind not in ("length", "duplicates")
    }
    numbers = count()
    for block in _blocks(source, numbers):
        answered = block.filter(pl.col("response").is_not_null())
        written = answered.filter(pl.col("response").str.strip_chars() != "")
        by_prompt = answered.group_by("prompt", maintain_order=True).agg(
            pl.col("response").str.len_chars().cast(pl.Float64).mean()
        )
        lengths.append(by_prompt["response"].to_numpy())
        hashed = written.select("prompt", pl.col("response").hash().alias("text"))
        texts.append(hashed.unique(maintain_order=True))
        for kind, found in named.items():
            found.append(_CATEGORIES[kind](block if kind == "finish_reason" else written))
    return AnswerTraits(
        np.concatenate(lengths),
        {kind: _joined(found) for kind, found in named.items()},
        _prompt_texts(pl.concat(texts)),
    )


def _blocks(source: AnswerSource, numbers: Iterator[int]) -> Iterator[pl.DataFrame]:
    """Number of the prompt, response, and finish reason of each answer. No prompt spans two row groups."""
    names = [source.prefix + name for name in ("id", "response", "finish_reason")]
    for table in source.responses.row_groups(names):
        rows = pl.DataFrame(
            pl.from_arrow(table.rename_columns(["id", "response", "finish_reason"]))
        )
        ids = rows["id"].unique(maintain_order=True)
        prompts = pl.DataFrame({"id": ids, "prompt": [next(numbers) for _ in ids]})
        yield rows.join(prompts, on="id", maintain_order="left", nulls_equal=True)


def _finish_reasons(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("prompt", pl.col("finish_reason").alias("name")).drop_nulls()


def _refusals(rows: pl.DataFrame) -> pl.DataFrame:
    return _categorized(rows, lambda text: REFUSAL_NAME if refusal_rule(text) else "answer")


def _languages(rows: pl.DataFrame) -> pl.DataFrame:
    return _categorized(rows, lambda text: main_script(text[:_READ_CHARACTERS]) or "no letters")


def _categorized(rows: pl.DataFrame, category: Callable[[str], str]) -> pl.DataFrame:
    names = pl.Series("name", [category(text) for text in rows["response"]], dtype=pl.String)
    return rows.select("prompt").with_columns(names)


_CATEGORIES: Mapping[DriftKind, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "finish_reason": _finish_reasons,
    "refusal": _refusals,
    "language": _languages,
}


def _joined(blocks: Sequence[pl.DataFrame]) -> Categories:
    if not blocks:
        return Categories(np.empty(0, np.int64), [])
    rows = pl.concat(blocks)
    return Categories(rows["prompt"].to_numpy(), rows["name"].to_list())


def _prompt_texts(rows: pl.DataFrame) -> PromptTexts:
    """With the prompts numbered without gaps."""
    _, prompts = np.unique(rows["prompt"].to_numpy(), return_inverse=True)
    return PromptTexts(rows["text"].to_numpy(), prompts.astype(np.int64))
