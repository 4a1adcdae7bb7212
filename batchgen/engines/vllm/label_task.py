"""The answer to a request with labels: each label is scored as a text, and the last one to end gives the answer."""

from collections.abc import Iterator, Sequence
from typing import Any

from batchgen.decoding_settings import AnswerGrammar
from batchgen.engines.label_answer import label_answer, scored_tokens
from batchgen.engines.vllm.text_score import TextScore
from batchgen.engines.vllm.vllm_task import VllmOutput
from batchgen.records import Completion, Continuation, Likelihood, Request


class LabelTask:
    """The score of one label."""

    def __init__(self, request: Request, place: int, found: dict[int, Likelihood]) -> None:
        """`place`: of the label; `found`: of the labels of the request that have ended, for all of them."""
        self._request, self._found = request, found
        scored = scored_tokens(request)[place]
        self._text = TextScore(Continuation(place, request.token_ids, scored))

    @property
    def prompt(self) -> Sequence[int]:
        return self._text.prompt

    @property
    def new_tokens(self) -> int:
        return 0

    @property
    def scored_tokens(self) -> int:
        return self._text.scored_tokens

    @property
    def every_step(self) -> bool:
        return False

    @property
    def form(self) -> AnswerGrammar | None:
        return None

    def settings(self) -> dict[str, Any]:
        return self._text.settings()

    def refused(self) -> Sequence[Completion]:
        return self._answer(self._text.refused())

    def advance(self, output: VllmOutput) -> Sequence[Completion]:
        return self._answer(self._text.advance(output))

    def _answer(self, scored: Sequence[Likelihood]) -> Sequence[Completion]:
        self._found |= {one.index: one for one in scored}
        count = len(self._request.label_tokens)
        if len(self._found) < count:
            return []
        return [label_answer(self._request, [self._found[place] for place in range(count)])]


def label_tasks(request: Request) -> Iterator[LabelTask]:
    """A task for each label of a request."""
    found: dict[int, Likelihood] = {}
    for place in range(len(request.label_tokens)):
        yield LabelTask(request, place, found)
