"""The identity of a run: what decides its answers, and what a resumed run rejects.

    run.json   format, id, date, settings, fingerprint, input, rows, part_rows: written when the run first starts

A resumed run must have the same settings and the same input; otherwise the error names the keys that differ. The
settings are those job keys whose role is `GENERATION`, what the `CONTENT` keys refer to, and what decoding, model and
tokenizer were resolved to. The role of a key is metadata of its field, in `batchgen/job/`. `part_rows` is fixed by the
first start: a later value in the job is ignored.

The settings also contain the keys that decide the columns of the output, which decide no answer and may differ. run.json
is then written again, after the saved answers have these columns (`output/column_change.py`).
"""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from batchgen.state.column_settings import answer_settings, column_settings
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.entries import exists
from batchgen.structured.answer_grammars import format_settings

FORMAT = 2
"""Version of run.json and manifest.json. Format 1 is that of batchgen 0.1."""
_SHOWN = 5
_START_OVER = "start over with --fresh: the old run is moved aside, not deleted."
_COLUMNS_CHANGING = "columns_changing"
"""Key of run.json: true while sealed parts may have other columns than its settings say."""
_UNLIMITED_IN_FORMAT_1 = 2**63 - 1
_NAMES_IN_FORMAT_1 = {("prompt", "truncate_column"): "truncate", ("redact", "replacement"): "with"}


@dataclass(frozen=True, slots=True)
class Identity:
    """A run's identity, as in run.json.

    Attributes:
        settings: everything that decides the answers and the columns of the output, as plain values.
        input: name, path, size and sha256 of each input file, in order. The path is only shown: a moved input is the same.
        rows: selected input rows; each turn of a conversation is one.
        part_rows: rows per part, fixed for the whole run: row `index` is in part `index // part_rows`.
        part_sizes: rows of each part, where conversations of different lengths leave some with fewer.
    """

    run_id: str
    started_at: str
    date: str
    settings: Mapping[str, Any]
    input: Sequence[Mapping[str, Any]]
    rows: int
    part_rows: int
    format: int = FORMAT
    part_sizes: Sequence[int] | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of the settings: the generation fingerprint."""
        return fingerprint(self.settings)

    @property
    def parts(self) -> int:
        """The number of parts."""
        return -(-self.rows // self.part_rows) if self.part_sizes is None else len(self.part_sizes)

    @property
    def stop(self) -> int:
        """One more than the largest index of a row."""
        return self.rows if self.part_sizes is None else len(self.part_sizes) * self.part_rows

    def output_rows(self, part: int) -> int:
        """The output rows of a part; 0 if the run has no part of this number."""
        if self.part_sizes is None:
            rows = min(self.part_rows, self.rows - part * self.part_rows)
        else:
            rows = self.part_sizes[part] if part < len(self.part_sizes) else 0
        return max(0, rows) * int(self.settings["decoding"]["num_return_sequences"])

    @property
    def output_sizes(self) -> list[int]:
        return [self.output_rows(part) for part in range(self.parts)]

    def content(self) -> dict[str, Any]:
        """The content of run.json."""
        content = {"fingerprint": self.fingerprint, **asdict(self)}
        return {key: value for key, value in content.items() if value is not None}


def generation_settings(
    job: Job,
    *,
    resolution: Resolution,
    model: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    context_length: int | None,
    dtype: str,
) -> dict[str, Any]:
    """Everything that decides the answers of a job and the columns of the output, as the plain values that run.json holds.

    Args:
        job: the job.
        resolution: what its decoding was resolved to; it counts instead of the keys.
        model: hashes of the model's files; empty for an engine without a model.
        tokenizer: facts, including the hash of the chat template.
        context_length: longest prompt and answer together, None if unlimited; it counts instead of `max_model_len`.
        dtype: in which the model is computed; it counts instead of `auto`.
    """
    settings = settings_of(job, Role.GENERATION)
    settings["output"] |= column_settings(settings_of(job, Role.PUBLICATION)["output"])
    if job.prompt.file is not None:
        settings["prompt"]["file"] = Path(job.prompt.file).read_text("utf-8")
    del settings["model"]["max_model_len"]
    settings["model"] |= {**model, "context_length": context_length, "dtype": dtype}
    settings["tokenizer"] = dict(tokenizer)
    decoding = asdict(replace(resolution.decoding, grammar=None)).items()
    settings["decoding"] = {
        # Without those that earlier versions did not have, so that their runs have the same settings.
        **{key: value for key, value in decoding if value is not None},
        "end_token_ids": sorted(resolution.decoding.end_token_ids),
        "columns": dict(job.decoding.columns),
        "num_return_sequences": job.decoding.num_return_sequences,
        **format_settings(job.decoding, resolution.decoding.grammar),
    }
    settings.setdefault("redact", None)
    if job.redact is not None and job.redact.secret:
        settings["redact"]["secret_id"] = secret_id(job.redact.secret)
    # JSON has lists only: tuples become lists, as run.json returns them.
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def row_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the settings that decides the answer of one row: without the selection of rows and the columns."""
    return {**answer_settings(current_names(settings)), "input": {}}


