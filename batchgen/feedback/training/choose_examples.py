"""The examples that an export is made of: from votes, from the scores of a metric, from the verdicts of a judge."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from batchgen.errors import UsageError
from batchgen.feedback.run_votes import RunVotes
from batchgen.feedback.training.examples import Example, LabelledAnswer
from batchgen.feedback.training.filters import ExampleFilters
from batchgen.feedback.training.formats import FEW_SHOT, ONLY_GOOD, PREFERENCES, FormatName
from batchgen.feedback.training.from_scores import (
    labels_of_judge,
    labels_of_metric,
    preferences_of_judge,
    preferences_of_metric,
)
from batchgen.feedback.training.from_votes import (
    labels_of_edits,
    labels_of_pairs,
    labels_of_passes,
    labels_of_ratings,
    preferences_of_edits,
    preferences_of_pairs,
    preferences_of_ratings,
)
from batchgen.feedback.vote import Kind, Vote
from batchgen.output.published_run import PublishedRun

VOTE_SOURCES = ("pairs", "ratings", "passes", "edits")
METRIC, JUDGE = "metric:", "judge:"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is exported, and how.

    Attributes:
        sources: some of `VOTE_SOURCES`, metric:NAME and judge:NAME.
        margin: least difference of two ratings, or of two scores of a metric.
        good, bad: ratings of at least `good` are good, of at most `bad` bad.
        split: share of the prompts for a test file; 0 for one file.
        examples: most few-shot examples.
        allow_eval_set: also prompts of an evaluation set.
    """

    format: FormatName
    sources: Sequence[str] = VOTE_SOURCES
    margin: float = 1.0
    good: float = 4.0
    bad: float = 2.0
    split: float = 0.0
    examples: int = 4
    allow_eval_set: bool = False
    filters: ExampleFilters = field(default_factory=ExampleFilters)


Votes = Callable[[Kind], list[Vote]]


def choose_examples(
    runs: Sequence[PublishedRun], votes: Sequence[RunVotes], options: ExportOptions
) -> Iterator[Example]:
    """The examples of all sources, in the order of the sources.

    Raises:
        UsageError: a source is unknown, or does not fit the runs.
    """

    def of_kind(kind: Kind) -> list[Vote]:
        return [vote for one in votes for vote in one.of_kind(kind)]

    sources = ("edits",) if options.format == FEW_SHOT else options.sources
    for source in sources:
        if source.startswith((METRIC, JUDGE)):
            found = _from_scores(runs, source, options)
        elif source in VOTE_SOURCES:
            found = _from_votes(of_kind, source, options)
        else:
            raise UsageError(
                f"--source {source}: no such source",
                hint=f"Use {', '.join(VOTE_SOURCES)}, metric:NAME or judge:NAME.",
            )
        yield from (one for one in found if not _is_bad(one) or options.format not in ONLY_GOOD)


def _is_bad(example: Example) -> bool:
    return isinstance(example, LabelledAnswer) and not example.label


def _from_votes(of_kind: Votes, source: str, options: ExportOptions) -> Iterable[Example]:
    makers: Mapping[str, Callable[[], Iterable[Example]]]
    if options.format in PREFERENCES:
        makers = {
            "pairs": lambda: preferences_of_pairs(of_kind("pair")),
            "ratings": lambda: preferences_of_ratings(of_kind("rating"), options.margin),
            "passes": lambda: preferences_of_ratings(of_kind("pass"), 1.0, "passes"),
            "edits": lambda: preferences_of_edits(of_kind("edit")),
        }
    else:
        good, bad = options.good, options.bad
        makers = {
            "pairs": lambda: labels_of_pairs(of_kind("pair")),
            "ratings": lambda: labels_of_ratings(of_kind("rating"), good=good, bad=bad),
            "passes": lambda: labels_of_passes(of_kind("pass")),
            "edits": lambda: labels_of_edits(of_kind("edit")),
        }
    return makers[source]()


def _from_scores(
    runs: Sequence[PublishedRun], source: str, options: ExportOptions
) -> Iterable[Example]:
    wants_pairs = options.format in PREFERENCES
    if source.startswith(METRIC):
        name = source.removeprefix(METRIC)
        if wants_pairs:
            return preferences_of_metric(runs, name, options.margin)
        return labels_of_metric(runs, name)
    name = source.removeprefix(JUDGE)
    return preferences_of_judge(runs, name) if wants_pairs else labels_of_judge(runs, name)
