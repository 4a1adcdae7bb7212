"""The identity of a run: what decides its answers, and what a resumed run rejects.

    run.json   format, id, date, settings, fingerprint, input, rows, part_rows: written once, when the run first starts

A resumed run must have the same settings and the same input; otherwise the error names the keys that differ. The
settings are those job keys whose role is `GENERATION`, what the `CONTENT` keys refer to, and what decoding, model and
tokenizer were resolved to. The role of a key is metadata of its field, in `batchgen/job/`. `part_rows` is fixed by the
first start: a later value in the job is ignored.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchgen.decoding.resolve_decoding import Resolution
from batchgen.errors import StateError
from batchgen.fingerprint import KeyDifference, differences, fingerprint
from batchgen.input.sources import SurveyedFile
from batchgen.job.roles import settings_of
from batchgen.job.spec import Job
from batchgen.privacy.redact import secret_id
from batchgen.section import Role
from batchgen.state.run_folder import RunFolder, read_json

FORMAT = 2
"""Version of run.json and manifest.json. Format 1 is that of batchgen 0.1."""

_SHOWN = 5
_START_OVER = "start over with --fresh: the old run is moved aside, not deleted."
_OUTPUT_COLUMNS = ("keep_columns", "store_prompt", "prefix")
_UNLIMITED_IN_FORMAT_1 = 2**63 - 1
_NAMES_IN_FORMAT_1 = {("prompt", "truncate_column"): "truncate", ("redact", "replacement"): "with"}


@dataclass(frozen=True, slots=True)
class Identity:
    """A run's identity, as in run.json.

    Attributes:
        settings: everything that decides the answers, as plain values.
        input: path, size and sha256 of each input file.
        rows: selected input rows.
        part_rows: rows per part, fixed for the whole run.
    """

    run_id: str
    started_at: str
    date: str
    settings: Mapping[str, Any]
    input: Sequence[Mapping[str, Any]]
    rows: int
    part_rows: int
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """Hash of the settings: the generation fingerprint."""
        return fingerprint(self.settings)

    def content(self) -> dict[str, Any]:
        """The content of run.json."""
        return {"fingerprint": self.fingerprint, **asdict(self)}


def generation_settings(
    job: Job,
    *,
    resolution: Resolution,
    model: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    context_length: int | None,
) -> dict[str, Any]:
    """Everything that decides the answers of a job, as the plain values that run.json holds.

    Args:
        job: the job.
        resolution: what its decoding was resolved to; it counts instead of the keys.
        model: hashes of the model's files; empty for an engine without a model.
        tokenizer: facts about the tokenizer, including the hash of the chat template.
        context_length: longest prompt and answer together, None if unlimited; it counts instead of `max_model_len`.
    """
    settings = settings_of(job, Role.GENERATION)
    if job.prompt.file is not None:
        settings["prompt"]["file"] = Path(job.prompt.file).read_text("utf-8")
    del settings["model"]["max_model_len"]
    settings["model"] |= {**model, "context_length": context_length}
    settings["tokenizer"] = dict(tokenizer)
    settings["decoding"] = {
        **asdict(resolution.decoding),
        "end_token_ids": sorted(resolution.decoding.end_token_ids),
        "columns": dict(job.decoding.columns),
        "num_return_sequences": job.decoding.num_return_sequences,
    }
    settings.setdefault("redact", None)
    if job.redact is not None and job.redact.secret:
        settings["redact"]["secret_id"] = secret_id(job.redact.secret)
    # JSON has lists only: tuples become lists, as run.json returns them.
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def row_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the settings that decides the answer of one row: without the selection of rows and the columns."""
    output = {key: v for key, v in settings["output"].items() if key not in _OUTPUT_COLUMNS}
    return {**current_names(settings), "input": {}, "output": output}


def row_settings_fingerprint(settings: Mapping[str, Any]) -> str:
    """Hash of the row settings as format 1 writes them: answers of version 0.1 stay reusable."""
    old = _renamed(row_settings(settings), _NAMES_IN_FORMAT_1)
    if old["model"]["context_length"] is None:
        old["model"]["context_length"] = _UNLIMITED_IN_FORMAT_1
    return fingerprint(old)


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of any format as the current one writes them."""
    names = {(section, old): new for (section, new), old in _NAMES_IN_FORMAT_1.items()}
    current = _renamed(settings, names)
    if current["model"]["context_length"] == _UNLIMITED_IN_FORMAT_1:
        current["model"]["context_length"] = None
    return current


def _renamed(settings: Mapping[str, Any], names: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    return {
        section: {names.get((section, key), key): value for key, value in values.items()}
        if isinstance(values, Mapping)
        else values
        for section, values in settings.items()
    }


def new_run_id() -> str:
    """A new id. Ids sort by time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def input_record(files: Sequence[SurveyedFile]) -> list[dict[str, Any]]:
    """The input files, as in an identity."""
    return [{"path": str(f.path), "size": f.size, "sha256": f.sha256} for f in files]


def read_identity(folder: RunFolder) -> Identity | None:
    """The identity of the run in the folder, of any format; None if there is no run.

    Raises:
        StateError: run.json is damaged.
    """
    if not folder.run.exists():
        return None
    content = read_json(folder.run)
    try:
        known = Identity(**{name: content[name] for name in Identity.__dataclass_fields__})
    except KeyError as error:
        raise _damaged(folder, f"{error.args[0]} is missing") from error
    if known.fingerprint != content.get("fingerprint"):
        raise _damaged(folder, "its settings do not match their fingerprint")
    return known


def check_same_run(folder: RunFolder, known: Identity, now: Identity) -> None:
    """Check that a run can be resumed: same format, same settings, same input.

    Raises:
        StateError: it cannot; the message names what differs.
    """
    if known.format != FORMAT:
        raise other_format(folder, known.format)
    ways_out = f"Write elsewhere with --output FOLDER, or {_START_OVER}"
    changed = differences(known.settings, now.settings)
    if changed:
        raise StateError(
            f"{folder.path} was made by another job: {_listed(changed)}", hint=ways_out
        )
    before = {f["path"]: f["sha256"] for f in known.input}
    after = {f["path"]: f["sha256"] for f in now.input}
    if before != after:
        names = sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))
        raise StateError(
            f"{folder.path} was made from other input: {', '.join(names[:_SHOWN])} changed",
            hint=ways_out,
        )


def other_format(folder: RunFolder, found: int) -> StateError:
    """The error for a run in a format that this version reads, but does not resume."""
    version = "version 0.1" if found == 1 else "the version that started it"
    way_out = (
        "Write elsewhere with --output FOLDER"
        if folder.complete
        else f"Finish it with {version} of batchgen"
    )
    return StateError(
        f"{folder.path} holds a run in format {found}; this version resumes format {FORMAT}",
        hint=f"{way_out}, or {_START_OVER}",
    )


def _damaged(folder: RunFolder, reason: str) -> StateError:
    return StateError(f"{folder.run} is damaged: {reason}", hint=_START_OVER.capitalize())


def _listed(changed: Sequence[KeyDifference]) -> str:
    shown = [str(difference) for difference in changed[:_SHOWN]]
    more = len(changed) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")