def row_settings_fingerprint(settings: Mapping[str, Any]) -> str:
    """Hash of the row settings as format 1 writes them: answers of earlier versions stay reusable."""
    old = _renamed(row_settings(settings), _NAMES_IN_FORMAT_1)
    if old["model"].get("dtype") == "float32":
        old["model"]["dtype"] = "auto"  # as was recorded where a CPU computes
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


def input_record(files: Sequence[SurveyedFile]) -> list[dict[str, Any]]:
    """The input files, as in an identity. The path of a copy is the address of its object, with the object's ETag."""
    facts = ("name", "path", "size", "sha256")
    return [
        {k: getattr(f, k) for k in facts}
        | ({"path": f.url, "e_tag": f.e_tag} if f.url else {"path": str(f.path)})
        for f in files
    ]


def read_identity(folder: RunFolder) -> Identity | None:
    """The identity of the run in the folder, of any format; None if there is no run.

    Raises:
        StateError: run.json is damaged.
    """
    if not exists(folder.run):
        return None
    content = read_json(folder.run)
    try:
        known = identity_of(content)
    except KeyError as error:
        raise _damaged(folder, f"{error.args[0]} is missing") from error
    if known.fingerprint != content.get("fingerprint"):
        raise _damaged(folder, "its settings do not match their fingerprint")
    return known


def identity_of(content: Mapping[str, Any]) -> Identity:
    """The identity that `Identity.content` wrote; KeyError if a key is missing."""
    names = Identity.__dataclass_fields__
    return Identity(**{n: content[n] for n in names if n in content or n != "part_sizes"})


def recorded_dtype(folder: RunFolder) -> str | None:
    """The dtype of the run in the folder; `auto` if an earlier version began it or its engine chose none; None without a run.

    Raises:
        StateError: run.json is damaged.
    """
    if not exists(folder.path) or not folder.is_private_readable:
        return None
    identity = read_identity(folder)
    return identity.settings.get("model", {}).get("dtype") if identity else None


def has_other_columns(folder: RunFolder, identity: Identity) -> bool:
    """Whether run.json records other columns of the output than `identity`, which the job has now, or none for certain."""
    content = read_json(folder.run)
    return content["fingerprint"] != identity.fingerprint or _COLUMNS_CHANGING in content


def mark_columns_changing(folder: RunFolder) -> None:
    """Note in run.json that sealed parts may have other columns than it records."""
    content = read_json(folder.run)
    if _COLUMNS_CHANGING not in content:
        folder.write_json(folder.run, {**content, _COLUMNS_CHANGING: True}, stage="run")


def record_columns(folder: RunFolder, identity: Identity) -> None:
    """Record in run.json the columns of the output that `identity` has; nothing is written if they are recorded."""
    if has_other_columns(folder, identity):
        content = {**read_json(folder.run), **identity.content()}
        content.pop(_COLUMNS_CHANGING, None)
        folder.write_json(folder.run, content, stage="run")


def check_same_run(folder: RunFolder, known: Identity, now: Identity) -> None:
    """Check that a run can be resumed: same format, same settings except the columns of the output, same input.

    Raises:
        StateError: it cannot; the message names what differs.
    """
    if known.format != FORMAT:
        raise other_format(folder, known.format)
    ways_out = f"Write elsewhere with --output FOLDER, or {_START_OVER}"
    if folder.complete and not differences(
        row_settings(known.settings), row_settings(now.settings)
    ):
        ways_out = (
            f"Run with --fresh --incremental-from {shlex.quote(str(folder.path))} to generate only the new and changed rows, "
            "or write elsewhere with --output FOLDER."
        )
    changed = differences(answer_settings(known.settings), answer_settings(now.settings))
    if changed:
        raise StateError(
            f"{folder.path} was made by another job: {_listed(changed)}", hint=ways_out
        )
    if changes := _input_changes(known.input, now.input):
        more = f"; and {len(changes) - _SHOWN:,} more" if len(changes) > _SHOWN else ""
        raise StateError(
            f"{folder.path} was made from other input: {'; '.join(changes[:_SHOWN])}{more}",
            hint=ways_out,
        )


def _input_changes(
    known: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What differs between two records of input files, in words. Paths do not count."""
    before, after = _by_name(known), _by_name(now)
    changes = [
        f"{file['path']} {'changed' if name in before else 'is new'}"
        for name, file in after.items()
        if name not in before or before[name]["sha256"] != file["sha256"]
    ]
    changes += [f"{file['path']} is missing" for name, file in before.items() if name not in after]
    moved = not changes and [*before] != [*after]
    return ["the order of the files changed"] if moved else changes


def _by_name(files: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], Mapping[str, Any]]:
    """Files by their names, with a number from 0 for each file of the same name, such as part.jsonl of several folders."""
    seen: Counter[str] = Counter()
    named: dict[tuple[str, int], Mapping[str, Any]] = {}
    for file in files:
        name = file.get("name", file["path"])  # a run that an earlier version started
        named[name, seen[name]] = file
        seen[name] += 1
    return named


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
