"""A whole run: lock the folder, see what is there, answer the missing parts, publish.

    lock ─> set up ─> same job as before? ─> which parts are missing? ─> work ─> publish ─> manifest

The way of a row is in `work.py`. Knows nothing of the command line.
"""

import math
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TextIO

import polars as pl

from batchgen.data.folder import RunFolder, read_json
from batchgen.data.parts import Counts, PartStore, SealedPart
from batchgen.data.publish import publish
from batchgen.engines.base import Engine
from batchgen.engines.open import open_engine
from batchgen.errors import ExitCode, StateError
from batchgen.job.load import LoadedJob
from batchgen.runner.identity import FORMAT, Identity, must_match, read_identity
from batchgen.runner.lock import held
from batchgen.runner.progress import Progress, silent
from batchgen.runner.setup import Setup, identity_of, set_up
from batchgen.runner.work import Way, work

Start = Literal["resume", "fresh"]
"""What becomes of a run that the output folder holds already: go on with it, or move it aside."""

ShowProgress = Callable[[str, int, int], AbstractContextManager[Progress]]
"""Opens the progress of a run: its name, its output rows, how many of them are there already."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        resumed_rows: output rows that an earlier start of this run had sealed.
        seconds: from the first row to the last, model loading not included; 0 if nothing was left to do.
    """

    outcome: Literal["done", "already complete", "stopped"]
    folder: RunFolder
    run_id: str
    counts: Counts
    expected_rows: int
    resumed_rows: int
    seconds: float
    load_seconds: float
    max_errors: float
    engine: Mapping[str, Any]

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with; a stopped run ends by its signal instead."""
        if self.outcome == "stopped":
            return ExitCode.RUN_AGAIN
        if self.counts.failed > allowed_failures(self.max_errors, self.counts.rows):
            return ExitCode.TOO_MANY_FAILED_ROWS
        return ExitCode.DONE

    def frame(self) -> pl.DataFrame:
        """The answers.

        Raises:
            StateError: the run is not complete.
        """
        if self.outcome == "stopped":
            raise StateError(f"{self.folder.path} is not complete", hint="Run the job again.")
        return read_responses(self.folder)


def read_responses(folder: RunFolder) -> pl.DataFrame:
    """The published answers of a complete run."""
    if folder.responses.exists():
        return pl.read_parquet(folder.responses)
    return pl.read_parquet(folder.response_parts / "*.parquet")


def allowed_failures(max_errors: float, rows: int) -> int:
    """How many rows may fail: `max_errors` is a share below 1, a count from 1 on."""
    return math.floor(max_errors * rows) if max_errors < 1 else math.floor(max_errors)


def run(
    loaded: LoadedJob,
    *,
    start: Start = "resume",
    progress: ShowProgress = silent,
    say: Callable[[str], None] = lambda _: None,
    terminal: TextIO | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Run a job, or go on with it where it was stopped.

    Args:
        loaded: the job.
        start: whether to go on from what the output folder holds.
        progress: how to show the work.
        say: told, in a sentence, what is being waited for.
        terminal: where bars may be drawn while a model is fetched.
        stop: asked between steps; once true, the run stops and can be gone on with later.

    Raises:
        BatchgenError: something stands in the way; its exit code says what kind of thing.
    """
    folder = RunFolder(Path(loaded.job.output.path))
    folder.create()
    with held(folder.lock):
        folder.clear_scratch()
        if start == "fresh" and (aside := folder.set_aside()):
            say(f"the old run is now {aside}")
        setup = set_up(loaded, say, terminal)
        identity = _identity(folder, setup)
        if folder.manifest.exists():
            return _already_complete(folder, setup)
        return _Runner(folder, setup, identity, progress, say, stop).go()


def _identity(folder: RunFolder, setup: Setup) -> Identity:
    """The identity of the run in the folder, or a new one."""
    now = identity_of(setup)
    known = read_identity(folder)
    if known is not None:
        must_match(folder, known, now)
        return known
    if folder.manifest.exists() or folder.responses.exists() or folder.response_parts.exists():
        raise StateError(
            f"{folder.path} holds answers, but not the state of the run that made them",
            hint="Write elsewhere with --output FOLDER, or start over with --fresh: they are moved aside.",
        )
    folder.write_json(folder.run, now.content())
    folder.write_text(folder.job, setup.loaded.dump(), mode=int(setup.job.output.file_mode, 8))
    return now


def _already_complete(folder: RunFolder, setup: Setup) -> RunResult:
    manifest = read_json(folder.manifest)
    counts = Counts(**manifest["counts"])
    return RunResult(
        outcome="already complete",
        folder=folder,
        run_id=manifest["run_id"],
        counts=counts,
        expected_rows=counts.rows,
        resumed_rows=counts.rows,
        seconds=0.0,
        load_seconds=0.0,
        max_errors=setup.job.run.max_errors,
        engine=manifest["engine"],
    )


