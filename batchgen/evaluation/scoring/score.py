"""`score`: the answers of a run, or of any table with a response column.

Tells the two apart and reads what is asked for; `score_run` and `score_file` do the work.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pydantic import ValidationError

from batchgen.errors import UsageError
from batchgen.evaluation.scoring.join import JoinSpec
from batchgen.evaluation.scoring.score_file import score_file
from batchgen.evaluation.scoring.score_run import ScoreResult, score_run
from batchgen.evaluation.scoring_models import ScoringModelOptions
from batchgen.job.evaluate import Evaluate, Reasoning
from batchgen.metrics.registry import METRIC_TYPES

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MetricSpec = str | Mapping[str, Any]
"""A metric as a job file has it: its type, or a mapping with its options."""


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
    say: Callable[[str], None] = lambda _: None,
    terminal: TextIO | None = None,
) -> ScoreResult:
    """Score answers that exist already; nothing is generated.

    Args:
        what: the folder of a run, whose files are written anew; or a Parquet, CSV or JSONL file.
        metrics: such as `["exact", {"type": "rouge", "variants": ["L"]}]`. A run's own are measured as well.
        reference: the column with the right answer, or several. Left out: the run's.
        response: of a file, the column with the responses; left out, `response`.
        reasoning: drop, and text between think marks is not scored. Left out: as the run's job says, or keep.
        join: a file with further columns, such as the references.
        on: the column by which its rows are found.
        output: the folder for the scores of a file.
        model: whom likelihood metrics ask: a folder or a name. Left out: of a run, its own.
        chat_template: how that model is told the messages of a file, as in a job; left out, `auto`.
        say: told, in a sentence, what is being waited for.
        terminal: where bars may be drawn while a model is fetched.

    Raises:
        UsageError: the arguments do not go together, or columns are missing.
        DataError: a file cannot be read, or a metric needs what is not there.
        StateError: the run is not complete, or damaged.
        LockedError: the run is going on.
        ResourceError: the disk refused.
    """
    what, references = Path(what), (reference,) if isinstance(reference, str) else tuple(reference)
    evaluate = _evaluate(metrics, references, reasoning)
    if (join is None) != (on is None):
        raise UsageError("--join and --on go together")
    beside = JoinSpec(Path(join), on) if join and on else None
    if chat_template and not model:
        raise UsageError("--chat-template goes with --model")
    named = "" if model is None else str(model)
    asking = ScoringModelOptions(
        model=str(Path(named).absolute()) if named and Path(named).is_dir() else named,
        chat_template=chat_template or "auto",
        say=say,
        terminal=terminal,
    )
    if what.is_dir() and (what / "manifest.json").exists():
        if response or output or chat_template:
            raise UsageError(
                "--response, --output and --chat-template are for files: a run's scores go beside its answers"
            )
        return score_run(
            what,
            evaluate.metrics,
            references=references,
            reasoning=reasoning,
            beside=beside,
            asking=asking,
        )
    if output is None:
        raise _missing_output_error(what)
    if not evaluate.metrics:
        raise UsageError("nothing says what to measure", hint="Such as --metric exact.")
    return score_file(
        what,
        evaluate,
        response=response or "response",
        output=Path(output),
        beside=beside,
        asking=asking,
    )


def _missing_output_error(what: Path) -> UsageError:
    if what.is_file():
        return UsageError(
            f"nothing says where the scores of {what} go",
            hint="Name a folder with --output FOLDER.",
        )
    missing = "is not the output folder of a complete run" if what.exists() else "is not there"
    return UsageError(
        f"{what} {missing}", hint="Name the output folder of a run, or a file and --output FOLDER."
    )


def _evaluate(
    metrics: Sequence[MetricSpec], references: Sequence[str], reasoning: Reasoning | None
) -> Evaluate:
    content: dict[str, object] = {}
    if metrics:  # otherwise a run's own metrics are all there is
        content = {
            "metrics": list(metrics),
            "reference": list(references) or None,
            "reasoning": reasoning or "keep",
        }
    try:
        return Evaluate.model_validate(content)
    except ValidationError as error:
        lines = [_found(one, metrics) for one in error.errors()]
        raise UsageError("\n".join(lines), hint=_hint(error.errors(), metrics)) from error


def _found(error: "ErrorDetails", metrics: Sequence[MetricSpec]) -> str:
    place, message = error["loc"], error["msg"].removeprefix("Value error, ")
    if not _of_metric(error):
        return f"{place[0]}: {message}" if place else message
    if error["type"] in _TYPE_ERRORS:
        message = _TYPE_ERRORS[error["type"]]
    key = ".".join(str(step) for step in place[3:])
    return f"metric {_type(error, metrics)}: {key + ': ' if key else ''}{message}"


_TYPE_ERRORS = {
    "union_tag_invalid": "no such type",
    "union_tag_not_found": "has no type",
    "model_attributes_type": "expected a type, or a mapping with a type",
}


def _hint(errors: Sequence["ErrorDetails"], metrics: Sequence[MetricSpec]) -> str:
    """All types only where one is amiss; where options are, the way to these."""
    if any(error["type"] in _TYPE_ERRORS and len(error["loc"]) == 2 for error in errors):
        return f"Types: {', '.join(METRIC_TYPES)}. `batchgen metrics TYPE` lists the options."
    types = dict.fromkeys(_type(error, metrics) for error in errors if _of_metric(error))
    return f"Options: {', '.join(f'`batchgen metrics {name}`' for name in types)}." if types else ""


def _of_metric(error: "ErrorDetails") -> bool:
    return len(error["loc"]) > 1 and isinstance(error["loc"][1], int)


def _type(error: "ErrorDetails", metrics: Sequence[MetricSpec]) -> str:
    asked = metrics[int(error["loc"][1])]
    return str(asked.get("type", dict(asked)) if isinstance(asked, Mapping) else asked)
