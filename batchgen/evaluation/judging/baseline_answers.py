"""The answers of another run, to be compared with this one's: found by id and sample, if the prompt is the same.

Knows nothing of judges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.errors import StateError, UsageError
from batchgen.output.publish import PublishedFile, check_published
from batchgen.state.run_folder import RunFolder, read_json

CACHED_ROW_GROUPS = 4
"""Row groups of the other answers that stay in memory: runs are in the same order, mostly."""


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """What an answer is found by. `prompt_hash` is None where this side does not know what was asked."""

    id: str
    sample: int
    prompt_hash: str | None


@dataclass(frozen=True, slots=True)
class BaselineAnswer:
    """What another run has where this one has an answer.

    Attributes:
        text: its answer; None where it has none.
        asked_else: whether it has one, but to another prompt.
    """

    text: str | None
    asked_else: bool = False


class BaselineRun:
    """The published answers of a complete run."""

    def __init__(self, path: Path) -> None:
        """Check the run's files, and learn where each answer is.

        Raises:
            UsageError: there is no complete run.
            StateError: its files are damaged.
        """
        folder = RunFolder(path.absolute())
        if not folder.manifest.exists():
            raise UsageError(
                f"{path} holds no complete run to compare with",
                hint="Give the output folder of a run that has ended.",
            )
        manifest = read_json(folder.manifest)
        files = [PublishedFile(**file) for file in manifest["files"]]
        answers = [file for file in files if file.name.startswith("responses")]
        check_published(folder, answers)
        self.run_id: str = manifest["run_id"]
        self._finished_at: str = manifest["finished_at"]
        self._prefix: str = manifest["settings"]["output"]["prefix"]
        self._files = [self._opened(folder.path / file.name) for file in answers]
        self._places: dict[tuple[str, int], tuple[int, int, int]] = {}
        self._learn_places()
        self._groups: dict[tuple[int, int], pa.Table] = {}

    @property
    def content(self) -> dict[str, Any]:
        """What tells its answers from another run's, and from its own before failed rows were asked again: part of a fingerprint."""
        return {"run_id": self.run_id, "finished_at": self._finished_at}

    def find(self, keys: Sequence[AnswerKey]) -> list[BaselineAnswer]:
        """The other answer to each."""
        return [self._find(key) for key in keys]

    def _find(self, key: AnswerKey) -> BaselineAnswer:
        place = self._places.get((key.id, key.sample))
        if place is None:
            return BaselineAnswer(None)
        file, group, row = place
        table = self._group(file, group)
        asked: str = table.column("prompt_hash")[row].as_py()
        if key.prompt_hash is not None and asked != key.prompt_hash:
            return BaselineAnswer(None, asked_else=True)
        return BaselineAnswer(table.column("response")[row].as_py())

    def _learn_places(self) -> None:
        for file, opened in enumerate(self._files):
            for group in range(opened.num_row_groups):
                keys = self._read(file, group, ["id", "sample"])
                pairs = zip(
                    *(keys.column(name).to_pylist() for name in keys.schema.names), strict=True
                )
                self._places |= {pair: (file, group, row) for row, pair in enumerate(pairs)}

    def _group(self, file: int, group: int) -> pa.Table:
        key = (file, group)
        if key not in self._groups:
            if len(self._groups) >= CACHED_ROW_GROUPS:
                del self._groups[next(iter(self._groups))]
            self._groups[key] = self._read(file, group, ["prompt_hash", "response"])
        return self._groups[key]

    def _read(self, file: int, group: int, names: Sequence[str]) -> pa.Table:
        opened = self._files[file]
        try:
            table = opened.read_row_group(group, columns=[self._prefix + name for name in names])
        except (pa.ArrowException, OSError) as error:
            raise StateError(f"the answers of the run {self.run_id} are damaged") from error
        return table.select([self._prefix + name for name in names]).rename_columns(list(names))

    def _opened(self, path: Path) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(path, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise StateError(f"{path} is damaged") from error
