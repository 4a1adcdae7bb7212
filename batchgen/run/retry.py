"""`--retry-errors`: reopen the failed rows, and no others. Skipped rows have not failed.

    published ──> sealed parts ──┐  those with failures
                                 ├──> their good answers go to the journal ──> a run as usual ──> publish again
    sealed parts ────────────────┘

Published files stay until new ones replace them. Until then `retry.json` marks the run as incomplete, so that a plain
`run` resumes an interrupted retry.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from batchgen.output.published_run import PublishedRun
from batchgen.output.schema import OutputLayout
from batchgen.run.crash_suspects import CRASH_SUSPECT, MAX_DEATHS
from batchgen.state.identity import Identity
from batchgen.state.journal import Journal
from batchgen.state.parts import PartStore, SealedPart, clear_parts, read_part
from batchgen.state.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class RowReopener:
    """Reopens failed rows in a run's published files, parts and journal."""

    folder: RunFolder
    store: PartStore
    journal: Journal
    layout: OutputLayout
    identity: Identity
    samples: int

    def reopen_failed_rows(self, *, published: bool) -> int:
        """Delete the answers that are failures, of the published answers as well; return their number.

        Raises:
            StateError: saved or published files are damaged.
        """
        if published:
            self._unpublish()
        failed = self.journal.delete_failed()
        for part in self.store.sealed().values():
            if part.counts.failed:
                self._unseal(part)
                failed += part.counts.failed
        deaths = self.journal.deaths().items()
        self.journal.set_deaths({row: MAX_DEATHS - 1 for row, n in deaths if n >= MAX_DEATHS})
        if published and failed:  # from here on the run is incomplete
            content = {"run_id": self.identity.run_id}
            self.folder.write_json(self.folder.retry, content, stage="retry")
        return failed

    def _unpublish(self) -> None:
        """Seal the published answers as parts again. The run stays complete until `retry.json` exists."""
        published = PublishedRun(self.folder)
        published.check()
        if not published.manifest.counts.failed:
            return
        clear_parts(self.folder)
        self.journal.delete(0, self.identity.rows)
        rows = self.identity.part_rows * self.samples
        tables = published.responses.row_groups(published.schema.names)
        for number, table in enumerate(_regrouped(tables, rows)):
            self.store.seal(number, table.replace_schema_metadata())

    def _unseal(self, part: SealedPart) -> None:
        first = part.number * self.identity.part_rows
        for response in self.layout.responses(read_part(part.path), first, self.samples):
            if response.finish_reason != "error":
                self.journal.save(response)
            elif response.failure and response.failure.code == CRASH_SUSPECT.code:
                self.journal.set_deaths({response.index: MAX_DEATHS})
        self.journal.flush()
        self.store.discard(part)


def _regrouped(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows, `rows` a table."""
    waiting: pa.Table | None = None
    for table in tables:
        waiting = table if waiting is None else pa.concat_tables([waiting, table])
        while waiting.num_rows >= rows:
            yield waiting.slice(0, rows)
            waiting = waiting.slice(rows)
    if waiting is not None and waiting.num_rows:
        yield waiting
