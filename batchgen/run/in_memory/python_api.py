"""`batchgen.run` and `batchgen.generate`: the functions for Python programs and notebooks."""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import polars as pl

from batchgen.errors import UsageError
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.jobfile.load import LoadedJob, load_job
from batchgen.models.demo import DEMO_MODEL
from batchgen.progress import ConsoleReporter, Reporter
from batchgen.run.executors.executor import Executor
from batchgen.run.in_memory.frame_job import load_frame_job
from batchgen.run.in_memory.notebook_reporter import NotebookReporter, in_notebook
from batchgen.run.result import RunResult
from batchgen.run.run import Start
from batchgen.run.run import run as run_job
from batchgen.run.stop_signals import Deadline

Messages = Sequence[Mapping[str, str]]


class RunOptions(TypedDict, total=False):
    """The options of a run; see `run.run`."""

    start: Start
    incremental_from: Path | None
    reporter: Reporter
    stop: Callable[[], bool]
    deadlines: Sequence[Deadline]
    opener: EngineOpener
    executor: Executor | None


def run(
    job: LoadedJob | Path | str | Mapping[str, object] | pl.DataFrame,
    *,
    prompt: str | Mapping[str, object] | None = None,
    output: Path | str | None = None,
    model: str | Mapping[str, object] = DEMO_MODEL,
    settings: Mapping[str, Mapping[str, object]] | None = None,
    progress: bool = False,
    **options: Unpack[RunOptions],
) -> RunResult:
    """Run a job, or resume it.

    Args:
        job: a job file, a job as a mapping, a loaded job, or a frame of rows.
        prompt: for a frame: the template of the user message, or the section `prompt`.
        output: for a frame: the folder of the run. The same call resumes it.
        model: for a frame: `model.path`, or the section `model`.
        settings: for a frame: further sections, such as {"decoding": {"temperature": 0.7}}.
        progress: whether to print messages and progress on stderr, or to draw a bar in a notebook.
        options: those of `run.run`.

    Raises:
        BatchgenError: the run cannot start or cannot finish; the exit code is the kind of failure.
    """
    loaded: LoadedJob | Path | str
    if isinstance(job, pl.DataFrame):
        if prompt is None or output is None:
            raise UsageError(
                "a frame needs prompt and output",
                hint='Write run(frame, prompt="{{ question }}", output="out/my-run").',
            )
        loaded = load_frame_job(
            job, prompt=prompt, output=Path(output), model=model, settings=settings
        )
    elif prompt is not None or output is not None or settings is not None:
        raise UsageError(
            "prompt, output and settings belong to a frame; this job has its own",
            hint="Change the job, or load it with load_job(..., overrides=[...]).",
        )
    else:
        loaded = load_job(job) if isinstance(job, Mapping) else job
    if progress and "reporter" not in options:
        options["reporter"] = _reporter()
    return run_job(loaded, **options)


def generate(
    prompts: Sequence[str] | Sequence[Messages] | pl.Series,
    *,
    model: str | Mapping[str, object] = DEMO_MODEL,
    output: Path | str | None = None,
    progress: bool = True,
    **decoding: object,
) -> pl.DataFrame:
    """Answer prompts, which are used as they are: braces in them are text.

    Args:
        prompts: texts, or conversations, each a list of {"role": ..., "content": ...}.
        model: a folder, a GGUF file, the id of a hub model, or the section `model`.
        output: the folder of the run, which the same call resumes; None keeps nothing on the disk.
        progress: whether to show it.
        decoding: keys of the section `decoding`, such as max_new_tokens=64 or temperature=0.7.

    Returns:
        One row for each answer, in the order of the prompts: the columns of responses.parquet. A row that failed has no
        `response`; `error_code` and `error` are the reason.

    Raises:
        BatchgenError: the run cannot start or cannot finish.
        StateError: the run was stopped before its end.
    """
    column, frame = _frame(prompts)
    settings: dict[str, dict[str, object]] = {
        "input": {"columns": {column: "prompt"}},
        "decoding": decoding,
    }
    with tempfile.TemporaryDirectory(prefix="batchgen-") as scratch:
        folder = Path(scratch, "run") if output is None else Path(output)
        loaded = load_frame_job(frame, prompt={}, output=folder, model=model, settings=settings)
        return run(loaded, progress=progress).frame()


def _frame(prompts: Sequence[str] | Sequence[Messages] | pl.Series) -> tuple[str, pl.DataFrame]:
    """The kind of column that the prompts are, and a frame of it."""
    if isinstance(prompts, str):
        raise UsageError("prompts is one text; expected a list of them", hint="Write [prompt].")
    values = pl.Series("prompt", prompts)
    return ("prompt" if values.dtype == pl.String else "messages"), values.to_frame()


def _reporter() -> Reporter:
    return NotebookReporter(sys.stderr) if in_notebook() else ConsoleReporter(sys.stderr)
