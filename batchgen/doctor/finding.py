"""One line of `batchgen doctor`."""

from dataclasses import dataclass

from batchgen.models.catalog import CheckStatus


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one topic.

    Attributes:
        status: a run fails with a "problem"; a "note" may make it slow, or matters only to some jobs.
        fix: what to do, as a sentence; always given for a problem.
    """

    topic: str
    status: CheckStatus
    text: str
    fix: str = ""


def problem(topic: str, text: str, fix: str) -> Finding:
    """A finding with which a run fails."""
    return Finding(topic, "problem", text, fix)
