"""BLEU and chrF: parity with sacrebleu, by row and by corpus."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from batchgen.metrics.base import Answer
from batchgen.metrics.bleu import BleuOptions
from batchgen.metrics.chrf import ChrFOptions
from batchgen.metrics.registry import make_metrics
from tests.metrics.conftest import MakeMetrics, ScoreOf

PAIRS = [
    ("The cat sat on the mat.", ["The cat is sitting on the mat.", "A cat sat on a mat."]),
    ("今天天气很好，我们去公园。", ["今天天气不错，我们去公园吧。", "天气很好"]),
    ("totally different", ["no overlap here at all", "nor here"]),
    ("It is a guide to action which ensures that the military obeys the party", ["It is a guide to action that ensures that the military will forever heed Party commands", "It is the practical guide"]),
    ("x", ["y", "x"]),
]  # fmt: skip


def test_the_textbook_example_of_chrf(score: ScoreOf) -> None:
    # sacrebleu's README: chrF2 of identical texts is 100; of texts without a common character 0.
    assert score("chrf", "abc", "abc").value == pytest.approx(100)
    assert score("chrf", "abc", "xyz").value == 0.0


@pytest.mark.parametrize(("response", "references"), PAIRS)
def test_row_scores_equal_sacrebleu(score: ScoreOf, response: str, references: list[str]) -> None:
    chrf = CHRF().sentence_score(response, references).score
    bleu = BLEU(effective_order=True).sentence_score(response, references).score
    assert score("chrf", response, *references).value == pytest.approx(chrf, abs=1e-9)
    assert score("bleu", response, *references).value == pytest.approx(bleu, abs=1e-9)


def sums(metric: Any) -> Any:
    rows = [metric.row_stats(Answer("", 0, text, tuple(refs))) for text, refs in PAIRS]
    return np.array(rows, np.float64)


@pytest.mark.parametrize("tokenize", ["13a", "zh", "char", "intl", "none"])
def test_the_corpus_score_equals_sacrebleu(make: MakeMetrics, tokenize: str) -> None:
    texts = [text for text, _ in PAIRS]
    streams = [list(stream) for stream in zip(*(refs for _, refs in PAIRS), strict=True)]
    (bleu,) = make("bleu", tokenize=tokenize)
    oracle = BLEU(tokenize=tokenize)
    expected = oracle.corpus_score(texts, streams)
    assert bleu.finalize(sums(bleu).sum(axis=0)) == pytest.approx(expected.score)  # type: ignore[union-attr] # a corpus metric
    assert bleu.spec.signature == str(oracle.get_signature()).replace("nrefs:2", "nrefs:var")
    (chrf,) = make("chrf")
    chrf_expected = CHRF().corpus_score(texts, streams).score
    assert chrf.finalize(sums(chrf).sum(axis=0)) == pytest.approx(chrf_expected)  # type: ignore[union-attr] # a corpus metric


@pytest.mark.parametrize("kind", ["bleu", "chrf"])
def test_many_corpora_at_once_are_independent(make: MakeMetrics, kind: str) -> None:
    (metric,) = make(kind)
    rows = sums(metric)
    weights = np.random.default_rng(1).integers(0, 3, (2, 3, len(rows)))
    together = metric.finalize(weights @ rows)  # type: ignore[union-attr] # a corpus metric
    alone = [[metric.finalize(w @ rows) for w in block] for block in weights]  # type: ignore[union-attr] # as above
    np.testing.assert_allclose(together, alone)
    assert together.shape == (2, 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text("abc ", max_size=30), st.text("abc ", max_size=30)), min_size=1))
def test_any_corpus_score_equals_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    bleu: Any
    (bleu,) = make_metrics(BleuOptions())
    rows = [bleu.row_stats(Answer("", 0, text, (reference,))) for text, reference in pairs]
    expected = BLEU().corpus_score([t for t, _ in pairs], [[r for _, r in pairs]]).score
    assert bleu.finalize(np.sum(rows, axis=0, dtype=np.float64)) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.text("ab 好\n", max_size=20), st.lists(st.text("ab 好", max_size=20), min_size=1))
def test_any_row_score_equals_sacrebleu(response: str, references: list[str]) -> None:
    (chrf,) = make_metrics(ChrFOptions())
    (bleu,) = make_metrics(BleuOptions())
    answer = Answer("", 0, response, tuple(references))
    for metric, oracle in ((chrf, CHRF()), (bleu, BLEU(effective_order=True))):
        expected = oracle.sentence_score(response, references).score
        assert metric.score(answer).value == pytest.approx(expected, abs=1e-9)  # type: ignore[union-attr] # both score rows
