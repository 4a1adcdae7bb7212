"""Which models are queried about the answers before they are scored, and in which order.

    run, score of a run    its model, which must be the one that generated the answers; for `score`, or that of --model
    score of a file        that of --model

The models of the job's judges follow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import find_engine, open_engine, required_weights
from batchgen.errors import StateError, UsageError
from batchgen.evaluation.answers import ColumnMap
from batchgen.evaluation.choice_queries import ChoiceQueries
from batchgen.evaluation.judging.prepare_judges import PreparedJudge
from batchgen.evaluation.judging.queries import JudgeQueries
from batchgen.evaluation.metric_queries import MetricQueries
from batchgen.evaluation.model_queries.scoring_model import (
    EngineOpener,
    LazyEngine,
    ScoringModel,
    choose_model_dtype,
    load_scoring_model,
)
from batchgen.evaluation.model_queries.scoring_pass import ScoringPass, ScoringPasses
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.job.model_section import model_title
from batchgen.job.spec import Job, ModelSpec
from batchgen.jobfile.load import LoadedJob
from batchgen.metrics.likelihood_columns import is_model_metric
from batchgen.models.local_model import find_local_model, find_model
from batchgen.progress import SILENT, Reporter
from batchgen.state.likelihood_cache import LikelihoodCache
from batchgen.structured.answer_grammars import AnswerGrammars


@dataclass(frozen=True, slots=True)
class ScoringModelOptions:
    """How models are found and opened for scoring.

    Attributes:
        model: a folder or a name; empty for the run's own model.
        grammars: of the answers, with the labels of the column `choice_probabilities`; None leaves the column as it is.
    """

    model: str = ""
    chat_template: str = "auto"
    opener: EngineOpener = open_engine
    should_stop: Callable[[], bool] = lambda: False
    reporter: Reporter = SILENT
    grammars: AnswerGrammars | None = None


def scoring_passes(
    cache: LikelihoodCache,
    options: ScoringModelOptions,
    own: ScoringModel | None,
    *,
    evaluation: Evaluation,
    origin: ColumnMap,
    schema: pa.Schema,
) -> ScoringPasses:
    """The passes of an evaluation: labels and likelihood metrics query `own`, judges their own models.

    Judges with the same model section share an engine. `own` is None where nothing queries the model of the answers.
    """
    engine = _lazy_engine(own, options)
    engines = {} if own is None else {_engine_key(own): engine}
    stop, reporter, choices = options.should_stop, options.reporter, None
    passes = []
    if (
        own is not None
        and options.grammars is not None
        and own.job.output.choice_probabilities is True
    ):
        choices = ChoiceQueries(options.grammars, origin, own)
        what = "scoring labels with the model"
        passes.append(ScoringPass(own.identity, engine, [choices], cache, stop, reporter, what))
    if own is not None and _querying(evaluation):
        _check_likelihoods(own)
        queries = MetricQueries(evaluation, origin, schema, own)
        passes.append(ScoringPass(own.identity, engine, [queries], cache, stop, reporter))
    for judge in evaluation.judges:
        model, verdicts = judge.model, JudgeQueries(judge, origin, schema)
        _check_likelihoods(model, labels=True)
        shared = engines.setdefault(_engine_key(model), _lazy_engine(model, options))
        what = _announcement(judge)
        passes.append(ScoringPass(model.identity, shared, [verdicts], cache, stop, reporter, what))
    order = list(engines.values())
    passes.sort(key=lambda one: order.index(one.engine))
    return ScoringPasses(engine, passes, cache, None if choices is None else choices.fill)


def _engine_key(model: ScoringModel) -> tuple[str, str]:
    """Equal for models that can share an engine."""
    return model.identity, model.job.model.model_dump_json()


def _check_likelihoods(model: ScoringModel, *, labels: bool = False) -> None:
    engine = model.job.model.engine
    info = find_engine(engine).info
    if not (info.likelihoods or (labels and info.label_likelihoods)):
        raise UsageError(
            f"engine {engine} does not compute log-probabilities of given texts",
            hint="Name a local model, such as --model demo:smollm2-135m.",
        )


def _announcement(judge: PreparedJudge) -> str:
    itself = ", which generated the answers: models favour their own" if judge.is_self_judge else ""
    spec = judge.model.job.model
    name = model_title(spec) or f"engine {spec.engine}, without a model"
    return f"judge {judge.judge.name}: querying {name}{itself}"


def _lazy_engine(model: ScoringModel | None, options: ScoringModelOptions) -> LazyEngine:
    def opened() -> Engine:
        if model is None:
            raise ValueError("no metric queries a model")
        spec = model.job.model
        loads = find_engine(spec.engine).info.needs == "weights"
        what = (
            f"loading {model_title(spec)}" if loads else f"engine {spec.engine}: no model to load"
        )
        options.reporter.info(what)
        return model.open(options.opener, options.should_stop)

    return LazyEngine(opened)


def model_of_run(
    options: ScoringModelOptions,
    loaded: LoadedJob,
    evaluation: Evaluation,
    *,
    manifest: Mapping[str, Any],
) -> ScoringModel | None:
    """The model that likelihood metrics query about a complete run; None where there are no such metrics.

    StateError if the run's model has changed since it generated the answers.
    """
    if not _needs_model(options, evaluation):
        return None
    if options.model:
        spec = ModelSpec(path=options.model)
        loaded = replace(loaded, job=loaded.job.model_copy(update={"model": spec}))
    weights = required_weights(loaded.job.model)
    model = find_model(loaded, options.reporter, weights=weights)
    recorded, now = manifest["settings"]["model"], model.identity if model else {}
    adapter = {"adapter_sha256"} & recorded.keys()
    differing = sorted(n for n in now.keys() | adapter if recorded.get(n) != now.get(n))
    if _SAMPLED in recorded and "weights_sha256" in differing:
        differing.remove("weights_sha256")
    if differing and not options.model:
        raise StateError(
            f"the run's model has changed since it generated the answers: {', '.join(differing)} differs",
            hint="Restore the model, or choose one with --model.",
        )
    dtype = None if options.model else recorded.get("dtype")
    chosen = choose_model_dtype(loaded.job.model, model, dtype)
    return load_scoring_model(loaded.job, model, loaded.date, dtype=chosen)


_SAMPLED = "weights_sampled_sha256"
"""The digest of runs of version 0.1, of samples of the weights: whether these have changed is then not known."""


def model_of_file(options: ScoringModelOptions, evaluation: Evaluation) -> ScoringModel | None:
    """The model that likelihood metrics query about a table; None where there are no such metrics."""
    if not _needs_model(options, evaluation):
        return None
    if not options.model:
        raise UsageError(
            f"no model given for {', '.join(_querying(evaluation))}",
            hint="Add --model with a name or a folder, such as --model demo:smollm2-135m.",
        )
    job = Job.model_validate(
        {
            "version": 1,
            "name": "score",
            "input": {"path": "-"},
            "prompt": {"user": "-", "chat_template": options.chat_template},
            "model": {"path": options.model},
            "output": {"path": "-"},
        }
    )
    model = find_local_model(job.model, None, options.reporter, weights=required_weights(job.model))
    return load_scoring_model(job, model, datetime.now(UTC).astimezone().date())


def _needs_model(options: ScoringModelOptions, evaluation: Evaluation) -> bool:
    needed = bool(_querying(evaluation))
    if options.model and not needed:
        raise UsageError(
            "--model has no effect: no metric queries a model",
            hint="Add one that does: loglikelihood, perplexity, bits_per_byte or multiple_choice.",
        )
    return needed


def _querying(evaluation: Evaluation) -> list[str]:
    """The names of the metrics that query a model."""
    return [measure.name for measure in evaluation.measures if is_model_metric(measure.metric)]
