"""Asking a model about answers, between sealing and scoring: what it tells becomes columns that the scorer reads.

    tables ──blocks──> questions ──Engine.likelihoods──> a kept file per block ──> tables with columns `model:<metric>`

Blocks that were kept before a kill are not asked again: a block's file is named by a hash of the model and of every token
that is asked about. The engine is opened for the first block that is missing, and closed after the last one. What
is asked is a `QuerySource`'s (`query.py`). Knows nothing of metrics.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from batchgen.engines.contract import Engine
from batchgen.evaluation.answers import Tables
from batchgen.evaluation.model_queries.query import KnownResult, LikelihoodQuery, Query, QuerySource
from batchgen.records import Continuation, Failure, Likelihood
from batchgen.state.likelihood_cache import LIKELIHOODS_TYPE, LikelihoodCache

BLOCK_ROWS = 256
"""Answers of a block, which is kept as soon as everything is told of it: a kill costs those that an engine had begun."""
_SPAN = 1 << 32
"""Room for the continuations of a block: an engine's key is the block's number times this, and a place in it."""


class StoppedError(Exception):
    """The run was asked to stop before everything was told. What was told is kept."""


class LazyEngine:
    """An engine that is opened when it is first needed."""

    def __init__(self, opener: Callable[[], Engine]) -> None:
        """Nothing is opened yet."""
        self._opener = opener
        self._engine: Engine | None = None

    def get(self) -> Engine:
        """The engine."""
        if self._engine is None:
            self._engine = self._opener()
        return self._engine

    def close(self) -> None:
        """Give its memory back. It may be opened again."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


@dataclass(frozen=True, slots=True)
class ScoringPass:
    """One model, and what it is asked about every answer.

    Attributes:
        model: what tells the model from others.
        engine: of the model; stays open.
        questions: in any order.
        store: keeps what was told.
        stop: asked between continuations.
        say: told, in a sentence, what is being waited for.
        what: that sentence; what stands before its colon is said again with how far it is.
        seconds: between two such words.
    """

    model: str
    engine: LazyEngine
    questions: Sequence[QuerySource]
    store: LikelihoodCache
    stop: Callable[[], bool] = lambda: False
    say: Callable[[str], None] = lambda _: None
    what: str = "asking the model about the answers"
    seconds: float = 60.0

    def widen(self, tables: Tables) -> Tables:
        """Ask about all answers; the same tables, with a column for each who asked.

        Raises:
            StoppedError: it was asked to stop.
        """
        if not self.questions:
            return tables
        keys = self._ask(tables)
        return lambda: self._beside(tables, keys)

    def _ask(self, tables: Tables) -> list[str]:
        """The key of each block, all of which are kept by now."""
        round_ = _PassState(self, tables)
        asked = round_.missing()
        first = next(asked, None)
        if first is None:
            return round_.keys
        engine = self.engine.get()
        self.say(self.what)
        said = time.monotonic()
        for likelihood in engine.likelihoods(chain([first], asked)):
            round_.take(likelihood)
            if time.monotonic() - said >= self.seconds:
                said = time.monotonic()
                who = self.what.partition(":")[0]
                self.say(f"{who}: about {round_.through:,} answers are through")
            if self.stop():
                break
        if round_.open or self.stop():
            raise StoppedError
        return round_.keys

    def texts(self, table: pa.Table) -> "_QueriesByColumn":
        """What is asked about the rows of a table."""
        found: dict[str, Sequence[Sequence[Query]]] = {}
        for question in self.questions:
            found.update(zip(question.columns, question.ask(table), strict=True))
        return found

    def _beside(self, tables: Tables, keys: Sequence[str]) -> Iterator[pa.Table]:
        names = iter(keys)
        for table in tables():
            told = [self.store.read(next(names)) for _ in _cuts(table)]
            for name in dict.fromkeys(chain.from_iterable(one.column_names for one in told)):
                chunks = chain.from_iterable(one.column(name).chunks for one in told)
                table = table.append_column(name, pa.chunked_array(chunks, LIKELIHOODS_TYPE))
            yield table


@dataclass(frozen=True, slots=True)
class ScoringPasses:
    """Everybody who is asked, with one model in memory at a time.

    Attributes:
        own: of the model that answered, whose engine may be open already.
        others: those that share an engine stand together, those that share that of `own` first.
    """

    own: ScoringPass
    others: Sequence[ScoringPass] = ()

    def widen(self, tables: Tables) -> Tables:
        """Ask everybody about all answers, and close the engines; the same tables, with a column for each who asked.

        Raises:
            StoppedError: they were asked to stop.
        """
        engine = self.own.engine
        try:
            for panel in (self.own, *self.others):
                if panel.engine is not engine:
                    engine.close()
                    engine = panel.engine
                tables = panel.widen(tables)
        finally:
            engine.close()
        return tables

    def forget(self) -> None:
        """Delete what was told to other questions than these: the scores are published."""
        self.own.store.forget_others()


