"""The metric `valid` of job.yaml."""

from batchgen.metrics.base import Answer

LABELS = ("emergency", "urgent", "routine")


def one_label(answer: Answer) -> float:
    """1 if the response is exactly one of the labels."""
    return float(answer.response in LABELS)
