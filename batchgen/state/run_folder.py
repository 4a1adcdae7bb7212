"""Layout of a run folder, and access to its small JSON files.

    out/my-job/
      responses.parquet  or  responses/part-00000.parquet …
      scores.parquet         the result of each metric for each answer
      metrics.parquet        the value of each metric for each slice
      manifest.json          written last: its presence marks the run complete
      job.yaml               the job as resolved
      report.html            with `output.report`, or after `batchgen report`
      .batchgen/             private, 0700: lock, run.json, journal.sqlite3, parts/, staged/, release.json, tmp/

Each JSON file contains a hash of its content, so that damage is detected.
"""

import json
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.errors import ResourceError, StateError
from batchgen.fingerprint import fingerprint
from batchgen.storage.durable import (
    create_durably,
    disk_errors,
    not_permitted,
    sync_folder,
    write_durably,
)
from batchgen.storage.entries import check_regular, exists, is_folder, list_folder

CHECK = "check"
"""Key of a JSON file's hash of all its other keys."""
PUBLISHED_BEFORE = "published_before"
"""Key of run.json: the id of another run that was published in the folder when this run started."""


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
    def report(self) -> Path:
        """The HTML file about the run, if there is one. It is not in the manifest: `batchgen report` may write it later."""
        return self.path / "report.html"

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
    def incremental(self) -> Path:
        """Present if answers of an earlier run are reused: names that run."""
        return self.private / "incremental.json"

    @property
    def matrix(self) -> Path:
        """Present if the folder contains the folders of a matrix of runs: lists them."""
        return self.private / "matrix.json"

    @property
    def complete(self) -> bool:
        return exists(self.manifest) and not exists(self.retry)

    @property
    def is_complete_and_read_only(self) -> bool:
        """Whether there is nothing to write into the folder, and nothing can be written, as on a read-only disk."""
        readable = exists(self.lock) and self.is_private_readable
        return self.complete and readable and not os.access(self.path, os.W_OK)

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
    def shards(self) -> Path:
        """One file for each process that makes a share of the parts."""
        return self.private / "shards"

    @property
    def claims(self) -> Path:
        """Which of these processes makes which part, if they share them."""
        return self.private / "claims"

    @property
    def staged(self) -> Path:
        """Complete files that are not published yet; they stay here if a gate fails."""
        return self.private / "staged"

    @property
    def withheld(self) -> Path:
        """Present if a gate failed and publishing was withheld; lists the reasons. Version 0.1 named it held-back.json."""
        old = self.staged / "held-back.json"
        return old if exists(old) else self.staged / "withheld.json"

    @property
    def release(self) -> Path:
        """Present while staged files replace published ones: lists them, with the new manifest."""
        return self.private / "release.json"

    @property
    def scratch(self) -> Path:
        """Unfinished files; emptied at every start."""
        return self.private / "tmp"

    @property
    def is_private_readable(self) -> bool:
        """Whether this user may read the private folder; also true if there is none.

        A run can be published for other users (`output.file_mode`); its private folder is for its owner alone.
        """
        return not exists(self.private) or os.access(self.private, os.R_OK | os.X_OK)

    @property
    def has_state(self) -> bool:
        """Whether the private folder has anything of a run: which run it is, or answers."""
        return exists(self.run) or exists(self.journal) or bool(list_folder(self.parts))

    def holds_answers(self) -> bool:
        published = (self.manifest, self.responses, self.response_parts, self.journal)
        return any(exists(path) for path in published) or bool(list_folder(self.parts))

    def create(self, file_mode: int = 0o600) -> None:
        """Create the folders of a run; ResourceError if that is not possible.

        The names and sizes of the files are visible to those who may read files of mode `file_mode`. The mode of a folder that
        batchgen did not create stays.
        """
        mode = folder_mode(file_mode)
        with disk_errors("cannot create the output folder", self.path):
            if exists(self.private):
                found = stat.S_IMODE(self.path.stat().st_mode)
                if found | mode != found:
                    self.path.chmod(found | mode)
            elif not exists(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                self.path.chmod(mode)
            for folder in (self.private, self.parts, self.scratch):
                folder.mkdir(mode=0o700, exist_ok=True)
                _make_private(folder)

    def clear_scratch(self) -> None:
        """Delete the unfinished files of an interrupted run. The caller holds the lock."""
        with disk_errors("cannot empty", self.scratch):
            for entry in list_folder(self.scratch):
                if is_folder(entry) and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()

    def write_json(
        self, target: Path, content: Mapping[str, object], *, stage: str, mode: int = 0o600
    ) -> None:
        """Write a JSON file atomically, with a hash of its content; `stage` names the fail points."""
        self.write_text(target, _hashed_json(content), stage=stage, mode=mode)

    def create_json(self, target: Path, content: Mapping[str, object], *, stage: str) -> bool:
        """Create a JSON file as `write_json` does; whether it was new. One that exists is left as it is."""
        text = _hashed_json(content)
        with disk_errors("cannot write", target):
            return create_durably(target, text.encode(), scratch=self.scratch, stage=stage)

    def write_text(self, target: Path, text: str, *, stage: str, mode: int = 0o600) -> None:
        """Write a text file atomically; `stage` names the fail points. ResourceError if the disk fails."""
        with disk_errors("cannot write", target):
            write_durably(target, text.encode(), scratch=self.scratch, stage=stage, mode=mode)

    def set_aside(self) -> Path | None:
        """Move the content, except the lock, to a sibling `NAME.old-1`, `.old-2` …; None if there was nothing."""
        public = [p for p in list_folder(self.path) if p != self.private]
        if not public and not exists(self.run) and not self.holds_answers():
            return None
        return self._move_aside(public)

    def set_state_aside(self) -> Path | None:
        """Move only the private folder to a sibling, as `set_aside` does; None if it contains no run.

        The published files stay for readers; `Stage.release` takes them to the same sibling.
        """
        lost = [self.run, self.journal, self.retry, self.staged, *list_folder(self.parts)]
        return self._move_aside(()) if any(exists(path) for path in lost) else None

    def find_aside(self, run_id: str) -> Path | None:
        """The sibling to which the state of a run was moved; None if it was not, or cannot be read."""
        beginning = f"{self.path.name}.old-"
        siblings = [p for p in list_folder(self.path.parent) if p.name.startswith(beginning)]
        return next((path for path in siblings if RunFolder(path)._run_id() == run_id), None)

    def _run_id(self) -> str | None:
        """The id of the run whose state is in the private folder; None if there is none, or it is damaged."""
        if exists(self.run):
            with suppress(StateError):
                return str(read_json(self.run).get("run_id"))
        return None

    def new_aside(self) -> Path:
        """A sibling that does not exist yet: `NAME.old-1`, `NAME.old-2` and so on."""
        number = 1
        while exists(aside := self.path.with_name(f"{self.path.name}.old-{number}")):
            number += 1
        return aside

    def _move_aside(self, public: Iterable[Path]) -> Path:
        private = [p for p in list_folder(self.private) if p != self.lock]
        aside = self.new_aside()
        with disk_errors("cannot move the old run to", aside):
            aside.mkdir(mode=0o700)
            aside.chmod(stat.S_IMODE(self.path.stat().st_mode))
            (aside / self.private.name).mkdir(mode=0o700)
            for entry in private:
                entry.rename(aside / self.private.name / entry.name)
            for entry in public:
                entry.rename(aside / entry.name)
            sync_folder(aside)
            sync_folder(self.path)
        self.create()
        return aside


def _hashed_json(content: Mapping[str, object]) -> str:
    hashed = {**content, CHECK: fingerprint(content)}
    return json.dumps(hashed, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def folder_mode(file_mode: int) -> int:
    """The mode of a folder with files of mode `file_mode`: who may read them may list it."""
    return file_mode | (file_mode & 0o444) >> 2 | 0o700


def _make_private(folder: Path) -> None:
    # Another user may have created the link, so that batchgen writes or deletes somewhere else.
    if folder.is_symlink():
        raise ResourceError(
            f"{folder} is a link; expected a folder for the state of the run",
            hint="Remove the link, or choose another folder with --output FOLDER.",
        )
    if stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that `RunFolder.write_json` wrote; StateError if it is damaged, ResourceError if it is not readable."""
    check_regular(path)
    try:
        content = json.loads(path.read_text("utf-8"))
        hashed = isinstance(content, dict) and content.pop(CHECK, None) == fingerprint(content)
    except PermissionError as error:
        raise not_permitted(path) from error
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    except RecursionError as error:
        raise _damaged(path, "its JSON is nested too deeply") from error
    except ValueError as error:
        raise _damaged(path, "it is not JSON") from error
    if not isinstance(content, dict):
        raise _damaged(path, f"expected an object, found {type(content).__name__}")
    if not hashed:
        raise _damaged(path, "its content does not match the hash in it")
    return content


def _damaged(path: Path, problem: str) -> StateError:
    return StateError(
        f"{path} is damaged: {problem}",
        hint="Start over with `batchgen run --fresh`: the old run is moved aside, not deleted.",
    )
