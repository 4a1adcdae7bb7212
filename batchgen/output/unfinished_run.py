"""Why a folder cannot be read as a finished run, and what completes it: the same text for every command."""

from typing import Literal, NamedTuple

from batchgen.errors import BatchgenError, LockedError, StateError
from batchgen.state.identity import FORMAT, other_format, read_identity
from batchgen.state.lock import is_running
from batchgen.state.open_folder import not_a_run
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import check_regular, exists, irregular

_WAIT = "Wait until the run ends, then repeat the command; `batchgen status` shows its progress."


class Obstacle(NamedTuple):
    """What is wrong with a folder, and the next step: the message and the hint of an error."""

    problem: str
    hint: str
    is_running: bool = False

    def error(self, kind: type[BatchgenError]) -> BatchgenError:
        """The error for a command that requires a finished run: of this kind, or a LockedError while the run is running."""
        return (LockedError if self.is_running else kind)(self.problem, hint=self.hint)


def has_lost_manifest(folder: RunFolder) -> bool:
    """Whether files of a run are published without its manifest, which is written last and removed never."""
    if exists(folder.manifest) or exists(folder.release) or not exists(folder.run):
        return False
    return any(exists(path) and irregular(path) != "a link" for path in folder.published)


def check_manifest_exists(folder: RunFolder) -> None:
    """Raise StateError if files of a run are published without its manifest."""
    check_regular(folder.release)
    if has_lost_manifest(folder):
        raise StateError(
            f"{folder.manifest} is missing next to published files",
            hint="Restore it from a copy, or start over with `batchgen run --fresh`: the old run is moved aside, not deleted.",
        )


def find_state(folder: RunFolder) -> Literal["complete", "running", "incomplete"]:
    """The state of a run; withheld answers are incomplete."""
    if folder.complete:
        return "complete"
    return "running" if is_running(folder.lock) else "incomplete"


def check_not_running(folder: RunFolder) -> None:
    """Raise LockedError while another process writes to the folder."""
    if is_running(folder.lock):
        raise LockedError(f"{folder.path} is running", hint=_WAIT)


def why_unfinished(folder: RunFolder) -> Obstacle:
    """Why the run that the private folder holds is not published.

    Raises:
        StateError: run.json is damaged.
    """
    if exists(folder.withheld):
        return Obstacle(
            f"the answers for {folder.path} were withheld: a gate failed, or more "
            "answers failed than run.max_error_rate or run.max_error_count allows",
            f"Read them in {folder.staged}.",
        )
    if not exists(folder.run):
        error = not_a_run(folder.path)
        if isinstance(error, StateError):
            raise error
        return Obstacle(error.message, error.hint)
    if is_running(folder.lock):
        return Obstacle(f"{folder.path} is running", _WAIT, is_running=True)
    return Obstacle(f"{folder.path} is not complete yet", how_to_complete(folder))


def how_to_complete(folder: RunFolder) -> str:
    """The hint on how to complete an unfinished run; this version does not resume a run in an old format."""
    identity = read_identity(folder)
    if identity is not None and identity.format != FORMAT:
        return other_format(folder, identity.format).hint
    if exists(folder.withheld):
        return "Run again to re-check the gates, or with --fresh to regenerate."
    return "Repeat the same `batchgen run` to complete it."
