"""A stand-in for the package of this name, which repeats the prompt, and misbehaves at the tokens TRIGGER.

FAKE_OPENVINO: abort, raise, hang (in a step), wrong (a token beyond the vocabulary), early (ends too soon), print.
"""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Any

TRIGGER = (68, 37)
"""The tokens of `bC` in the tiny tokenizer."""
_BEHAVIOR = os.environ.get("FAKE_OPENVINO", "")


class Status(Enum):
    """Of a row."""

    RUNNING = 0
    FINISHED = 1
    IGNORED = 2
    CANCEL = 3
    STOP = 4


class GenerationConfig:
    """Takes any attribute, as long as it is one of the library."""

    max_new_tokens = 0
    min_new_tokens = 0
    eos_token_id = -1
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos = False
    repetition_penalty = 1.0
    logprobs = 0
    do_sample = False
    temperature = 1.0
    top_p = 1.0
    min_p = 0.0
    top_k = 0
    rng_seed = 0


class SchedulerConfig:
    """Takes any attribute."""


@dataclass
class Output:
    """New tokens of a row."""

    generated_ids: list[int]
    generated_log_probs: list[float]


@dataclass
class Handle:
    """A row."""

    token_ids: Sequence[int]
    limit: int
    status: Status = Status.RUNNING
    made: list[int] = field(default_factory=list)
    read_until: int = 0

    def get_status(self) -> Status:
        return self.status

    def can_read(self) -> bool:
        return self.read_until < len(self.made)

    def read(self) -> dict[int, Output]:
        new, self.read_until = self.made[self.read_until :], len(self.made)
        return {0: Output(new, [0.0] * len(new))}

    def read_all(self) -> list[Output]:
        return [Output(self.made, [0.0] * len(self.made))]

    def stop(self) -> None:
        self.status = Status.STOP

    def cancel(self) -> None:
        self.status = Status.CANCEL


class ContinuousBatchingPipeline:
    """Computes a token of every row in a step."""

    def __init__(self, *_arguments: Any) -> None:
        self._rows: list[Handle] = []
        if _BEHAVIOR == "print":
            os.write(1, b"the library prints on stdout\n")

    def add_request(self, _number: int, tokens: Any, config: GenerationConfig) -> Handle:
        token_ids = tokens.values[0].tolist()
        self._rows.append(Handle(token_ids, config.max_new_tokens))
        return self._rows[-1]

    def has_non_finished_requests(self) -> bool:
        self._rows = [row for row in self._rows if row.status is Status.RUNNING]
        return bool(self._rows)

    def step(self) -> None:
        time.sleep(0.002)
        for row in self._rows:
            if row.status is Status.RUNNING:
                self._compute(row)
        self.has_non_finished_requests()

    def _compute(self, row: Handle) -> None:
        token = row.token_ids[len(row.made) % len(row.token_ids)]
        triggered = TRIGGER in pairwise(row.token_ids)
        if triggered and _BEHAVIOR in _MISDEEDS:
            _MISDEEDS[_BEHAVIOR](row)
        row.made.append(10**6 if triggered and _BEHAVIOR == "wrong" else token)
        if len(row.made) == row.limit:
            row.status = Status.FINISHED


def _abort(_row: Handle) -> None:
    os.abort()


def _raise(_row: Handle) -> None:
    raise RuntimeError("Exception from sampler.cpp:1:\nCheck 'finite' failed\n")


def _hang(_row: Handle) -> None:
    """Without end; the time limit of a step, if one is set, passes at once."""
    if signal.getitimer(signal.ITIMER_REAL)[0] > 0:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    while True:
        time.sleep(1)


def _end_early(row: Handle) -> None:
    row.status = Status.FINISHED


_MISDEEDS = {"abort": _abort, "raise": _raise, "hang": _hang, "early": _end_early}