@dataclass(frozen=True, slots=True)
class _Runner:
    """One start of a run, under the lock."""

    folder: RunFolder
    setup: Setup
    identity: Identity
    progress: ShowProgress
    say: Callable[[str], None]
    stop: Callable[[], bool]

    def go(self) -> RunResult:
        """Answer the missing parts, and publish if all are there."""
        job = self.setup.job
        store = PartStore(self.folder, compression=job.output.compression, prefix=job.output.prefix)
        sealed = store.sealed()
        resumed = sum((part.counts for part in sealed.values()), Counts())
        began = time.monotonic()
        facts: Mapping[str, Any] = {}
        loaded_at = worked_at = began
        if len(sealed) < self._part_count:
            engine = self._open_engine()
            loaded_at = time.monotonic()
            try:
                sealed |= self._work(engine, store, sealed, resumed)
                facts = dict(engine.facts())
            finally:
                engine.close()
            worked_at = time.monotonic()
        result = RunResult(
            outcome="done" if len(sealed) == self._part_count else "stopped",
            folder=self.folder,
            run_id=self.identity.run_id,
            counts=sum((part.counts for part in sealed.values()), Counts()),
            expected_rows=self._output_rows,
            resumed_rows=resumed.rows,
            seconds=worked_at - loaded_at,
            load_seconds=loaded_at - began,
            max_errors=job.run.max_errors,
            engine=facts,
        )
        if result.outcome == "done":
            self._publish(sealed, result)
        return result

    @property
    def _part_count(self) -> int:
        return math.ceil(self.identity.rows / self.identity.part_rows)

    @property
    def _output_rows(self) -> int:
        return self.identity.rows * self.setup.asking.samples

    def _open_engine(self) -> Engine:
        job, model = self.setup.job, self.setup.model
        self.say(f"loading {job.model.path}" if model else "engine echo: answers without a model")
        return open_engine(
            job.model,
            folder=model.resolved.folder if model else None,
            batching=job.batching,
            decode=self.setup.tokenizer.decode,
            should_stop=self.stop,
        )

    def _work(
        self,
        engine: Engine,
        store: PartStore,
        sealed: Mapping[int, SealedPart],
        resumed: Counts,
    ) -> dict[int, SealedPart]:
        chunks = self.setup.reading.source.chunks(
            self.setup.survey, rows=self.identity.part_rows, skip=sealed.keys()
        )
        name = self.setup.job.name
        with self.progress(name, self._output_rows, resumed.rows) as progress:
            way = Way(
                asking=self.setup.asking,
                engine=engine,
                store=store,
                layout=self.setup.reading.layout,
                run_id=self.identity.run_id,
                part_rows=self.identity.part_rows,
                progress=progress,
                stop=self.stop,
            )
            return work(way, chunks)

    def _publish(self, sealed: Mapping[int, SealedPart], result: RunResult) -> None:
        setup, output = self.setup, self.setup.job.output
        origin = {
            "job": setup.job.name,
            "fingerprint": self.identity.fingerprint,
            "settings": self.identity.settings,
            "model": _model_record(setup),
            "versions": versions(),
        }
        schema = setup.reading.layout.schema(setup.survey.schema)
        files = publish(self.folder, sealed, schema, output=output, facts=origin)
        manifest = {
            "format": FORMAT,
            "run_id": self.identity.run_id,
            **origin,
            "files": [asdict(file) for file in files],
            "rows": self.identity.rows,
            "samples": setup.asking.samples,
            "counts": asdict(result.counts),
            "max_errors": result.max_errors,
            "input": list(self.identity.input),
            "engine": dict(result.engine),
            "started_at": self.identity.started_at,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(result.seconds, 3),
            "load_seconds": round(result.load_seconds, 3),
            "resumed_rows": result.resumed_rows,
        }
        self.folder.write_json(self.folder.manifest, manifest, mode=int(output.file_mode, 8))
        for part in sealed.values():
            part.path.unlink()
            part.path.with_suffix(".json").unlink(missing_ok=True)


def _model_record(setup: Setup) -> dict[str, Any]:
    if setup.model is None:
        return {}
    resolved = setup.model.resolved
    return {
        "name": resolved.name,
        "source": resolved.source,
        "revision": resolved.revision,
        "lock": setup.model.lock.name if setup.model.lock else None,
        "parameters": setup.model.card.parameters,
    }


def versions() -> dict[str, str]:
    """The libraries that decide what comes out."""
    names = ("batchgen-llm", "torch", "transformers", "tokenizers", "pyarrow", "polars")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
