"""Aggregation: independent of parts, by cluster, slices with only their rows, bounded memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats

from batchgen.evaluation import aggregate
from batchgen.evaluation.aggregate import (
    BlockLocalClusters,
    GlobalClusters,
    ScoredObservations,
    SliceTallies,
    Tally,
)
from batchgen.evaluation.block_scores import new_tally, score_block
from batchgen.metrics.base import Answer, Metric, Spec
from batchgen.metrics.statistics.intervals import Confidence, Floats, Integers
from batchgen.records import Score

SPEC = Spec("m", "m", 1, "score", higher_is_better=True)
BEST = Spec("best", "best", 1, "fraction", higher_is_better=True)
CONFIDENCE = Confidence()


@dataclass(frozen=True, slots=True)
class Share:
    """A corpus metric: the share of `a` in all letters, which differs from the mean of rows."""

    spec: Spec = SPEC
    stats: tuple[str, ...] = ("hits", "letters")

    def score(self, answer: Answer) -> Score:
        hits, letters = self.row_stats(answer) or (0.0, 0.0)
        return Score("m", hits / letters, "ok") if letters else Score("m", None, "empty")

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        text = answer.response or ""
        return (float(text.count("a")), float(len(text))) if text else None

    def finalize(self, sums: Floats) -> Floats:
        return sums[..., 0] / sums[..., 1]


@dataclass(frozen=True, slots=True)
class Best:
    """A prompt metric: the maximum score of its answers."""

    spec: Spec = BEST
    of: str | None = "m"

    def score_group(self, answers: Sequence[Answer], scores: Sequence[Score]) -> Score:
        assert [a.sample for a in answers] == list(range(len(answers)))
        return Score("best", max(s.value or 0.0 for s in scores), "ok")


def scored(values: Floats, clusters: Integers, stats: Floats | None = None) -> ScoredObservations:
    """Complete values; NaN marks a missing one."""
    missing = np.isnan(values)
    return ScoredObservations(
        np.where(missing, 0.0, values),
        ~missing,
        clusters,
        np.zeros((len(values), 0)) if stats is None else stats,
    )


def aggregates(new: Callable[[], Tally], blocks: list[ScoredObservations]) -> aggregate.Aggregate:
    slices = SliceTallies(SPEC, new)
    for block in blocks:
        slices.add(block, {})
    return slices.aggregates(CONFIDENCE)[0]


@pytest.mark.parametrize("cuts", [[0, 200], [0, 1, 2, 199, 200], [0, 77, 77, 200]])
def test_results_do_not_depend_on_blocks(cuts: list[int]) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=200)
    values[::9] = np.nan
    blocks = [scored(values[a:b], np.arange(b - a)) for a, b in pairwise(cuts)]
    rows = aggregates(aggregate.RowTally, blocks)
    kept = values[~np.isnan(values)]
    assert (rows.n, rows.coverage) == (len(kept), len(kept) / 200)
    assert rows.estimate.value == pytest.approx(kept.mean())
    assert rows.estimate.stderr == pytest.approx(scipy.stats.sem(kept))


def test_clusters_that_reappear_are_one_cluster() -> None:
    rng = np.random.default_rng(1)
    values, passages = rng.normal(size=400), rng.integers(0, 12, 400)
    blocks = [scored(values[at : at + 50], passages[at : at + 50]) for at in range(0, 400, 50)]
    several = aggregates(lambda: aggregate.ClusterTally(GlobalClusters()), blocks)
    whole = aggregates(lambda: aggregate.ClusterTally(GlobalClusters()), [scored(values, passages)])
    assert several.estimate.stderr == pytest.approx(whole.estimate.stderr)
    assert several.estimate.method == "t, clustered"
    centred = values - values.mean()
    sums = np.bincount(passages, centred)
    expected = np.sqrt(12 / 11 * (sums**2).sum()) / 400
    assert several.estimate.stderr == pytest.approx(expected)


def test_prompts_do_not_span_blocks() -> None:
    values = np.random.default_rng(2).normal(size=(50, 4))
    clusters = np.repeat(np.arange(25), 4)
    blocks = [scored(half.ravel(), clusters) for half in (values[:25], values[25:])]
    found = aggregates(lambda: aggregate.ClusterTally(BlockLocalClusters()), blocks)
    assert found.estimate.stderr == pytest.approx(scipy.stats.sem(values.mean(axis=1)))


def test_errors_stay_correct_beyond_the_cluster_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregate, "MAX_CLUSTERS", 512)
    values = np.random.default_rng(3).normal(size=20_000)
    sums = aggregate.ClusterSums(1, BlockLocalClusters())
    tally = aggregate.ClusterTally(BlockLocalClusters())
    for at in range(0, 20_000, 100):
        block = scored(values[at : at + 100], np.arange(100))
        tally.add(block)
        sums.add(block.clusters, block.values[:, None])
    assert len(sums.table()) == 512
    found = tally.estimate(SPEC, CONFIDENCE)
    assert found.value == pytest.approx(values.mean())
    assert found.stderr == pytest.approx(scipy.stats.sem(values), rel=0.1)


def test_one_answer_per_prompt_forms_no_clusters() -> None:
    wins = scored(np.array([1.0, 0.0, 1.0]), np.arange(3))
    tally = aggregate.ClusterTally(BlockLocalClusters())
    tally.add(wins)
    spec = Spec("m", "m", 1, "fraction", higher_is_better=True)
    assert tally.estimate(spec, CONFIDENCE).method == "wilson"


def answers(*responses: str | None) -> list[Answer]:
    """Two answers per prompt."""
    return [Answer(str(n // 2), n % 2, text) for n, text in enumerate(responses)]


def everything(metric: Metric, responses: list[str | None]) -> aggregate.Aggregate:
    block = score_block([metric], answers(*responses), {}, {})[0]
    clusters = np.arange(len(responses)) // 2
    slices = SliceTallies(metric.spec, partial(new_tally, metric, True, BlockLocalClusters))
    slices.add(block.observations(clusters), {})
    return slices.aggregates(CONFIDENCE)[0]


def test_a_corpus_metric_is_not_a_mean_of_rows() -> None:
    found = everything(Share(), ["a", "bbbbbbb", "ab", None])
    assert found.estimate.value == 2 / 10
    assert (found.n, found.coverage) == (3, 0.75)
    assert found.estimate.method == "bootstrap"


def test_prompts_are_scored_by_the_scores_of_their_answers() -> None:
    blocks = score_block([Best(), Share()], answers("a", "b", "ab", "bb"), {}, {})
    assert [b.spec.name for b in blocks] == ["best", "m"]
    assert [s.value for s in blocks[0].scores] == [1.0, 0.5]
    assert blocks[0].rows.tolist() == [0, 2]


def test_rows_that_are_not_selected_have_no_scores() -> None:
    selected = {"m": np.array([True, True, False, False])}
    best, share = score_block([Best(), Share()], answers("a", "b", "ab", "bb"), selected, {})
    assert share.rows.tolist() == [0, 1]
    assert [s.value for s in best.scores] == [1.0]


def test_a_slice_counts_only_its_rows() -> None:
    slices = SliceTallies(SPEC, aggregate.RowTally)
    chosen = np.array([True, False, True])
    slices.add(scored(np.array([1.0, 5.0, np.nan]), np.arange(3)), {"lang=zh": chosen})
    slices.add(scored(np.array([7.0]), np.arange(1)), {"lang=en": np.array([True])})
    found = {a.slice: (a.n, a.coverage, a.estimate.value) for a in slices.aggregates(CONFIDENCE)}
    assert found == {
        "all": (3, 0.75, pytest.approx(13 / 3)),
        "lang=en": (1, 1.0, 7.0),
        "lang=zh": (1, 0.5, 1.0),
    }


def test_intervals_of_counts_are_not_negative() -> None:
    slices = SliceTallies(
        Spec("n", "length", 1, "count", higher_is_better=None), aggregate.RowTally
    )
    slices.add(scored(np.array([0.0, 0.0, 9.0]), np.arange(3)), {})
    assert slices.aggregates(CONFIDENCE)[0].estimate.low == 0.0
