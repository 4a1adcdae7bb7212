"""The judges of a job, prepared.

    Judge (job) ──find model, read rubric, open baseline──> PreparedJudge

No weights are loaded.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from batchgen.errors import DataError, ModelError
from batchgen.evaluation.judging.baseline_answers import baseline_record, open_baseline
from batchgen.evaluation.judging.prompt_texts import VERSION
from batchgen.evaluation.judging.prompts import JudgePrompts, answer_prefill
from batchgen.evaluation.model_queries.scoring_model import UNBOUNDED, ScoringModel
from batchgen.fingerprint import fingerprint
from batchgen.job.judge import Judge
from batchgen.job.spec import Job, ModelSpec, PromptSpec
from batchgen.jobfile.load import LoadedJob
from batchgen.models.info import tokenizer_identity
from batchgen.models.local_model import LocalModel, find_local_model
from batchgen.models.lock_file import lock_path, read_lock
from batchgen.models.tokenizer import load_from
from batchgen.output.published_run import PublishedRun
from batchgen.progress import Reporter
from batchgen.prompts.byte_tokenizer import ByteTokenizer
from batchgen.prompts.tokenize import ModelTokenizer, Tokenizer

JUDGE_DATE = date(2025, 1, 1)
"""The date in a judge's chat template, fixed so that verdicts are reproducible."""


@dataclass(frozen=True, slots=True)
class PreparedJudge:
    """A judge, before its weights are loaded.

    Attributes:
        key: of its section, for messages.
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
    loaded: LoadedJob, own: LocalModel | None, reporter: Reporter
) -> tuple[PreparedJudge, ...]:
    """Prepare a job's judges.

    Args:
        loaded: the job.
        own: the model that generates the answers.
        reporter: receives messages and progress.

    Raises:
        ModelError: a model is not found, differs from the lock file, or cannot be a judge.
        DataError: a rubric cannot be read.
        UsageError: the baseline is not a complete run.
        StateError: the baseline is damaged.
    """
    lock = read_lock(lock_path(loaded.file))

    def found(spec: ModelSpec | None) -> LocalModel | None:
        if spec is None:
            return own
        return None if spec.path is None else find_local_model(spec, lock, reporter)

    models = [found(judge.model) for judge in loaded.job.evaluate.judges]
    return tuple(_prepare_judge(loaded.job, n, model, own) for n, model in enumerate(models))


def read_rubric(judge: Judge) -> str:
    """The rubric of a judge's section; empty where it gives none.

    Raises:
        DataError: its file cannot be read, or is empty.
    """
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
    job: Job, number: int, model: LocalModel | None, own: LocalModel | None
) -> PreparedJudge:
    judge = job.evaluate.judges[number]
    spec = judge.model or job.model
    tokenizer = _tokenizer(spec, model, _prompt_section(judge, job.prompt, model))
    rubric = read_rubric(judge)
    other = open_baseline(Path(judge.baseline)) if judge.baseline is not None else None
    stated = model.info.context_length if model else UNBOUNDED
    longest = min(stated, spec.max_model_len or stated)
    files = {"files": tokenizer_identity(model.tokenizer.folder)} if model else {}
    decides = {
        "model": model.info.identity if model else {},
        "engine": [spec.engine, spec.dtype, spec.attn_implementation],
        "tokenizer": {**tokenizer.facts, **files},
        "longest": longest,
        "words": VERSION,
        "rubric": rubric,
        "other": baseline_record(other) if other else {},
    }
    return PreparedJudge(
        judge=judge,
        key=f"evaluate.judges[{number}]",
        model=ScoringModel(job.model_copy(update={"model": spec}), model, tokenizer, longest),
        prompts=JudgePrompts(judge, rubric, tokenizer, longest),
        baseline=other,
        signature=fingerprint(decides),
        is_self_judge=_same_weights(model, own),
    )


def _prompt_section(judge: Judge, prompt: PromptSpec, model: LocalModel | None) -> PromptSpec:
    """The prompt section for the judge's model: the job's chat template for the job's model; else its own, if any."""
    if judge.model is None:
        template, kwargs = prompt.chat_template, prompt.chat_template_kwargs
    else:
        has_template = model is None or model.info.has_chat_template
        template, kwargs = "auto" if has_template else "none", {}
    templates = {"chat_template": template, "chat_template_kwargs": kwargs}
    return PromptSpec.model_validate({"user": "-", "prefill": answer_prefill(judge), **templates})


def _tokenizer(spec: ModelSpec, model: LocalModel | None, prompt: PromptSpec) -> Tokenizer:
    if model is None:
        return ByteTokenizer()
    if model.info.is_encoder_decoder:
        raise ModelError(
            f"{model.resolved.name} is an encoder-decoder model, which cannot judge",
            hint="Choose a decoder-only model.",
        )
    pretrained = load_from(model.tokenizer.folder, model.resolved, spec)
    return ModelTokenizer(pretrained, prompt, JUDGE_DATE)


def _same_weights(model: LocalModel | None, own: LocalModel | None) -> bool:
    if model is None or own is None:
        return False
    key = "weights_sampled_sha256"
    return model.info.identity[key] == own.info.identity[key]
