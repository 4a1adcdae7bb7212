"""Why a folder cannot be read as a finished run, and what completes it: the same text for every command."""

from typing import NamedTuple

from batchgen.state.identity import FORMAT, other_format, read_identity
from batchgen.state.run_folder import RunFolder, not_a_run


class Obstacle(NamedTuple):
    """What is wrong with a folder, and the next step: the message and the hint of an error."""

    problem: str
    hint: str


def why_unfinished(folder: RunFolder) -> Obstacle:
    """Why the run that the private folder holds is not published.

    Raises:
        StateError: run.json is damaged.
    """
    if folder.withheld.exists():
        return Obstacle(
            f"the answers for {folder.path} were withheld: a gate failed, or more "
            "answers failed than run.max_error_rate or run.max_error_count allows",
            f"Read them in {folder.staged}.",
        )
    if not folder.run.exists():
        error = not_a_run(folder.path)
        return Obstacle(error.message, error.hint)
    return Obstacle(f"{folder.path} is not complete yet", how_to_complete(folder))


def how_to_complete(folder: RunFolder) -> str:
    """The hint on how to complete an unfinished run; this version does not resume a run in an old format."""
    identity = read_identity(folder)
    if identity is not None and identity.format != FORMAT:
        return other_format(folder, identity.format).hint
    if folder.withheld.exists():
        return "Run again to re-check the gates, or with --fresh to regenerate."
    return "Repeat the same `batchgen run` to complete it."
