"""A job for a frame: its rows are written to a file next to the output folder, where a later start finds them again."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import polars as pl

from batchgen.errors import UsageError
from batchgen.jobfile.load import LoadedJob, load_job
from batchgen.models.demo import DEMO_MODEL
from batchgen.storage.durable import disk_errors, write_durably


def load_frame_job(
    frame: pl.DataFrame,
    *,
    prompt: str | Mapping[str, object],
    output: Path,
    model: str | Mapping[str, object] = DEMO_MODEL,
    settings: Mapping[str, Mapping[str, object]] | None = None,
    overrides: Sequence[str] = (),
) -> LoadedJob:
    """Write the rows of a frame, and load a job for them.

    Args:
        frame: the rows; every column is a variable of the prompt, and a column of the output.
        prompt: the template of the user message, or the section `prompt`; empty if `settings` name a column of prompts.
        output: the folder of the run. The rows are written to `OUTPUT.rows.parquet`.
        model: `model.path`, or the section `model`.
        settings: further sections, such as {"decoding": {"max_new_tokens": 32}}.
        overrides: of single keys, such as `decoding.temperature=0.2`.

    Raises:
        JobFileError: the job is invalid.
        ResourceError: the disk refuses.
        UsageError: the frame has no rows.
    """
    if frame.is_empty():
        raise UsageError("the frame has no rows", hint="Give at least one row.")
    output = output.expanduser().absolute()
    rows = output.with_name(f"{output.name}.rows.parquet")
    _write_rows(frame, rows)
    job: dict[str, object] = {
        "version": 1,
        "name": _job_name(output),
        "input": {"path": rows},
        **({"prompt": {"user": prompt} if isinstance(prompt, str) else prompt} if prompt else {}),
        "model": {"path": model} if isinstance(model, str) else dict(model),
        "output": {"path": output},
    }
    for name, section in (settings or {}).items():
        written = job.get(name)
        job[name] = {**written, **section} if isinstance(written, Mapping) else section
    return load_job(job, overrides=overrides)


def _write_rows(frame: pl.DataFrame, path: Path) -> None:
    """Write the rows, unless the file has them: a run that is resumed needs its input unchanged."""
    if path.is_file() and _has_rows(path, frame):
        return
    with disk_errors("cannot write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = BytesIO()
        frame.write_parquet(content)
        write_durably(path, content.getvalue(), scratch=path.parent)


def _has_rows(path: Path, frame: pl.DataFrame) -> bool:
    try:
        return pl.read_parquet(path).equals(frame)
    except (pl.exceptions.PolarsError, OSError):  # an unreadable file is replaced
        return False


def _job_name(output: Path) -> str:
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in output.name).strip("-_.")
    return name[:64] or "run"
