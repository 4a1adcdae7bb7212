"""Layout of a run folder, and access to its small JSON files.

    out/my-job/
      responses.parquet  or  responses/part-00000.parquet …
      scores.parquet         the result of each metric for each answer
      metrics.parquet        the value of each metric for each slice
      manifest.json          written last: its presence marks the run complete
      job.yaml               the job as resolved
      .batchgen/             private, 0700: lock, run.json, journal.sqlite3, parts/, staged/, release.json, tmp/

Each JSON file contains a hash of its content, so that damage is detected.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.errors import ResourceError, StateError, UsageError
from batchgen.fingerprint import fingerprint
from batchgen.storage.durable import disk_errors, sync_folder, write_durably

CHECK = "check"
"""Key of a JSON file's hash of all its other keys."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The layout of one output folder; `path` is absolute."""

    path: Path

    @property
    def responses(self) -> Path:
        return self.path / "responses.parquet"

    @property
    def response_parts(self) -> Path:
        return self.path / "responses"

    @property
    def scores(self) -> Path:
        return self.path / "scores.parquet"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.parquet"

    @property
    def published(self) -> tuple[Path, ...]:
        """All published files and folders of answers and scores; some may not exist."""
        return (self.responses, self.response_parts, self.scores, self.metrics)

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def job(self) -> Path:
        return self.path / "job.yaml"

    @property
    def private(self) -> Path:
        return self.path / ".batchgen"

    @property
    def run(self) -> Path:
        return self.private / "run.json"

    @property
    def retry(self) -> Path:
        """Present while failed rows of a complete run are generated again."""
        return self.private / "retry.json"

    @property
    def complete(self) -> bool:
        return self.manifest.exists() and not self.retry.exists()

    @property
    def lock(self) -> Path:
        return self.private / "lock"

    @property
    def journal(self) -> Path:
        return self.private / "journal.sqlite3"

    @property
    def parts(self) -> Path:
        return self.private / "parts"

    @property
    def staged(self) -> Path:
        """Complete files that are not published yet; they stay here if a gate fails."""
        return self.private / "staged"

    @property
    def withheld(self) -> Path:
        """Present if a gate failed and publishing was withheld; lists the reasons. Version 0.1 named it held-back.json."""
        old = self.staged / "held-back.json"
        return old if old.exists() else self.staged / "withheld.json"

    @property
    def release(self) -> Path:
        """Present while staged files replace published ones: lists them, with the new manifest."""
        return self.private / "release.json"

    @property
    def scratch(self) -> Path:
        """Unfinished files; emptied at every start."""
        return self.private / "tmp"

    def holds_answers(self) -> bool:
        published = (self.manifest, self.responses, self.response_parts, self.journal)
        return any(path.exists() for path in published) or any(self.parts.iterdir())

    def create(self) -> None:
        """Create the folders of a run; ResourceError if that is not possible."""
        with disk_errors("cannot create the output folder", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for folder in (self.private, self.parts, self.scratch):
                folder.mkdir(mode=0o700, exist_ok=True)
                _make_private(folder)

    def clear_scratch(self) -> None:
        """Delete the unfinished files of an interrupted run. The caller holds the lock."""
        with disk_errors("cannot empty", self.scratch):
            for entry in self.scratch.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()

    def write_json(
        self, target: Path, content: Mapping[str, object], *, stage: str, mode: int = 0o600
    ) -> None:
        """Write a JSON file atomically, with a hash of its content; `stage` names the fail points."""
        hashed = {**content, CHECK: fingerprint(content)}
        text = json.dumps(hashed, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        self.write_text(target, text, stage=stage, mode=mode)

    def write_text(self, target: Path, text: str, *, stage: str, mode: int = 0o600) -> None:
        """Write a text file atomically; `stage` names the fail points. ResourceError if the disk fails."""
        with disk_errors("cannot write", target):
            write_durably(target, text.encode(), scratch=self.scratch, stage=stage, mode=mode)

    def set_aside(self) -> Path | None:
        """Move the content, except the lock, to a sibling `NAME.old-1`, `.old-2` …; None if there was nothing."""
        public = [p for p in self.path.iterdir() if p != self.private]
        if not public and not self.run.exists() and not self.holds_answers():
            return None
        return self._move_aside(public)

    def set_state_aside(self) -> Path | None:
        """Move only the private folder to a sibling, as `set_aside` does; None if it contains no answers."""
        lost = [self.journal, self.retry, self.staged, *self.parts.iterdir()]
        if any(path.exists() for path in lost):
            return self._move_aside(())
        with disk_errors("cannot remove", self.run):
            self.run.unlink(missing_ok=True)
        return None

    def _move_aside(self, public: Iterable[Path]) -> Path:
        private = [p for p in self.private.iterdir() if p != self.lock]
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        with disk_errors("cannot move the old run to", aside):
            (aside / self.private.name).mkdir(parents=True, mode=0o700)
            for entry in private:
                entry.rename(aside / self.private.name / entry.name)
            for entry in public:
                entry.rename(aside / entry.name)
            sync_folder(aside)
            sync_folder(self.path)
        self.create()
        return aside


def _make_private(folder: Path) -> None:
    # Another user may have created the link, so that batchgen writes or deletes somewhere else.
    if folder.is_symlink():
        raise ResourceError(
            f"{folder} is a link; expected a folder for the state of the run",
            hint="Remove the link, or choose another folder with --output FOLDER.",
        )
    folder.chmod(0o700)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that `RunFolder.write_json` wrote; StateError if it is damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise _damaged(path, type(error).__name__) from error
    if not isinstance(content, dict):
        raise _damaged(path, f"expected an object, found {type(content).__name__}")
    if content.pop(CHECK, None) != fingerprint(content):
        raise _damaged(path, "its content does not match the hash in it")
    return content


def _damaged(path: Path, problem: str) -> StateError:
    return StateError(
        f"{path} is damaged: {problem}",
        hint="Start over with --fresh: the old run is moved aside, not deleted.",
    )


def open_folder(path: Path) -> RunFolder:
    """Open the run folder at `path`.

    Raises:
        UsageError: it is not a run folder.
    """
    folder = RunFolder(path.absolute())
    if not folder.run.exists() and not folder.manifest.exists():
        raise not_a_run(path)
    return folder


def not_a_run(path: Path) -> UsageError:
    """The error for a folder without a run."""
    problem = "is not the output folder of a run: it has no manifest.json"
    return UsageError(
        f"{path} {problem if path.exists() else 'does not exist'}",
        hint="Give the folder of output.path, such as out/my-job.",
    )