_QueriesByColumn = Mapping[str, Sequence[Sequence[Query]]]
"""By column, for each row, its texts."""


@dataclass(slots=True)
class _PassState:
    """One way through all blocks.

    Attributes:
        keys: of the blocks so far.
        open: the blocks of which not everything is told yet, by number.
    """

    panel: ScoringPass
    tables: Tables
    keys: list[str] = field(default_factory=list)
    open: dict[int, "_AnswerBlock"] = field(default_factory=dict)

    @property
    def through(self) -> int:
        """About how many answers everything is told of; blocks count as full ones."""
        whole = len(self.keys) - len(self.open)
        return int(BLOCK_ROWS * (whole + sum(block.share_told for block in self.open.values())))

    def missing(self) -> Iterator[Continuation]:
        """What is to be asked about the blocks that are not kept."""
        store = self.panel.store
        for number, rows in enumerate(_blocks(self.tables)):
            block = _AnswerBlock(self.panel.texts(rows))
            key = block.key(self.panel.model)
            self.keys.append(key)
            if store.has(key):
                continue
            if block.left:
                self.open[number] = block
                yield from block.continuations(number * _SPAN)
            else:
                store.keep(key, block.told())

    def take(self, likelihood: Likelihood) -> None:
        """Note what was told; a block of which everything is told is kept."""
        number, place = divmod(likelihood.index, _SPAN)
        block = self.open[number]
        block.take(place, likelihood)
        if not block.left:
            self.panel.store.keep(self.keys[number], block.told())
            del self.open[number]


@dataclass(slots=True)
class _AnswerBlock:
    """What is asked about some answers, and what was told so far.

    Attributes:
        left: how many texts nothing is known of yet.
    """

    texts: _QueriesByColumn
    left: int = 0
    _told: list[Likelihood | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        for one in self._all():
            failure = one if isinstance(one, Failure) else None
            asks = isinstance(one, LikelihoodQuery)
            self._told.append(None if asks else Likelihood(0, (), failure=failure))
            self.left += asks

    @property
    def share_told(self) -> float:
        """The share of its texts of which something is known."""
        return 1 - self.left / len(self._told)

    def _all(self) -> Iterator[Query]:
        for rows in self.texts.values():
            yield from chain.from_iterable(rows)

    def key(self, model: str) -> str:
        """A hash of the model, and of all that is asked."""
        digest = blake2b(model.encode(), digest_size=16)
        for column, rows in self.texts.items():
            digest.update(f"\n{column} ".encode())
            digest.update(repr([len(texts) for texts in rows]).encode())
        for one in self._all():
            if isinstance(one, Failure):
                digest.update(f"!{one.code}".encode())
            elif isinstance(one, KnownResult):
                digest.update(f"={one.note}".encode())
            else:
                digest.update(f":{len(one.context)} {len(one.token_ids)} {one.note} ".encode())
                digest.update(np.asarray([*one.context, *one.token_ids], np.int64).tobytes())
        return digest.hexdigest()

    def continuations(self, first: int) -> Iterator[Continuation]:
        """What an engine is to be asked; `first` is the key of place 0."""
        for place, one in enumerate(self._all()):
            if isinstance(one, LikelihoodQuery):
                yield Continuation(first + place, one.context, one.token_ids)

    def take(self, place: int, likelihood: Likelihood) -> None:
        """Note what was told."""
        self._told[place] = likelihood
        self.left -= 1

    def told(self) -> dict[str, list[list[dict[str, Any]]]]:
        """Everything, as the columns keep it."""
        every = zip(self._all(), self._told, strict=True)
        return {
            column: [[_entry(*next(every)) for _ in texts] for texts in rows]
            for column, rows in self.texts.items()
        }


def _entry(asked: Query, told: Likelihood | None) -> dict[str, Any]:
    if told is None:
        raise ValueError("a block is kept before everything is told")
    return {
        "logprob": told.total,
        "tokens": len(asked.token_ids) if isinstance(asked, LikelihoodQuery) else 0,
        "greedy": told.greedy,
        "failure": told.failure.code if told.failure else None,
        "note": None if isinstance(asked, Failure) else asked.note,
    }


def _blocks(tables: Tables) -> Iterator[pa.Table]:
    for table in tables():
        yield from _cuts(table)


def _cuts(table: pa.Table) -> Iterator[pa.Table]:
    for first in range(0, table.num_rows, BLOCK_ROWS):
        yield table.slice(first, BLOCK_ROWS)
