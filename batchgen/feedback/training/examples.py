"""What training data is made of: answers of runs, preferences between two of them, and answers that are good or bad."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from batchgen.feedback.vote import response_sha
from batchgen.output.published_run import PublishedRun

Message = Mapping[str, str]


class AnswerRef(NamedTuple):
    """One answer of one run."""

    run_id: str
    id: str
    sample: int


@dataclass(frozen=True, slots=True)
class Side:
    """A text of an example: an answer, or what a reviewer made of it. `text` is None for the answer itself."""

    ref: AnswerRef
    text: str | None = None

    @property
    def edited(self) -> bool:
        return self.text is not None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an example is from.

    Attributes:
        source: pairs, ratings, passes, edits, metric:NAME or judge:NAME.
        raters: people whose votes made it; 0 for metrics and judges.
        agreement: the share of these who agree with it; None where no two judged the same.
        difference: by how much the chosen text is better, in the numbers of the source; None where there are none.
    """

    source: str
    raters: int = 0
    agreement: float | None = None
    difference: float | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """One text is better than another one, for the same prompt."""

    chosen: Side
    rejected: Side
    origin: Origin

    @property
    def sides(self) -> tuple[Side, ...]:
        return (self.chosen, self.rejected)


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """A text is good, or bad."""

    side: Side
    label: bool
    origin: Origin

    @property
    def sides(self) -> tuple[Side, ...]:
        return (self.side,)


Example = Preference | LabelledAnswer


@dataclass(frozen=True, slots=True)
class AnswerContent:
    """The content of an answer. `messages` is empty where the run did not store prompts."""

    messages: Sequence[Message]
    response: str | None
    finish_reason: str
    prompt_hash: str

    @property
    def sha(self) -> str:
        return response_sha(self.response)


_COLUMNS = ("messages", "response", "finish_reason", "prompt_hash")


class AnswerContents:
    """The answers of the runs of an export, read when they are needed."""

    def __init__(self, runs: Sequence[PublishedRun]) -> None:
        self.runs = {run.manifest.run_id: run for run in runs}
        self._known: dict[AnswerRef, AnswerContent] = {}

    def load(self, refs: Iterable[AnswerRef]) -> None:
        """Read these answers; those that do not exist are left out."""
        missing = sorted(set(refs) - self._known.keys())
        for run_id, run in self.runs.items():
            own = [ref for ref in missing if ref.run_id == run_id]
            found = run.find([(ref.id, ref.sample) for ref in own], _COLUMNS) if own else []
            for ref, row in zip(own, found, strict=True):
                if row is not None:
                    messages = row["messages"] or ()
                    self._known[ref] = AnswerContent(**{**row, "messages": messages})

    def get(self, ref: AnswerRef) -> AnswerContent | None:
        """An answer that was loaded; None if it does not exist."""
        return self._known.get(ref)

    def text(self, side: Side) -> str:
        """The text of one side; empty where there is no answer."""
        if side.text is not None:
            return side.text
        found = self._known.get(side.ref)
        return "" if found is None else found.response or ""
