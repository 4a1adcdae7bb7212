"""What a review is about: the run or runs, the queue, its answers, the rubric; the same for the server and the exported page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from batchgen.errors import UsageError
from batchgen.feedback.vote import Reviewer
from batchgen.fingerprint import fingerprint
from batchgen.report.rows.masked_texts import TextMask
from batchgen.review.queue.review_items import ReviewItem, read_items
from batchgen.review.queue.review_queue import QueueOptions, ReviewQueue, choose_queue
from batchgen.review.queue.reviewed_run import ReviewedRun, open_reviewed_run
from batchgen.review.queue.rubric import Rubric, choose_rubric

_MAX_LABELS = 9
"""One for each digit key."""


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """The options of `batchgen review` that both forms of the page have.

    Attributes:
        reviewer: empty if it is entered on the page.
        labels: that may be given to an answer.
        masked: personal data in the texts is masked.
    """

    queue: QueueOptions = field(default_factory=QueueOptions)
    reviewer: str = ""
    labels: Sequence[str] = ()
    rubric: Path | None = None
    masked: bool = False


@dataclass(frozen=True, slots=True)
class ReviewSetup:
    """Everything that a review is about; `masked` counts values of personal data by their kind."""

    run: ReviewedRun
    other: ReviewedRun | None
    queue: ReviewQueue
    items: Sequence[ReviewItem]
    rubric: Rubric
    options: ReviewOptions
    masked: Mapping[str, int] = field(default_factory=dict)

    def config(self, **more: object) -> dict[str, Any]:
        """The settings of the page, for its script."""
        metrics = {row.metric: row for run in self._runs for row in run.metrics}
        return {
            "key": fingerprint({"runs": [run.run_id for run in self._runs], "rows": self._rows})[
                :16
            ],
            "pair": self.other is not None,
            "reviewer": self.options.reviewer,
            "labels": list(self.options.labels),
            "rubric": {"name": self.rubric.name, "texts": self.rubric.texts},
            "metrics": [
                {"name": row.metric, "unit": row.unit, "higher": row.higher_is_better}
                for row in metrics.values()
            ],
            "total": len(self.items),
            **more,
        }

    @property
    def title(self) -> str:
        """The name of the job."""
        return str(self.run.manifest.get("job") or self.run.scored.path.name)

    @property
    def _runs(self) -> list[ReviewedRun]:
        return [self.run] if self.other is None else [self.run, self.other]

    @property
    def _rows(self) -> list[Mapping[str, object]]:
        return [{"id": one.id, "sample": one.answer.sample} for one in self.items]


def prepare_review(path: Path, other: Path | None, options: ReviewOptions) -> ReviewSetup:
    """Open the runs and read the answers of the queue.

    Raises:
        UsageError: a run is unfinished, an option does not fit, or there is nothing to review.
        StateError: files of a run are damaged.
    """
    _check_reviewer(options.reviewer)
    _check_labels(options.labels, pairs=other is not None)
    run = open_reviewed_run(path)
    compared = open_reviewed_run(other) if other is not None else None
    if compared is not None and compared.run_id == run.run_id:
        raise UsageError(
            f"{path} and {other} are the same run", hint="Give another run of the same prompts."
        )
    queue = choose_queue(run, options.queue, compared)
    rubric = choose_rubric(run, options.rubric, pairs=compared is not None)
    mask = TextMask()
    items = read_items(run, queue.answers, compared, mask if options.masked else None)
    return ReviewSetup(run, compared, queue, items, rubric, options, mask.counts)


def _check_reviewer(name: str) -> None:
    try:
        TypeAdapter(Reviewer | Literal[""]).validate_python(name)
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UsageError(f"--reviewer: {message}", hint="Give another name.") from None


def _check_labels(labels: Sequence[str], *, pairs: bool) -> None:
    if labels and pairs:
        raise UsageError(
            "--labels has no effect on pairs", hint="Review one run, or leave --labels out."
        )
    if len(labels) > _MAX_LABELS:
        raise UsageError(
            f"--labels: {len(labels)} labels; expected at most {_MAX_LABELS}, one for each digit key",
            hint="Give fewer labels.",
        )
    if len(set(labels)) < len(labels):
        raise UsageError("--labels: a label is given twice", hint="Give each label once.")
