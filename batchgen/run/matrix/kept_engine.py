"""An engine that stays loaded from one run to the next, if both need the same one."""

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.engines.contract import Engine
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.job.spec import ModelSpec
from batchgen.progress import SILENT, Reporter
from batchgen.records import Completion, Continuation, InFlight, Likelihood, Request

COUNTED_RUNS = "counted_runs"
"""A fact of an engine that stayed loaded: how many runs, this one included, its other facts count."""


@dataclass(slots=True)
class _Lent:
    """An engine as a run sees it: `close` leaves it loaded."""

    engine: Engine
    runs: int

    @property
    def name(self) -> str:
        return self.engine.name

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        return self.engine.generate(requests)

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
        return self.engine.likelihoods(continuations)

    def in_flight(self) -> InFlight:
        return self.engine.in_flight()

    def facts(self) -> Mapping[str, object]:
        facts = self.engine.facts()
        return facts if self.runs == 1 else {**facts, COUNTED_RUNS: self.runs}

    def close(self) -> None:
        """Do nothing: the next run may need it."""


class KeptEngine:
    """Opens engines as `opener` does, and keeps the last one. At most one is loaded. Pickled, it is `opener` itself."""

    def __init__(self, opener: EngineOpener, reporter: Reporter = SILENT) -> None:
        self._opener = opener
        self._reporter = reporter
        self._key: Hashable = None
        self._engine: Engine | None = None
        self._runs: set[int] = set()
        self._run = 0

    def __call__(self, model: ModelSpec, /, **options: Any) -> Engine:  # noqa: ANN401  # of EngineOpener
        key = _key(model, options)
        if self._engine is None or key != self._key:
            self.close()
            self._engine, self._key = self._opener(model, **options), key
        else:
            self._reporter.info("already loaded by the run before")
        self._runs.add(self._run)
        return _Lent(self._engine, len(self._runs))

    def __reduce__(self) -> tuple[Callable[[EngineOpener], EngineOpener], tuple[EngineOpener]]:
        return _itself, (self._opener,)

    def next_run(self, *, clean: bool) -> None:
        """Another run begins; without `clean`, rows may still be in flight, and the engine is closed."""
        self._run += 1
        if not clean:
            self.close()

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine, self._key = None, None
        self._runs.clear()


def _key(model: ModelSpec, options: Mapping[str, Any]) -> Hashable:
    """Equal where one engine can serve both: model, its files, and what is computed together."""
    folders = [options["folder"], model.adapter]
    return (
        model.model_dump_json(),
        tuple(_files(Path(folder)) for folder in folders if folder is not None),
        options["batching"].model_dump_json(),
        options["workers"],
    )


def _files(folder: Path) -> Hashable:
    """Names, sizes and times of the files of a model."""
    if not folder.is_dir():
        return str(folder)
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    return (
        str(folder),
        *((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries if e.is_file()),
    )


def _itself(opener: EngineOpener) -> EngineOpener:
    return opener
