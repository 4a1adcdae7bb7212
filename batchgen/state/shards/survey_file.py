"""The survey of the input, which one process of a run makes for all.

It is in .batchgen/shards/survey. The others compute the hashes of their input files, and read the survey if they are those of it. It is derived: without the file, or
with one that is damaged or about another input, a process surveys its own input.
"""

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from batchgen.errors import StateError
from batchgen.fingerprint import fingerprint
from batchgen.input.blocks import BlockStart
from batchgen.input.sources import InputSource, Survey, SurveyedFile
from batchgen.input.survey import hash_file
from batchgen.input.turns.turn_counts import TurnCounts
from batchgen.job.spec import Job
from batchgen.state.lock import wait_for_lock
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.entries import exists

_MOST_SECONDS = 86_400.0
"""To wait for the process that surveys the input: it holds a lock, which it loses when it dies."""


def survey_path(folder: RunFolder) -> Path:
    """The file in a run's folder."""
    return folder.shards / "survey"


def survey_input(
    source: InputSource, columns: Sequence[str], job: Job, folder: RunFolder | None, *, share: bool
) -> Survey:
    """The survey of the input: that in the folder of a run, or a new one, which is saved there if it is to be shared.

    Raises:
        DataError: as `InputSource.survey`.
    """
    if folder is None or not exists(folder.shards):
        return source.survey(columns)
    key = _key(columns, job)
    if not share:
        return _read(folder, source, key) or source.survey(columns)
    with wait_for_lock(folder.shards / "survey.lock", _MOST_SECONDS):
        if (found := _read(folder, source, key)) is not None:
            return found
        survey = source.survey(columns)
        if _content(folder) is None:
            folder.write_json(survey_path(folder), _as_json(survey, key), stage="survey")
    return survey


def _key(columns: Sequence[str], job: Job) -> str:
    """Hash of what decides a survey, the content of the files aside."""
    redact = None if job.redact is None else job.redact.model_dump(mode="json")
    input_ = job.input.model_dump(mode="json", exclude={"path"})
    turns = [job.prompt.turns and len(job.prompt.turns), job.prompt.replay]
    return fingerprint(
        {
            "columns": sorted(columns),
            "input": input_,
            "redact": redact,
            "seed": job.run.seed,
            "turns": turns,
        }
    )


def _content(folder: RunFolder) -> Mapping[str, Any] | None:
    """The content of the file; None if there is none that is whole."""
    path = survey_path(folder)
    if exists(path):
        with suppress(StateError):
            return read_json(path)
    return None


def _read(folder: RunFolder, source: InputSource, key: str) -> Survey | None:
    content = _content(folder)
    if content is None or content["key"] != key:
        return None
    if [[file.name, file.size] for file in source.files] != [f[:2] for f in content["files"]]:
        return None  # before they are hashed
    files = tuple(map(hash_file, source.files))
    if _hashes(files) != content["files"]:
        return None
    return Survey(
        rows=content["rows"],
        schema=pa.ipc.read_schema(pa.py_buffer(base64.b64decode(content["schema"]))),
        files=files,
        sample_key=content["sample_key"],
        inexact=frozenset(content["inexact"]),
        starts=tuple(_start(*fields) for fields in content["starts"]),
        turns=_turns(content.get("turns")),
    )


def _start(file: int, position: Sequence[int] | None, row: int, selected: int) -> BlockStart:
    place = None if position is None else (position[0], position[1])
    return BlockStart(file, place, row, selected)


def _turns(recorded: Sequence[Any] | None) -> TurnCounts | None:
    if recorded is None:
        return None
    each, of_rows = recorded
    return TurnCounts(each, np.array(of_rows, np.int64))


def _hashes(files: Sequence[SurveyedFile]) -> list[list[object]]:
    return [[file.name, file.size, file.sha256] for file in files]


def _as_json(survey: Survey, key: str) -> dict[str, object]:
    return {
        "key": key,
        "files": _hashes(survey.files),
        "rows": survey.rows,
        "schema": base64.b64encode(survey.schema.serialize().to_pybytes()).decode(),
        "sample_key": survey.sample_key,
        "inexact": sorted(survey.inexact),
        "starts": [list(astuple(start)) for start in survey.starts],
        "turns": survey.turns and [survey.turns.each, survey.turns.of_rows.tolist()],
    }
