"""`--retry-errors`: reopen the failed rows, and no others. Skipped rows have not failed.

    published ──> sealed parts ──┐  those with failures
                                 ├──> their good answers go to the journal ──> a run as usual ──> publish again
    sealed parts ────────────────┘

Published files stay until new ones replace them. Until then `retry.json` marks the run as incomplete, so that a plain
`run` resumes an interrupted retry.
"""

import json
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa

from batchgen.output.column_change import seal_published
from batchgen.output.published_run import PublishedRun
from batchgen.output.schema import OutputLayout
from batchgen.run.crash_suspects import CRASH_SUSPECT, SUSPECT_DEATHS
from batchgen.run.setup import Setup
from batchgen.state.identity import Identity, has_other_columns, mark_columns_changing
from batchgen.state.journal import Journal
from batchgen.state.parts import (
    REDACTED_KEY,
    PartStore,
    SealedPart,
    answer_prefix,
    clear_parts,
    read_part,
)
from batchgen.state.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class RowReopener:
    """Reopens failed rows in a run's published files, parts and journal."""

    folder: RunFolder
    store: PartStore
    journal: Journal
    setup: Setup
    identity: Identity

    def reopen_failed_rows(self, *, published: bool) -> int:
        """Delete the answers that are failures, of the published answers as well; return their number.

        Raises:
            StateError: saved or published files are damaged.
        """
        if published:
            self._unpublish()
        failed = self.journal.delete_failed()
        reopened = [part for part in self.store.sealed().values() if part.counts.failed]
        counted = any(part.counts.redacted for part in reopened)
        cells = self._redacted_cells({part.number for part in reopened} if counted else set())
        for part in reopened:
            self._unseal(part, cells.get(part.number, Counter()))
            failed += part.counts.failed
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
        columns = published.manifest.fingerprint
        if columns != self.identity.fingerprint or has_other_columns(self.folder, self.identity):
            mark_columns_changing(self.folder)  # the published columns are sealed as they are
        clear_parts(self.folder)
        self.journal.delete(0, self.identity.stop)
        redacted = self._redacted_by_part(published)

        def with_counts(number: int, part: pa.Table) -> pa.Table:
            counts = json.dumps(redacted.get(number, {}))
            return part.replace_schema_metadata({REDACTED_KEY: counts})

        seal_published(published, self.store, self.identity.output_sizes, with_counts)

    def _redacted_by_part(self, published: PublishedRun) -> dict[int, Counter[str]]:
        """How many redacted items each part records, so that the run's number of them stays the same.

        A part that is generated again counts those in its cells anew. In which answers the others were is not recorded:
        the first part with answers that stay records all of them.
        """
        total = Counter(published.manifest.counts.redacted)
        if not total:
            return {}
        reasons = published.index(["finish_reason"])
        part = np.searchsorted(
            np.cumsum(self.identity.output_sizes), reasons["row"].to_numpy(), side="right"
        )
        reasons = reasons.with_columns(pl.Series("row", part))
        failed = reasons.filter(pl.col("finish_reason") == "error")["row"].unique()
        stay = reasons.filter(pl.col("finish_reason") != "error")["row"].min()
        counts = self._redacted_cells(set(failed.to_list()))
        others = total - sum(counts.values(), Counter())
        if isinstance(stay, int):
            counts[stay] = counts.get(stay, Counter()) + others
        return counts

    def _redacted_cells(self, parts: Set[int]) -> dict[int, Counter[str]]:
        """The number of redacted items in the cells of these parts, by kind."""
        if not parts:
            return {}
        others = set(range(self.identity.parts)) - parts
        chunks = self.setup.chunks(rows=self.identity.part_rows, skip=others)
        return {chunk.number: Counter(chunk.redacted) for chunk in chunks}

    def _unseal(self, part: SealedPart, cells: Counter[str]) -> None:
        """Move the good answers to the journal. The first one records what was redacted in all of them."""
        first, samples = part.number * self.identity.part_rows, self.setup.samples
        in_answers: Mapping[str, int] = Counter(part.counts.redacted) - cells
        table = read_part(part.path)
        layout = OutputLayout.written(table.schema, answer_prefix(table.schema))
        for response in layout.responses(table, first, samples):
            if response.finish_reason != "error":
                self.journal.save(replace(response, redacted=in_answers))
                in_answers = {}
            elif response.failure and response.failure.code == CRASH_SUSPECT.code:
                self.journal.set_deaths({response.index: SUSPECT_DEATHS})
        self.journal.flush()
        self.store.discard(part)
