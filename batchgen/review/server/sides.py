"""On which side of the page each of two answers is shown: drawn for each reviewer and pair, the same after a reload."""

import hashlib
from collections.abc import Sequence

from batchgen.feedback.vote import Choice, Shown
from batchgen.review.server.vote_request import Place

_SWAPPED: dict[Choice, Choice] = {"a": "b", "b": "a", "tie": "tie", "both_bad": "both_bad"}


def shown_first(seed: int, reviewer: str, answer: Sequence[str | int]) -> Shown:
    """Which answer is A. A hash decides, so that the next side cannot be guessed from the last one.

    `answer`: run id, row id and sample.
    """
    key = "\0".join(map(str, (seed, reviewer, *answer)))
    return (
        "run" if hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[0] % 2 else "other"
    )


def swap_choice(choice: Choice, first: Shown) -> Choice:
    """From places on the page to runs (a is `run_id`, b is `other_run_id`), and back."""
    return choice if first == "run" else _SWAPPED[choice]


def is_about_other(place: Place | None, first: Shown) -> bool:
    """Whether the answer at a place is that of the other run."""
    return place is not None and (place == "a") == (first == "other")
