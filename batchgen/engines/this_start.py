"""What `identify` found out about a model on a server, for this start of a run only."""

from collections.abc import Mapping

UNRECORDED = "this_start"
"""A key of what `identify` returned, for `open`: its value decides no answer, and is not recorded."""


def recorded_part(served: Mapping[str, object]) -> dict[str, object]:
    """What decides the answers, of what `identify` returned."""
    return {name: value for name, value in served.items() if name != UNRECORDED}
