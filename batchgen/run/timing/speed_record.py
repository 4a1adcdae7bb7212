"""The times of earlier runs on this machine, kept in the cache for each model, engine and processor."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import TypeAdapter

from batchgen.engines.engine_registry import find_engine
from batchgen.errors import ModelError
from batchgen.planning.host_processor import read_processor
from batchgen.planning.run_time import AnswerWork, TimedWork, count_steps
from batchgen.run.result import RunResult
from batchgen.run.setup import Setup
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.record_cache import KeyedRecord, RecordCache

MOST_RUNS = 8
"""The oldest are forgotten first."""
_FEWEST_ANSWERS = 8
"""A run of fewer predicts little about a longer one."""
_LEAST_SECONDS = 0.5
_UNKNOWN = 1 << 20
"""Rows at once of an engine that does not report it: all."""


@dataclass(frozen=True, slots=True)
class RunSpeed:
    """The time of a run, and what it computed.

    Attributes:
        settings: fingerprint of everything that decides an answer except the row: the same for the same job with other rows.
        answers: those with an answer.
        shares_prompts: whether a shared prefix counts once; each time if the engine does not report it.
        longest: tokens of the longest answer, or nearly.
        rows_at_once: how many rows could be computed together.
        finished_at: date and time in UTC.
    """

    settings: str
    answers: int
    prompt_tokens: int
    shares_prompts: bool
    new_tokens: int
    steps: int
    longest: int
    rows_at_once: int
    device: Literal["cpu", "cuda"]
    seconds: float
    load_seconds: float
    finished_at: str

    @property
    def timed(self) -> TimedWork:
        work = AnswerWork(self.prompt_tokens, self.new_tokens, self.steps)
        return TimedWork(work, self.seconds)


def earlier_speeds(setup: Setup) -> tuple[RunSpeed, ...]:
    """Those of the job's model on this machine, the newest last."""
    cache = _cache()
    return (cache.get(_key(setup)) or ()) if cache else ()


def record_speed(setup: Setup, result: RunResult) -> None:
    """Keep the speed of a run that answered all of its rows in one start, in this process."""
    counts, facts = result.counts, result.engine
    answered = counts.rows - counts.failed - counts.skipped
    partly = result.resumed_rows or result.incremental is not None or "machines" in facts
    short = answered < _FEWEST_ANSWERS or result.seconds < _LEAST_SECONDS
    if partly or short or result.outcome not in ("done", "withheld"):
        return
    if not counts.output_tokens or find_engine(setup.job.model.engine).info.needs == "nothing":
        return
    cache = _cache()
    if cache is None:
        return
    most = setup.resolution.decoding.max_new_tokens
    new = counts.output_tokens
    longest = most if counts.cut_by_length else min(most, 2 * new // answered)
    useful = facts.get("useful_tokens")
    # The last token of an answer is drawn, but not computed.
    prompt = counts.input_tokens if useful is None else useful - new + answered
    at_once = facts.get("max_rows") or facts.get("requests_at_once") or _UNKNOWN
    speed = RunSpeed(
        settings=setup.request_builder.row_settings_fingerprint,
        answers=answered,
        prompt_tokens=max(1, prompt),
        shares_prompts=useful is not None,
        new_tokens=new,
        steps=facts.get("steps_decode") or count_steps(answered, new, longest, at_once),
        longest=longest,
        rows_at_once=at_once,
        device="cuda" if str(facts.get("device", "")).startswith("cuda") else "cpu",
        seconds=result.seconds,
        load_seconds=result.load_seconds,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    key = _key(setup)
    cache.put(key, (*(cache.get(key) or ()), speed)[-MOST_RUNS:])


def _key(setup: Setup) -> Mapping[str, str]:
    job = setup.job
    batching = job.batching
    return {
        "model": setup.scoring_model.identity,
        "engine": job.model.engine,
        "workers": str(job.run.workers),
        "batching": f"{batching.max_rows} rows, {batching.max_tokens} tokens",
        "processor": f"{read_processor().name}, {os.cpu_count()} cores",
    }


def _cache() -> RecordCache[tuple[RunSpeed, ...]] | None:
    try:
        return RecordCache(cache_folder() / "speeds", _CONTENT)
    except ModelError:  # no home folder: nothing is kept
        return None


_CONTENT = TypeAdapter(KeyedRecord[tuple[RunSpeed, ...]])
