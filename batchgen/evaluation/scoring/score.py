"""`score`: the responses of a run, or of any table with a response column; see `score_run` and `score_file`."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from batchgen.errors import BatchgenError, UsageError
from batchgen.evaluation.scoring.join import JoinSpec
from batchgen.evaluation.scoring.score_file import score_file
from batchgen.evaluation.scoring.score_run import ReportWriter, ScoreResult, score_run
from batchgen.evaluation.scoring_models import ScoringModelOptions
from batchgen.job.evaluate import Evaluate, Reasoning
from batchgen.jobfile.renamed_keys import explain_renamed_key, explain_renamed_type
from batchgen.metrics.registry import METRIC_TYPES
from batchgen.output.unfinished_run import check_manifest_exists, why_unfinished
from batchgen.progress import SILENT, Reporter
from batchgen.state.bucket_run import local_run
from batchgen.state.open_folder import not_a_run
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists, is_file, is_folder
from batchgen.storage.remote.object_url import is_object_url

MetricSpec = str | Mapping[str, Any]
"""A metric as in a job file: its type, or a mapping with its options."""


def score(  # noqa: PLR0913  # a public face: every argument but the first has a default
    what: Path | str,
    metrics: Sequence[MetricSpec] = (),
    *,
    reference: str | Sequence[str] = (),
    response: str | None = None,
    reasoning: Reasoning | None = None,
    join: Path | str | None = None,
    on: str | None = None,
    output: Path | str | None = None,
    model: Path | str | None = None,
    chat_template: str | None = None,
    reporter: Reporter = SILENT,
    add_report: ReportWriter | None = None,
) -> ScoreResult:
    """Score existing responses; nothing is generated.

    Args:
        what: a run folder, whose files are replaced unless `output` is given; or a Parquet, CSV or JSONL file.
        metrics: such as `["exact", {"type": "rouge", "variants": ["L"]}]`. Those of a run's job are added.
        reference: the column with the right answer, or several. Default: that of the run.
        response: the column of a file with the responses. Default: `response`.
        reasoning: with "drop", text between think marks is not scored. Default: that of the run's job, or "keep".
        join: a file with further columns, such as the references.
        on: the key column of `join`.
        output: the folder for the scores. Required for a file; those of a run are otherwise written into its folder.
        model: folder or name of the model that likelihood metrics query. Default: the run's model.
        chat_template: renders the messages of a file for that model, as in a job. Default: `auto`.
        reporter: receives messages and progress.
        add_report: stages the report of a run whose job has `output.report`; without it, an old report is removed.

    Raises:
        UsageError: arguments contradict each other, or columns are missing.
        DataError: a file cannot be read, or a metric lacks a file or a package.
        StateError: the run is not complete, or is damaged.
        LockedError: the run is at work.
        ResourceError: the disk is full or read-only.
    """
    if is_object_url(what) and output is None:
        raise UsageError(
            "no output folder given for the scores of a run in object storage",
            hint="Add --output FOLDER. To publish scores there, score the run's own folder and run its job again.",
        )
    what, references = (
        local_run(what),
        (reference,) if isinstance(reference, str) else tuple(reference),
    )
    evaluate = _evaluate(metrics, references, reasoning)
    if (join is None) != (on is None):
        raise UsageError("--join and --on require each other")
    join_spec = JoinSpec(Path(join), on) if join and on else None
    if chat_template and not model:
        raise UsageError("--chat-template requires --model")
    named = "" if model is None else str(model)
    options = ScoringModelOptions(
        model=str(Path(named).absolute()) if named and is_folder(Path(named)) else named,
        chat_template=chat_template or "auto",
        reporter=reporter,
    )
    if is_folder(what) and exists(what / "manifest.json"):
        if response or chat_template:
            raise UsageError(
                "--response and --chat-template apply to files only, not to a run",
                hint="Omit them: a run records both.",
            )
        return score_run(
            what,
            evaluate.metrics,
            output=None if output is None else Path(output),
            references=references,
            reasoning=reasoning,
            join_spec=join_spec,
            options=options,
            add_report=add_report,
        )
    if output is None or RunFolder(what.absolute()).has_state:
        raise _no_output(what)
    if not evaluate.metrics:
        raise UsageError("no metric given", hint="Add --metric exact.")
    return score_file(
        what,
        evaluate,
        response=response or "response",
        output=Path(output),
        join_spec=join_spec,
        options=options,
    )


def _no_output(what: Path) -> BatchgenError:
    if is_file(what):
        problem = f"no output folder given for the scores of {what}"
        return UsageError(problem, hint="Add --output FOLDER.")
    folder = RunFolder(what.absolute())
    if not folder.is_private_readable:
        return not_a_run(what)
    if folder.has_state:
        check_manifest_exists(folder)
        return why_unfinished(folder).error(UsageError)
    problem = "is not the output folder of a complete run" if exists(what) else "does not exist"
    return UsageError(
        f"{what} {problem}", hint="Give the output folder of a run, or a file and --output FOLDER."
    )


def _evaluate(
    metrics: Sequence[MetricSpec], references: Sequence[str], reasoning: Reasoning | None
) -> Evaluate:
    content: dict[str, object] = {}
    if metrics:  # otherwise only the metrics of the run are computed
        content = {"metrics": list(metrics), "reference": list(references) or None}
        content["reasoning"] = reasoning or "keep"
    try:
        return Evaluate.model_validate(content)
    except ValidationError as error:
        lines = [_message(one, metrics) for one in error.errors()]
        raise UsageError("\n".join(lines), hint=_hint(error.errors(), metrics)) from error


def _message(error: ErrorDetails, metrics: Sequence[MetricSpec]) -> str:
    path, message = error["loc"], error["msg"].removeprefix("Value error, ")
    if renamed := _renamed(error, metrics):
        return f"metric {_type(error, metrics)}: {renamed[0]}"
    if not _of_metric(error):
        return f"{path[0]}: {message}" if path else message
    message = {**_TYPE_ERRORS, **_KEY_ERRORS}.get(error["type"], message)
    key = ".".join(str(step) for step in path[3:])
    return f"metric {_type(error, metrics)}: {key + ': ' if key else ''}{message}"


_TYPE_ERRORS = {
    "union_tag_invalid": "no such type",
    "union_tag_not_found": "has no type",
    "model_attributes_type": "expected a type, or a mapping with a type",
}
_KEY_ERRORS = {"missing": "is required", "extra_forbidden": "unknown key"}


def _hint(errors: Sequence[ErrorDetails], metrics: Sequence[MetricSpec]) -> str:
    """The types if one is wrong; otherwise where to find the options."""
    if renamed := next(filter(None, (_renamed(error, metrics) for error in errors)), None):
        return renamed[1]
    if any(error["type"] in _TYPE_ERRORS and len(error["loc"]) == 2 for error in errors):
        wrong = (_type(error, metrics) for error in errors if error["type"] == "union_tag_invalid")
        near = [one for name in wrong for one in get_close_matches(name, METRIC_TYPES, 1)]
        if near:
            return f"Did you mean {', '.join(near)}? List all types with `batchgen metrics`."
        return f"Use one of: {', '.join(METRIC_TYPES)}. List options with `batchgen metrics TYPE`."
    types = dict.fromkeys(_type(error, metrics) for error in errors if _of_metric(error))
    commands = ", ".join(f"`batchgen metrics {name}`" for name in types)
    return f"List options with {commands}." if types else ""


def _renamed(error: ErrorDetails, metrics: Sequence[MetricSpec]) -> tuple[str, str] | None:
    """Message and hint, where an error is about a type or a key that was renamed."""
    path = tuple(error["loc"])
    if error["type"] == "union_tag_invalid":
        return explain_renamed_type(_type(error, metrics))
    if error["type"] == "extra_forbidden":
        return explain_renamed_key(path[-1:], ("evaluate", *path), error["input"])
    return None


def _of_metric(error: ErrorDetails) -> bool:
    return len(error["loc"]) > 1 and isinstance(error["loc"][1], int)


def _type(error: ErrorDetails, metrics: Sequence[MetricSpec]) -> str:
    metric = metrics[int(error["loc"][1])]
    return str(metric.get("type", dict(metric)) if isinstance(metric, Mapping) else metric)
