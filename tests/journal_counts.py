"""How many rows the journal of a run contains, read from outside while the run goes on."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal


def count_rows(output: Path, table: Literal["answers", "in_flight"] = "answers") -> int:
    """Records of a table; 0 as long as there is no journal."""
    file = output / ".batchgen" / "journal.sqlite3"
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as journal:
            return int(journal.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # a constant
    except sqlite3.Error:  # not written yet
        return 0
