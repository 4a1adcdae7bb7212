"""The parts that a worker claims, one after another, until none is left: it waits for those that other workers make."""

import time
from collections.abc import Callable, Iterator

from batchgen.progress import Reporter
from batchgen.state.shards.claims import PartClaims

BEATS_BEFORE_EXPIRY = 8
_FIRST_SECONDS_BETWEEN_LOOKS = 0.25
"""At parts that others make; then doubled, up to the most: a short wait is not made long, nor a long one expensive."""
_MOST_SECONDS_BETWEEN_LOOKS = 5.0


def claimed_parts(
    claims: PartClaims,
    should_stop: Callable[[], bool],
    expiry: float,
    reporter: Reporter,
) -> Iterator[int]:
    """Yield claimed parts, until `should_stop`. That it waits is reported once a wait."""
    longest = min(_MOST_SECONDS_BETWEEN_LOOKS, expiry / BEATS_BEFORE_EXPIRY)
    pause = 0.0
    while not should_stop():
        part = claims.take()
        if part is not None:
            pause = 0.0
            yield part
        elif not claims.others:
            return
        else:
            if not pause:
                reporter.info(
                    f"waiting for {claims.others:,} parts that other workers make; those of a worker that ends are made here"
                )
            pause = min(longest, 2 * pause or _FIRST_SECONDS_BETWEEN_LOOKS)
            time.sleep(pause)
