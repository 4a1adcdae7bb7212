"""Macro-F1 of a classification: the mean of the F1 of each class, from counts that rows can be summed to."""

from collections.abc import Sequence

import numpy as np

from batchgen.metrics.base import Floats


def class_counts(labels: Sequence[str], reference: str, answer: str | None) -> tuple[float, ...]:
    """The statistics of one row, 3 for each label: whether it is rightly given, the reference, the answer.

    Without an answer the row is a false negative of its reference, and a false positive of no label.
    """
    right = [float(label == reference == answer) for label in labels]
    references = [float(label == reference) for label in labels]
    answers = [float(label == answer) for label in labels]
    return (*right, *references, *answers)


def class_count_names(labels: Sequence[str]) -> tuple[str, ...]:
    """The names of these statistics, in their order."""
    return tuple(f"{kind}_{label}" for kind in ("right", "reference", "answer") for label in labels)


def macro_f1(sums: Floats) -> Floats:
    """Convert summed statistics, float64 [..., 3 * labels], to macro-F1 [...]; not a number without a reference.

    The F1 of a label is 2 * right / (references + answers), the harmonic mean of its precision and its recall. Macro-F1
    is the mean over the labels that occur as a reference, each with the same weight, whatever its frequency ("averaged
    F1" of Opitz and Burst 2019, arXiv 1911.03347). It equals scikit-learn's `f1_score(references, answers,
    labels=sorted(set(references)), average="macro")` with a word of its own for a missing answer. Without `labels`,
    scikit-learn also takes the mean over labels that only answers have, whose F1 is 0.
    """
    right, references, answers = np.split(sums, 3, axis=-1)
    occurs = references > 0
    of_label = np.zeros_like(right)
    np.divide(2 * right, references + answers, out=of_label, where=occurs)
    with np.errstate(invalid="ignore"):
        mean: Floats = of_label.sum(axis=-1) / occurs.sum(axis=-1)
    return mean
