"""What vLLM is asked: for an answer (`answer_task.py`), or for the log-probabilities of a text (`text_score.py`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from batchgen.decoding_settings import AnswerGrammar

Result = TypeVar("Result")
Outcome = TypeVar("Outcome", covariant=True)


@dataclass(frozen=True, slots=True)
class VllmOutput:
    """What a step of vLLM adds to a task.

    Attributes:
        token_ids: new ones.
        logprobs: by token id at each of them; None unless the task wants them.
        reason: why vLLM ended the task, in its words; None if it continues.
        prompt_logprobs: of the prompt's tokens, the first of which has none.
    """

    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, Any]] | None
    reason: str | None
    prompt_logprobs: Sequence[Mapping[int, Any] | None] | None


class VllmTask(Protocol[Outcome]):
    """A request to vLLM, and what it becomes."""

    @property
    def prompt(self) -> Sequence[int]: ...

    @property
    def new_tokens(self) -> int:
        """So far."""

    @property
    def scored_tokens(self) -> int:
        """Prompt tokens whose log-probabilities vLLM computes."""

    @property
    def every_step(self) -> bool:
        """Whether tokens are needed as they come: the task may end before vLLM ends it."""

    @property
    def form(self) -> AnswerGrammar | None:
        """What the new tokens must match."""

    def settings(self) -> dict[str, Any]:
        """Arguments of `SamplingParams`, but for those of the two properties before."""

    def refused(self) -> Sequence[Outcome]:
        """The results if vLLM does not take the task."""

    def advance(self, output: VllmOutput) -> Sequence[Outcome] | None:
        """Add an output; returns the results if the task ends with it. None after the last output: it is sent again."""
