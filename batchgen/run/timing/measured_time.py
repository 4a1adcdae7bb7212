"""`plan --measure`: a few rows are generated, and the time of all is estimated from them.

16 rows, one token each        what prompts cost
16 rows, whole answers         how long answers are, and what a step of few rows costs
up to 64 rows, a few tokens    what a step of many rows costs
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from batchgen.engines.contract import Engine, Estimate
from batchgen.engines.engine_registry import find_engine, open_engine
from batchgen.planning.batches import sort_by_length
from batchgen.planning.run_time import AnswerWork, TimedWork, count_steps
from batchgen.records import Completion, Request
from batchgen.run.setup import Setup
from batchgen.run.timing.estimate_time import (
    AnswerLengths,
    Capacity,
    TimeEstimate,
    device_kind,
    predict,
    prompt_tokens,
)
from batchgen.run.timing.later_turns import NO_UNASKED_TURNS, UnaskedTurns

MEASURED_ROWS = 16
_MOST_ROWS = 64
_FEW_TOKENS = 8
_MOST_WORK = 4
"""The third measurement reads at most so many times the prompt tokens of the first."""


def measured_time(
    setup: Setup,
    requests: Sequence[Request],
    rows: int,
    engine: Estimate,
    *,
    later: UnaskedTurns = NO_UNASKED_TURNS,
) -> TimeEstimate:
    """Load the model, answer `MEASURED_ROWS` rows of all lengths, and estimate; the arguments are those of `estimate_time`.

    Of conversations, first turns are answered; answers to later ones count with the same length.
    """
    measurable = later.first_turns(requests)
    if not measurable:
        return TimeEstimate(0.0, 0.0, 0, at_most=False, source="no row is sent to the model")
    spread = sort_by_length(measurable)
    chosen = _evenly(spread, MEASURED_ROWS)
    shares = find_engine(setup.job.model.engine).info.needs == "weights"
    capacity = Capacity(engine.rows_at_once, shares, device_kind(engine))
    began = time.perf_counter()
    with closing(setup.scoring_model.open(open_engine, lambda: False)) as opened:
        load_seconds = time.perf_counter() - began
        list(opened.generate([_short(chosen[-1], 2)]))  # compiles what it needs
        timed = []
        if not any(request.label_tokens for request in chosen):
            first = [_short(request, 1) for request in chosen]
            timed.append(_timed(opened, first, capacity)[0])
            wide = _wide(spread, sum(len(request.token_ids) for request in chosen))
            if len(wide) > len(chosen):
                some = [_short(request, _FEW_TOKENS) for request in wide]
                timed.append(_timed(opened, some, capacity)[0])
        whole, done = _timed(opened, chosen, capacity)
    lengths = [one.new_tokens for one in done if one.failure is None] or [1]
    count = f"{len(chosen)} rows" if len(chosen) > 1 else "1 row"
    mean = sum(lengths) / len(lengths)
    return predict(
        setup,
        later.lengthened(requests, mean),
        rows,
        capacity=capacity,
        timed=[*timed, whole],
        lengths=AnswerLengths(mean, max(lengths)),
        load_seconds=load_seconds,
        source=f"from {count} generated now",
    )


def _timed(
    engine: Engine, requests: Sequence[Request], capacity: Capacity
) -> tuple[TimedWork, list[Completion]]:
    began = time.perf_counter()
    done = list(engine.generate(requests))
    seconds = max(time.perf_counter() - began, 1e-6)
    lengths = [one.new_tokens for one in done]
    new, longest = sum(lengths), max(lengths, default=0)
    steps = count_steps(len(requests), new, longest, capacity.rows_at_once)
    work = AnswerWork(prompt_tokens(requests, len(requests), capacity), new, steps)
    return TimedWork(work, seconds), done


def _evenly(requests: Sequence[Request], count: int) -> list[Request]:
    """So many requests, at equal distances; all if there are no more."""
    step = max(1.0, len(requests) / count)
    return [requests[int((at + 0.5) * step)] for at in range(min(count, len(requests)))]


def _wide(requests: Sequence[Request], tokens: int) -> list[Request]:
    """Up to `_MOST_ROWS` requests, fewer if their prompts are long."""
    count = min(_MOST_ROWS, len(requests))
    while count > 1:
        chosen = _evenly(requests, count)
        if sum(len(request.token_ids) for request in chosen) <= _MOST_WORK * tokens:
            return chosen
        count //= 2
    return []


def _short(request: Request, tokens: int) -> Request:
    """The request, its answer ended after so many tokens."""
    few = min(tokens, request.decoding.max_new_tokens)
    return replace(request, decoding=replace(request.decoding, max_new_tokens=few))
