"""The estimate of a run's time, for `plan` and for the start of `run`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from batchgen.engines.contract import Estimate
from batchgen.planning.required_flops import AnsweredRequest, ModelFlops, measure_useful_work
from batchgen.planning.run_time import AnswerWork, TimedWork, count_steps, predict_seconds
from batchgen.progress import format_duration
from batchgen.records import Request
from batchgen.run.setup import Setup
from batchgen.run.timing.later_turns import NO_UNASKED_TURNS, UnaskedTurns
from batchgen.run.timing.speed_record import RunSpeed, earlier_speeds

_TOKENS_ONLY = ModelFlops(0.0, 0.0, ())


@dataclass(frozen=True, slots=True)
class TimeEstimate:
    """How long a run takes, from the first row to the last.

    Attributes:
        seconds: None without an estimate.
        load_seconds: before the first row.
        new_tokens: of all answers together.
        at_most: whether the lengths of answers are unknown, so that each counts with `max_new_tokens`.
        source: from what it was estimated; or why it was not, and how to get an estimate.
        answer_tokens: mean of the answers to this job that were measured; None if there are none.
    """

    seconds: float | None
    load_seconds: float
    new_tokens: int
    at_most: bool
    source: str
    answer_tokens: float | None = None

    def describe(self) -> list[str]:
        """Lines for `plan`."""
        if self.seconds is None:
            return [f"no estimate: {self.source}"]
        about = "at most about" if self.at_most else "about"
        loads = self.load_seconds
        loading = f", and {_rounded(loads)} to load" if loads else ""
        lines = [f"{about} {_rounded(self.seconds)}{loading} · {self.source}"]
        if self.at_most:
            lines.append(
                "every answer counts with max_new_tokens: this job has not run here before"
            )
        return lines


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an engine computes together.

    Attributes:
        shares_prompts: whether a prefix that several prompts share is computed once.
    """

    rows_at_once: int
    shares_prompts: bool
    device: Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class AnswerLengths:
    """Mean and largest number of tokens of answers to this job's prompts."""

    mean: float
    longest: int


NEVER_RUN = "this model has not run on this machine with these settings; --measure generates 16 rows to estimate it"


def estimate_time(
    setup: Setup,
    requests: Sequence[Request],
    rows: int,
    engine: Estimate,
    *,
    later: UnaskedTurns = NO_UNASKED_TURNS,
) -> TimeEstimate:
    """Estimate from earlier runs.

    Args:
        setup: of the job.
        requests: those of the first `rows` rows.
        rows: how many of the job's rows were counted.
        engine: what the engine would need.
        later: which of the requests are asked after answers.
    """
    speeds = earlier_speeds(setup)
    if not speeds:
        return TimeEstimate(None, 0.0, 0, at_most=False, source=NEVER_RUN)
    if not requests:
        return TimeEstimate(0.0, 0.0, 0, at_most=False, source="no row is sent to the model")
    lengths = _lengths(setup, speeds)
    times = f"{len(speeds)} earlier runs" if len(speeds) > 1 else "an earlier run"
    source = f"from {times} on this machine, the last on {speeds[-1].finished_at[:10]}"
    timed = [one.timed for one in speeds]
    return predict(
        setup,
        later.lengthened(requests, lengths.mean if lengths else None),
        rows,
        capacity=Capacity(speeds[-1].rows_at_once, speeds[-1].shares_prompts, device_kind(engine)),
        timed=timed,
        lengths=lengths,
        load_seconds=min(one.load_seconds for one in speeds),
        source=source,
    )


def predict(  # noqa: PLR0913  # what an estimate depends on
    setup: Setup,
    requests: Sequence[Request],
    rows: int,
    *,
    capacity: Capacity,
    timed: Sequence[TimedWork],
    lengths: AnswerLengths | None,
    load_seconds: float,
    source: str,
) -> TimeEstimate:
    """The time of the whole job, from its first rows; `lengths` are None if no answer to such a prompt is known."""
    scale = setup.survey.rows / max(1, rows)
    answers = round(len(requests) * scale)
    most_new = sum(request.decoding.max_new_tokens for request in requests) * scale
    new = most_new if lengths is None else min(most_new, lengths.mean * answers)
    longest = max(request.decoding.max_new_tokens for request in requests)
    longest = longest if lengths is None else min(longest, lengths.longest)
    tokens = prompt_tokens(requests, setup.job.batching.part_rows * setup.samples, capacity)
    steps = count_steps(answers, round(new), longest, capacity.rows_at_once)
    work = AnswerWork(round(tokens * scale), round(new), steps)
    seconds = predict_seconds(work, timed, capacity.device)
    return TimeEstimate(
        seconds,
        load_seconds,
        round(new),
        at_most=lengths is None,
        source=source,
        answer_tokens=lengths.mean if lengths else None,
    )


def device_kind(engine: Estimate) -> Literal["cpu", "cuda"]:
    """The kind of hardware that computes the answers."""
    return "cuda" if engine.device.startswith("cuda") else "cpu"


def prompt_tokens(requests: Sequence[Request], window: int, capacity: Capacity) -> int:
    """Those of all prompts; where the engine shares them, those of a window of requests that are equal count once."""
    if not capacity.shares_prompts:
        return sum(len(request.token_ids) for request in requests)
    answered = [AnsweredRequest(one, 1) for one in requests]
    blocks = (answered[at : at + window] for at in range(0, len(answered), window))
    return sum(measure_useful_work(block, _TOKENS_ONLY).tokens for block in blocks)


def time_at_start(setup: Setup) -> str:
    """What `run` reports before the first row: a phrase, empty if this job has not run here before."""
    speeds = [one for one in earlier_speeds(setup) if one.settings == _fingerprint(setup)]
    if not speeds:
        return ""
    last = speeds[-1]
    answers = setup.survey.rows * setup.samples
    share = answers / last.answers
    new = round(last.new_tokens * share)
    steps = count_steps(answers, new, last.longest, last.rows_at_once)
    work = AnswerWork(round(last.prompt_tokens * share), new, steps)
    seconds = predict_seconds(work, [one.timed for one in speeds], last.device)
    return f"expected time for {answers:,} answers: about {_rounded(seconds)}, from earlier runs of this job"


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else format_duration(seconds)


def _lengths(setup: Setup, speeds: Sequence[RunSpeed]) -> AnswerLengths | None:
    """Those of earlier runs with the same settings."""
    own = [one for one in speeds if one.settings == _fingerprint(setup)]
    if not own:
        return None
    answers = sum(one.answers for one in own)
    mean = sum(one.new_tokens for one in own) / answers
    return AnswerLengths(mean, max(one.longest for one in own))


def _fingerprint(setup: Setup) -> str:
    return setup.request_builder.row_settings_fingerprint
