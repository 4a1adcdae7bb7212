"""Decides whether a step is computed by one process with all threads, or by one worker process per part.

    one process, all threads      reads every weight once                         a barrier after each operation
    one worker per part           each reads every weight, with its own threads   one barrier at the end

Milliseconds of all products of a decode step of SmolLM2-135M (two cores of an Intel Xeon with AMX, nothing else running),
"split" with half of the rows in each of two workers:

    rows                     2     8    24    48   128   256
    float32     split       23    24    34    49    99   178
                unsplit     10    12    23    44    90   185
    bfloat16    split       11    11    12    13    17    26
                unsplit      6     6     7     8    14    28

With few rows, products wait for the weights to be read, which every worker does again: two workers take twice as long as
one process. With many rows, products are bound by arithmetic, and workers also share what one process computes with one
thread: small operations and Python. So a step is split if each part has enough tokens. Rows that end last, the tail of a
batch, run in one process, which attends with threads as well (`row_threads.py`).

With AMX, one process computes all layers of a step in one kernel, each thread its share of rows and outputs
(`forward/compiled_layers.py`): then one process and two workers are within a tenth of each other on prompts and wide steps too.

That table is the rule with which a run begins. While other programs run it may be wrong: a barrier waits until the system runs the
other thread, and on two cores of an AMD EPYC (AVX2) with seven other processes, a step of 4 to 40 rows took 3 times as long
in one process as in two. So decode steps are timed: the other way is tried after 16 steps of a size, then less and less
often, and taken if it is faster. This changes no answer: it is done only where the probe of batch invariance finds the same
bits with any number of rows and threads, and not with shared prefixes that torch reads. Elsewhere the rule decides, so that the same run has
the same bits.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from statistics import median

from batchgen.planning.sequences import Prefix, ScheduledSequence, Segment, Step, StepKind

_FEWEST_TOKENS, _FEWEST_IN_TILES = 24, 96
"""Fewest tokens of a part, and with products of bfloat16 in tiles. Without tiles, bfloat16 halves both reading and arithmetic."""
_FEWEST_WITHOUT_THREADS = 8
"""The same, if one process has fewer threads than there are workers."""
_TOKENS_AS_ONE = 2000
"""Attention to so many earlier tokens takes about as long as the other computation of a token."""
_UNEVEN = 1.3
"""Largest size of a part relative to its share: beyond it, the others would wait."""
_FIRST_TRIAL, _LAST_TRIAL = 16, 256
"""Steps between two trials: at first, and at most."""
_FASTER = 0.9
"""Time of a way relative to the other, from which on it is taken."""


@dataclass(slots=True)
class _Timing:
    """Times of decode steps of similar size, and which way is taken: split or not."""

    split: bool
    interval: int = _FIRST_TRIAL
    remaining: int = _FIRST_TRIAL
    seconds: dict[bool, deque[float]] = field(
        default_factory=lambda: {way: deque(maxlen=3) for way in (True, False)}
    )

    def next_way(self) -> bool:
        return self.split if self.remaining > 0 else not self.split

    def add(self, seconds: float, *, split: bool) -> None:
        self.seconds[split].append(seconds)
        self.remaining -= 1
        if self.remaining >= 0:
            return
        # A trial; or the step could not be split.
        self.interval = min(2 * self.interval, _LAST_TRIAL)
        if split != self.split and self._is_faster(split):
            self.split, self.interval = split, _FIRST_TRIAL
        self.remaining = self.interval

    def _is_faster(self, way: bool) -> bool:
        usual = self.seconds[not way]
        return bool(usual) and median(self.seconds[way]) < _FASTER * median(usual)


class StepSplitter:
    """Splits the steps of a run."""

    def __init__(
        self, parts: int, fewest: int, *, learns: bool, with_prefixes: bool = False
    ) -> None:
        """Split into `parts` parts of at least `fewest` tokens; if it `learns`, decode steps are split if that is faster.

        `with_prefixes`: whether it learns from steps of rows with shared prefixes as well.
        """
        self.parts = parts
        self._fewest = fewest
        self._learns = learns and parts > 1
        self._with_prefixes = with_prefixes
        self._timings: dict[int, _Timing] = {}

    def split(self, step: Step) -> list[Step]:
        """The parts of a step, or the whole one."""
        if not self._can_learn(step):
            return split_step(step, self.parts, self._fewest)
        return split_step(step, self.parts, 1) if self._timing(step).next_way() else [step]

    def add_time(self, step: Step, parts: int, seconds: float) -> None:
        """Learn from the time of a step that was computed in so many parts."""
        if self._can_learn(step):
            self._timing(step).add(seconds, split=parts > 1)

    def _can_learn(self, step: Step) -> bool:
        # How torch reads a prefix depends on the number of rows in the part, and the last bits on that.
        if not self._learns or step.kind is not StepKind.DECODE:
            return False
        return self._with_prefixes or all(row.prefix is None for row in step.rows)

    def _timing(self, step: Step) -> _Timing:
        size = step.tokens.bit_length()
        if size not in self._timings:
            self._timings[size] = _Timing(step.tokens >= self.parts * self._fewest)
        return self._timings[size]


def fewest_tokens(workers: int, threads: int, *, in_tiles: bool) -> int:
    """Fewest tokens of a part, for one process with `threads`, and products of bfloat16 in tiles (AMX) or not."""
    if threads < workers:
        return _FEWEST_WITHOUT_THREADS
    return _FEWEST_IN_TILES if in_tiles else _FEWEST_TOKENS


def split_step(step: Step, parts: int, fewest: int) -> list[Step]:
    """Split the step into `parts` parts of similar work; a list with the whole step if that is not possible.

    `fewest`: tokens of a part; see `fewest_tokens`.
    """
    if parts == 1 or step.tokens < parts * fewest:
        return [step]
    if any(isinstance(segment.owner, Prefix) for segment in step.segments):
        return [step]
    work = [_work(segment) for segment in step.segments]
    runs = cut_evenly(work, parts)
    most = _UNEVEN * sum(work) / parts
    if any(sum(work[first:last]) > most for first, last in runs) or len(runs) < parts:
        return [step]
    return [Step(step.kind, step.segments[first:last]) for first, last in runs]


def cut_evenly(work: Sequence[float], parts: int) -> list[tuple[int, int]]:
    """Cut a sequence into at most `parts` runs of similar work, as (first, last + 1); none is empty."""
    done = [0.0, *accumulate(work)]
    share = done[-1] / parts
    borders = [
        min(range(len(done)), key=lambda i: abs(done[i] - n * share)) for n in range(parts + 1)
    ]
    return [(first, last) for first, last in pairwise(borders) if first < last]


def _work(segment: Segment) -> float:
    """In units of a token without attention."""
    owner = segment.owner
    cached = owner.cached if isinstance(owner, ScheduledSequence) else owner.computed
    return segment.count * (1 + (cached + segment.count / 2) / _TOKENS_AS_ONE)
