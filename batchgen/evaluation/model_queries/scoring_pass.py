"""Passes of scoring models over sealed answers: likelihoods become columns that the scorer reads.

    tables ──blocks──> queries ──Engine.likelihoods──> a cached file per block ──> tables with columns `model:<metric>`

A block's cache key is a hash of the model and of every queried token, so that a resumed pass skips cached blocks. The
engine is opened for the first block that is not cached.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, groupby, islice
from typing import Any

import numpy as np
import pyarrow as pa

from batchgen.errors import StateError
from batchgen.evaluation.answers import Tables
from batchgen.evaluation.model_queries.query import (
    KnownResult,
    LikelihoodQuery,
    Query,
    QuerySource,
    RollingQuery,
)
from batchgen.evaluation.model_queries.scoring_model import LazyEngine
from batchgen.progress import SILENT, Reporter
from batchgen.records import Continuation, Failure, Likelihood
from batchgen.state.likelihood_cache import LIKELIHOODS, LikelihoodCache

BLOCK_ROWS = 256
"""Answers in a block. A block is cached once complete; a kill loses the open blocks."""
_SPAN = 1 << 32
"""Bound of the queries of a block: an engine's index is the block's number times this, plus a position in the block."""


class StoppedError(Exception):
    """The run was stopped before a pass was complete. Complete blocks are cached."""


@dataclass(frozen=True, slots=True)
class ScoringPass:
    """One model, and what it is queried about every answer.

    Attributes:
        model: identity of the model, part of the cache keys.
        what: the first of these; later ones begin with its part before the colon.
        seconds: between two progress sentences.
    """

    model: str
    engine: LazyEngine
    sources: Sequence[QuerySource]
    cache: LikelihoodCache
    should_stop: Callable[[], bool] = lambda: False
    reporter: Reporter = SILENT
    what: str = "scoring texts with the model"
    seconds: float = 60.0

    def add_likelihood_columns(self, tables: Tables) -> Tables:
        """Query the model about all answers; the same tables, with the columns of all sources."""
        keys = self.run_queries(tables)
        return lambda: self._with_columns(tables, keys)

    def run_queries(self, tables: Tables) -> list[str]:
        """Have every block cached; their keys.

        Raises:
            StoppedError: the run was stopped first.
        """
        keys: list[str] = []
        asked: list[int] = []
        open_blocks: dict[int, _AnswerBlock] = {}
        queries = self._missing(tables, keys, asked, open_blocks)
        first = next(queries, None)
        if first is None:
            return keys
        engine = self.engine.get()
        self.reporter.info(self.what)
        reported = time.monotonic()
        for likelihood in engine.likelihoods(chain([first], queries)):
            number, position = divmod(likelihood.index, _SPAN)
            block = open_blocks[number]
            block.add(position, likelihood)
            if not block.left:
                self.cache.save(keys[number], block.cells())
                del open_blocks[number]
            if time.monotonic() - reported >= self.seconds:
                reported = time.monotonic()
                done = sum(asked) - sum(block.answers_left for block in open_blocks.values())
                what = self.what.partition(":")[0]
                self.reporter.info(f"{what}: {int(done):,} answers scored")
            if self.should_stop():
                break
        if open_blocks or self.should_stop():
            raise StoppedError
        return keys

    def _missing(
        self,
        tables: Tables,
        keys: list[str],
        asked: list[int],
        open_blocks: dict[int, "_AnswerBlock"],
    ) -> Iterator[Continuation]:
        """The queries of all blocks that are not cached.

        Notes the key of every block, the number of its answers with queries, and the blocks that wait for results.
        """
        for number, rows in enumerate(chain.from_iterable(map(_cut, tables()))):
            block = _AnswerBlock(self.sources, rows)
            keys.append(block.key(self.model))
            asked.append(block.answers)
            if self.cache.read(keys[-1]) is not None:
                continue
            if not block.left:
                self.cache.save(keys[-1], block.cells())
                continue
            open_blocks[number] = block
            yield from block.continuations(number * _SPAN)

    def _with_columns(self, tables: Tables, keys: Sequence[str]) -> Iterator[pa.Table]:
        names = iter(keys)
        for table in tables():
            blocks = [self._cached(next(names)) for _ in _cut(table)]
            for name in blocks[0].column_names if blocks else ():
                chunks = chain.from_iterable(block.column(name).chunks for block in blocks)
                table = table.append_column(name, pa.chunked_array(chunks, LIKELIHOODS))
            yield table

    def _cached(self, key: str) -> pa.Table:
        block = self.cache.read(key)
        if block is None:
            raise StateError(
                f"the cache in {self.cache.folder.private} was changed during scoring",
                hint="Repeat the same command.",
            )
        return block


@dataclass(frozen=True, slots=True)
class ScoringPasses:
    """All passes, with one model in memory at a time.

    Attributes:
        engine: of the model that generated the answers; may already be open.
        passes: those with `engine` first; those with the same engine are adjacent.
        fill: applied to the tables with the columns of all passes; None leaves them.
    """

    engine: LazyEngine
    passes: Sequence[ScoringPass]
    cache: LikelihoodCache
    fill: Callable[[Tables], Tables] | None = None

    def add_likelihood_columns(self, tables: Tables) -> Tables:
        """Query all models about all answers, and close the engines; the same tables, with the columns of all passes."""
        for passes in self.by_engine():
            for one in passes:
                tables = one.add_likelihood_columns(tables)
        return tables if self.fill is None else self.fill(tables)

    def by_engine(self) -> Iterator[Sequence[ScoringPass]]:
        """The passes of one engine after those of another, each of which is closed then."""
        engine = self.engine
        try:
            for _, same in groupby(self.passes, key=lambda one: id(one.engine)):
                passes = list(same)
                if passes[0].engine is not engine:
                    engine.close()
                    engine = passes[0].engine
                yield passes
        finally:
            engine.close()


class _AnswerBlock:
    """The queries about some answers, by column and row, and the results so far.

    Attributes:
        left: queries to the engine without a result.
        answers: those that a query is about.
    """

    def __init__(self, sources: Sequence[QuerySource], table: pa.Table) -> None:
        self._columns: dict[str, Sequence[Sequence[Query]]] = {}
        for source in sources:
            self._columns |= zip(source.columns, source.queries(table), strict=True)
        self._queries = list(chain.from_iterable(chain.from_iterable(self._columns.values())))
        self._windows = [window for query in self._queries for window in _windows(query)]
        self._results: list[Likelihood | None] = [None] * len(self._windows)
        self.left = len(self._windows)
        by_answer = zip(*self._columns.values(), strict=True)
        self.answers = sum(any(map(len, queries)) for queries in by_answer)

    @property
    def answers_left(self) -> float:
        """The answers with queries, less the share of results that is there."""
        return self.answers * self.left / len(self._results)

    def key(self, model: str) -> str:
        """A hash of the model and of all queries."""
        digest = blake2b(model.encode(), digest_size=16)
        for column, rows in self._columns.items():
            digest.update(f"\n{column} ".encode())
            digest.update(repr([len(queries) for queries in rows]).encode())
        for one in self._queries:
            if isinstance(one, Failure):
                digest.update(f"!{one.code}".encode())
            elif isinstance(one, KnownResult):
                digest.update(f"={one.note}".encode())
            else:
                digest.update(f":{one.note} ".encode())
                for window in _windows(one):
                    digest.update(f"{len(window.context)} {len(window.token_ids)} ".encode())
                    tokens = [*window.context, *window.token_ids]
                    digest.update(np.asarray(tokens, np.int64).tobytes())
        return digest.hexdigest()

    def continuations(self, first: int) -> Iterator[Continuation]:
        """The queries for an engine; `first` is the index of position 0."""
        for position, one in enumerate(self._windows):
            yield Continuation(first + position, one.context, one.token_ids)

    def add(self, position: int, likelihood: Likelihood) -> None:
        self._results[position] = likelihood
        self.left -= 1

    def cells(self) -> dict[str, list[list[dict[str, Any]]]]:
        """All results, by column and row, as the cache stores them."""
        results = iter(self._results)
        return {
            column: [[_entry(query, results) for query in queries] for queries in rows]
            for column, rows in self._columns.items()
        }


def _windows(query: Query) -> Sequence[LikelihoodQuery]:
    """What the model computes for a query; nothing if its result is known."""
    if isinstance(query, RollingQuery):
        return query.windows
    return (query,) if isinstance(query, LikelihoodQuery) else ()


def _entry(query: Query, results: Iterator[Likelihood | None]) -> dict[str, Any]:
    """The cell of a query, which takes the results of its windows."""
    windows = _windows(query)
    found = [result for result in islice(results, len(windows)) if result is not None]
    if len(found) < len(windows):
        raise ValueError("a result of the block is missing")
    failures = [one.failure for one in found if one.failure]
    if isinstance(query, Failure):
        failures = [query]
    return {
        "logprob": 0.0 if failures else math.fsum(one.total for one in found),
        "tokens": sum(len(window.token_ids) for window in windows),
        "greedy": bool(found) and all(one.greedy for one in found),
        "failure": failures[0].code if failures else None,
        "note": None if isinstance(query, Failure) else query.note,
    }


def _cut(table: pa.Table) -> Iterator[pa.Table]:
    for first in range(0, table.num_rows, BLOCK_ROWS):
        yield table.slice(first, BLOCK_ROWS)
