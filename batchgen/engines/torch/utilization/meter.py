"""Utilization of the machine over all completions of an engine.

    useful-token share   tokens that answers required / tokens computed
    MFU                  FLOPs that answers required / (seconds x measured peak)

MFU is model FLOP utilization (Chowdhery et al. 2022, PaLM, section 4.1). The seconds are from
the first request to the last completion, so reading, tokenizing and writing count.

Shared prefixes and duplicates are found among the requests of a window, as in the engine.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from batchgen.engines.label_answer import scored_tokens
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.utilization.flops import TokenCounter, model_flops
from batchgen.engines.torch.utilization.peak import measure_peak_flops
from batchgen.planning.prefixes import common_length
from batchgen.planning.required_flops import (
    AnsweredRequest,
    UsefulWork,
    measure_useful_work,
    utilization_share,
)
from batchgen.records import Completion, Request


@dataclass(eq=False, slots=True)
class _Window:
    """Requests that are compared with each other. `free`: requests that may still be added.

    `unanswered`: each with the number of its tokens that the turn before it had.
    """

    free: int
    unanswered: dict[tuple[int, int], tuple[Request, int]] = field(default_factory=dict)
    answers: list[AnsweredRequest] = field(default_factory=list)


class UtilizationMeter:
    """Counts the work of requests and completions."""

    def __init__(self, loaded: LoadedModel, window: int) -> None:
        """`window`: number of requests that are compared with each other."""
        self._loaded = loaded
        self._costs = model_flops(loaded.model)
        self._count = TokenCounter(loaded.model)
        self._window = window
        self._open: list[_Window] = []
        self._closed = UsefulWork()
        self._followed: dict[tuple[int | None, int], Sequence[int]] = {}
        self._seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - begin

    def add_request(self, request: Request) -> Request:
        """Record a request, and return it."""
        if self._costs is not None:
            if not self._open or not self._open[-1].free:
                self._open.append(_Window(self._window))
            window = self._open[-1]
            window.free -= 1
            earlier = self._followed.pop((request.follows, request.sample), ())
            known = common_length(earlier, request.token_ids)
            window.unanswered[request.index, request.sample] = request, known
        return request

    def add_completion(self, completion: Completion) -> None:
        """Record a completion; a failed one has no useful work, and one with labels that of the tokens that are scored."""
        if self._costs is None:
            return
        key = completion.index, completion.sample
        window = next(window for window in self._open if key in window.unanswered)
        request, known = window.unanswered.pop(key)
        if completion.token_ids:
            tokens = sum(len(label) - 1 for label in scored_tokens(request)) + 1
            new = tokens if request.label_tokens else len(completion.token_ids)
            window.answers.append(AnsweredRequest(request, new, known))
            if request.is_followed:
                # The last token of an answer does not pass through the layers.
                self._followed[key] = [*request.token_ids, *completion.token_ids[:-1]]
        if not window.free and not window.unanswered:
            self._open.remove(window)
            self._closed += measure_useful_work(window.answers, self._costs)

    def facts(self, tokens_elsewhere: int) -> Mapping[str, object]:
        """Both shares and their terms; empty for a model with an encoder.

        A share is None if it could not be measured; see `utilization_share`.
        """
        if self._costs is None:
            return {}
        done = sum((measure_useful_work(w.answers, self._costs) for w in self._open), self._closed)
        computed = self._count.tokens + tokens_elsewhere
        most = measure_peak_flops(self._loaded.device, self._loaded.dtype)
        return {
            "mfu": _rounded(utilization_share(done.flops, self._seconds * most)),
            "useful_token_share": _rounded(done.tokens / computed if computed else None),
            "useful_tokens": done.tokens,
            "computed_tokens": computed,
            "useful_flop": done.flops,
            "peak_flop_per_second": most,
        }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
