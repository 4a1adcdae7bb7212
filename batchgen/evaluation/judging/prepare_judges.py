"""The judges of a job, prepared: model located, rubric read, baseline opened. No weights are loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

from batchgen.engines.contract import ModelUse
from batchgen.engines.engine_registry import identify_model, required_weights
from batchgen.errors import DataError, JobKeyError, ModelError, UnavailableError
from batchgen.evaluation.judging.baseline_answers import baseline_record, open_baseline
from batchgen.evaluation.judging.prompt_texts import VERSION
from batchgen.evaluation.judging.prompts import JudgePrompts, answer_prefill
from batchgen.evaluation.model_queries.scoring_model import (
    ScoringModel,
    choose_model_dtype,
    load_scoring_model,
)
from batchgen.fingerprint import fingerprint
from batchgen.job.judge import Judge
from batchgen.job.spec import Job, ModelSpec, PromptSpec
from batchgen.jobfile.load import LoadedJob
from batchgen.models.info import tokenizer_identity
from batchgen.models.local_adapter import adapter_errors
from batchgen.models.local_model import LocalModel, find_local_model
from batchgen.models.lock_file import lock_path, read_lock
from batchgen.output.published_run import PublishedRun
from batchgen.progress import Reporter

JUDGE_DATE = date(2025, 1, 1)
"""The date in a judge's chat template, fixed so that verdicts are reproducible."""


@dataclass(frozen=True, slots=True)
class PreparedJudge:
    """A judge, before its weights are loaded.

    Attributes:
        baseline: None for a column, or without comparison.
        signature: a hash of everything that decides its verdicts, except the answers and the job's section.
        is_self_judge: whether its weights are those that generated the answers.
    """

    judge: Judge
    key: str
    model: ScoringModel
    prompts: JudgePrompts
    baseline: PublishedRun | None
    signature: str
    is_self_judge: bool


def prepare_judges(
    loaded: LoadedJob,
    own: LocalModel | None,
    reporter: Reporter,
    *,
    recorded_dtype: str | None = None,
    served: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[PreparedJudge, ...]:
    """Prepare a job's judges. `own` is the model that generates the answers; in `recorded_dtype`, if their run began earlier.

    `served` is what is known about it if a server offers it.

    Raises:
        BatchgenError: a model, a rubric or a baseline is missing, damaged, or cannot be used.
    """
    lock = read_lock(lock_path(loaded.file))

    def find(number: int, spec: ModelSpec | None) -> LocalModel | None:
        if spec is None:
            return own
        if spec.path is None:
            return None
        with adapter_errors(loaded, f"evaluate.judges[{number}].model"):
            return find_local_model(spec, lock, reporter, weights=required_weights(spec))

    dtype = choose_model_dtype(loaded.job.model, own, recorded_dtype)
    models = [find(n, judge.model) for n, judge in enumerate(loaded.job.evaluate.judges)]
    known = [_served(loaded, number, served, reporter) for number in range(len(models))]
    prepared = [
        _prepare_judge(loaded.job, n, (model, known[n]), own) for n, model in enumerate(models)
    ]
    for one in prepared:
        if one.judge.model is not None:
            one.model.with_checked_adapter(loaded, f"{one.key}.model")
    return tuple(
        one if one.judge.model else replace(one, model=replace(one.model, dtype=dtype))
        for one in prepared
    )


def _served(
    loaded: LoadedJob, number: int, own: Mapping[str, Any], reporter: Reporter
) -> Mapping[str, Any]:
    """What is known about a judge that a server offers; empty for one on this machine."""
    judge = loaded.job.evaluate.judges[number]
    if judge.model is None:
        return own
    use = ModelUse({"labels": f"evaluate.judges[{number}]"})
    try:
        return identify_model(judge.model, use, reporter.info)
    except JobKeyError as error:
        raise loaded.error([error.problem]) from error
    except (ModelError, UnavailableError) as error:
        raise type(error)(f"judge {judge.name}: {error.message}", hint=error.hint) from error


def read_rubric(judge: Judge) -> str:
    """The rubric of a judge's section; empty where it gives none."""
    if judge.rubric_file is None:
        return judge.rubric or ""
    try:
        text = Path(judge.rubric_file).read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(
            f"the rubric {judge.rubric_file} cannot be read: {reason}",
            hint="Give the path of a UTF-8 text file, relative to the job file.",
        ) from error
    if not text:
        raise DataError(
            f"the rubric {judge.rubric_file} is empty",
            hint="Write the rubric, or remove rubric_file to use the general one.",
        )
    return text


def _prepare_judge(
    job: Job,
    number: int,
    found: tuple[LocalModel | None, Mapping[str, Any]],
    own: LocalModel | None,
) -> PreparedJudge:
    model, served = found
    if model is not None and model.info.is_encoder_decoder:
        raise ModelError(
            f"{model.resolved.name} is an encoder-decoder model, which cannot judge",
            hint="Choose a decoder-only model.",
        )
    judge = job.evaluate.judges[number]
    spec = judge.model or job.model
    sections = {"model": spec, "prompt": _prompt_section(judge, job.prompt, model)}
    scoring = load_scoring_model(job.model_copy(update=sections), model, JUDGE_DATE, served)
    rubric = read_rubric(judge)
    baseline = open_baseline(Path(judge.baseline)) if judge.baseline is not None else None
    files = {"files": tokenizer_identity(model.tokenizer.folder)} if model else {}
    decides = {
        "model": model.identity if model else {},
        "engine": [spec.engine, spec.dtype, spec.attn_implementation],
        "tokenizer": {**scoring.tokenizer.facts, **files},
        "longest": scoring.context_length,
        "words": VERSION,
        "rubric": rubric,
        "other": baseline_record(baseline) if baseline else {},
    }
    same_weights = own and (model is own or (model and _weights(model) == _weights(own)))
    return PreparedJudge(
        judge=judge,
        key=f"evaluate.judges[{number}]",
        model=scoring,
        prompts=JudgePrompts(judge, rubric, scoring.tokenizer, scoring.context_length),
        baseline=baseline,
        signature=fingerprint(decides),
        is_self_judge=bool(same_weights),
    )


def _weights(model: LocalModel) -> tuple[str | None, ...]:
    """What two models have in common if they have the same weights; differs for models without any."""
    identity = model.identity
    own = identity.get("weights_sha256", str(model.resolved.folder))
    return own, identity.get("adapter_sha256")


def _prompt_section(judge: Judge, prompt: PromptSpec, model: LocalModel | None) -> PromptSpec:
    """The prompt section for the judge's model: the job's chat template for the job's model; else its own, if any."""
    if judge.model is None:
        template, kwargs = prompt.chat_template, prompt.chat_template_kwargs
    else:
        has_template = model is None or model.info.has_chat_template
        template, kwargs = "auto" if has_template else "none", {}
    templates = {"chat_template": template, "chat_template_kwargs": kwargs}
    return PromptSpec.model_validate({"user": "-", "prefill": answer_prefill(judge), **templates})
