"""Answers requests with labels by the likelihoods of their labels, and passes on the others of the same stream.

    requests ──others───────> tiers ──> completions
             ──with labels──> continuations ──likelihoods──> completions

The tiers and the likelihoods use the same memory for keys and values, in turn: requests with labels wait until there are
many, or no others.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from batchgen.engines.label_answer import label_answer, scored_tokens
from batchgen.records import Completion, Continuation, Likelihood, Request

_MOST_WAITING = 512
"""Requests with labels that wait while others are answered."""
_SPAN = 1 << 16
"""More than the labels of a request: a continuation's index is the request's number times this, plus the label's place."""


class LabelSplit:
    """A stream of requests in two: those with labels, and the others."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._requests = requests
        self._held: Request | None = None
        self._labelled: deque[Request] = deque()
        self.ended = False
        """Whether all requests that there are now have been passed on."""

    def next_other(self, fits: Callable[[Request], bool]) -> Request | None:
        """The next request without labels; None if it does not fit, there is none now, or enough with labels wait."""
        while len(self._labelled) < _MOST_WAITING and (request := self._next()) is not None:
            if request.label_tokens:
                self._labelled.append(request)
            elif fits(request):
                return request
            else:
                self._held = request
                return None
        return None

    def put_back(self, request: Request) -> None:
        """Have a request that was the last one returned be the next one."""
        self._held = request

    def labelled(self) -> Iterator[Request]:
        """The waiting requests with labels, and those that follow up to the next one without."""
        while self._labelled:
            yield self._labelled.popleft()
        while (request := self._next()) is not None:
            if not request.label_tokens:
                self._held = request
                return
            yield request

    def _next(self) -> Request | None:
        request, self._held = self._held, None
        if request is None:
            request = next(self._requests, None)
            self.ended = request is None
        return request


class LabelAnswers:
    """Answers to requests with labels."""

    def __init__(
        self, likelihoods: Callable[[Iterable[Continuation]], Iterator[Likelihood]]
    ) -> None:
        self._likelihoods = likelihoods
        self._open: dict[int, tuple[Request, dict[int, Likelihood]]] = {}

    @property
    def in_flight(self) -> int:
        """The requests of which not all likelihoods are known."""
        return len(self._open)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        self._open.clear()
        for one in self._likelihoods(self._continuations(requests)):
            number, place = divmod(one.index, _SPAN)
            request, found = self._open[number]
            found[place] = one
            if len(found) == len(request.label_tokens):
                del self._open[number]
                yield label_answer(request, [found[place] for place in range(len(found))])

    def _continuations(self, requests: Iterable[Request]) -> Iterator[Continuation]:
        for number, request in enumerate(requests):
            self._open[number] = request, {}
            for place, tokens in enumerate(scored_tokens(request)):
                yield Continuation(number * _SPAN + place, request.token_ids, tokens)
