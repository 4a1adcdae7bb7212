"""Sends the notice of a run to wherever the command line states."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import BatchgenError
from batchgen.run.notices.notification import Notification
from batchgen.run.notices.prometheus_file import require_prometheus, write_prometheus
from batchgen.run.notices.run_notice import RunNotice


@dataclass(frozen=True, slots=True)
class Announcer:
    """Those who watch a run; either may be absent. `report` prints a message."""

    notification: Notification | None
    prometheus: Path | None
    report: Callable[[str], None]

    def check(self) -> None:
        """Check both before the run; a wrong address is only a message, since it must not change a result.

        Raises:
            ResourceError: the file of `--prometheus` cannot be written.
        """
        if self.prometheus is not None:
            require_prometheus(self.prometheus)
        if self.notification and (problem := self.notification.problem()):
            self.report(f"no notification will be sent: {problem}")

    def announce(self, notice: RunNotice) -> None:
        """Write and send a notice; a failure is a message."""
        if self.prometheus is not None:
            try:
                write_prometheus(self.prometheus, notice)
            except BatchgenError as error:
                self.report(f"--prometheus: {error.message}")
        if self.notification and (failure := self.notification.send(notice)):
            self.report(f"the notification was not sent: {failure}")

    @contextmanager
    def of_errors(self, job: str) -> Iterator[None]:
        """Announce an error that the block raises, and raise it."""
        try:
            yield
        except Exception as error:
            self.announce(RunNotice.of_error(job, error))
            raise
