"""Who is asked about the answers of an evaluation before they are scored.

    run      own_panel        the run's model, whose engine is open already
    score    panel_of_run     the run's model by its job.yaml, which must be the one that answered; or another
             panel_of_file    the model that the command names

One model is in memory at a time. Knows nothing of what becomes of the scores.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TextIO

import pyarrow as pa

from batchgen.engines.contract import Engine
from batchgen.engines.open import open_engine
from batchgen.errors import StateError, UsageError
from batchgen.evaluation.judging.prepare_judges import PreparedJudge
from batchgen.evaluation.judging.queries import JudgeQueries
from batchgen.evaluation.metric_queries import build_metric_queries
from batchgen.evaluation.model_queries.scoring_model import (
    EngineOpener,
    ScoringModel,
    load_scoring_model,
)
from batchgen.evaluation.model_queries.scoring_pass import LazyEngine, ScoringPass, ScoringPasses
from batchgen.evaluation.scorer import Scorer
from batchgen.job.spec import Job, ModelSpec
from batchgen.jobfile.load import LoadedJob
from batchgen.metrics.told import is_model_metric
from batchgen.models.local_model import LocalModel, find_local_model, find_model
from batchgen.state.likelihood_cache import LikelihoodCache
from batchgen.state.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class ScoringModelOptions:
    """How a model is asked while answers are scored.

    Attributes:
        model: folder or name of a model; empty for the run's own.
        chat_template: of a model that is asked about a file; as in a job.
        opener: opens engines.
        stop: asked between steps.
        say: told, in a sentence, what is being waited for.
        terminal: where bars may be drawn while a model is fetched.
    """

    model: str = ""
    chat_template: str = "auto"
    opener: EngineOpener = open_engine
    stop: Callable[[], bool] = lambda: False
    say: Callable[[str], None] = lambda _: None
    terminal: TextIO | None = None


def own_panel(
    folder: RunFolder,
    asking: ScoringModelOptions,
    asked: ScoringModel,
    *,
    scorer: Scorer,
    schema: pa.Schema,
) -> ScoringPass:
    """The panel of a model that likelihood metrics ask.

    Args:
        folder: keeps what was told.
        asking: how the model is opened.
        asked: the model.
        scorer: whose metrics ask.
        schema: of the tables of answers.

    Raises:
        JobKeyError: a condition that does not go with the columns.
    """
    questions = build_metric_queries(scorer.evaluation, scorer.origin, schema, asked)
    store = LikelihoodCache(folder)
    return ScoringPass(
        asked.identity, _engine(asked, asking), questions, store, asking.stop, asking.say
    )


def all_panels(
    folder: RunFolder,
    asking: ScoringModelOptions,
    asked: ScoringModel,
    judges: Sequence[PreparedJudge],
    *,
    scorer: Scorer,
    schema: pa.Schema,
) -> ScoringPasses:
    """The panels of a run: its model, asked by likelihood metrics, and its judges.

    Raises:
        JobKeyError: a condition that does not go with the columns.
    """
    own = own_panel(folder, asking, asked, scorer=scorer, schema=schema)
    return with_judges(own, asking, judges, asked=asked, scorer=scorer, schema=schema)


def with_judges(
    own: ScoringPass,
    asking: ScoringModelOptions,
    judges: Sequence[PreparedJudge],
    *,
    asked: ScoringModel | None,
    scorer: Scorer,
    schema: pa.Schema,
) -> ScoringPasses:
    """The panels of judges beside one that is there already, whose model is `asked`; None if it has none.

    Those that name the same model in the same words share its engine.

    Raises:
        JobKeyError: a condition that does not go with the columns.
    """
    engines = {} if asked is None else {(asked.identity, asked.job.model): own.engine}
    panels = [
        ScoringPass(
            one.asked.identity,
            engines.setdefault(
                (one.asked.identity, one.asked.job.model), _engine(one.asked, asking)
            ),
            (JudgeQueries(one, scorer.origin, schema),),
            own.store,
            asking.stop,
            asking.say,
            _announcement(one),
        )
        for one in judges
    ]
    order = list(engines.values())
    return ScoringPasses(own, sorted(panels, key=lambda panel: order.index(panel.engine)))


def _announcement(one: PreparedJudge) -> str:
    itself = (
        ", which wrote the answers itself: models favour their own" if one.judges_itself else ""
    )
    name = one.asked.job.model.path or "engine echo, which has no opinion"
    return f"judge {one.judge.name}: asking {name}{itself}"


def _engine(asked: ScoringModel, asking: ScoringModelOptions) -> LazyEngine:
    def opened() -> Engine:
        name = asked.job.model.path
        asking.say(f"loading {name}" if name else "engine echo: answers without a model")
        return asked.open(asking.opener, asking.stop)

    return LazyEngine(opened)


def panel_of_run(
    folder: RunFolder,
    asking: ScoringModelOptions,
    loaded: LoadedJob,
    *,
    manifest: Mapping[str, Any],
    scorer: Scorer,
    schema: pa.Schema,
) -> ScoringPass:
    """The panel for the answers of a complete run; nobody is looked for unless a metric asks.

    Raises:
        UsageError: a model is named that nobody asks.
        StateError: the run's model is another one now.
        ModelError: the model cannot be found.
    """
    if not _needs_model(scorer):
        return _empty_pass(folder, asking)
    if asking.model:
        spec = ModelSpec(path=asking.model)
        loaded = replace(loaded, job=loaded.job.model_copy(update={"model": spec}))
    model = find_model(loaded, asking.say, asking.terminal)
    if not asking.model:
        _must_be(manifest, model)
    return own_panel(
        folder,
        asking,
        load_scoring_model(loaded.job, model, loaded.date),
        scorer=scorer,
        schema=schema,
    )


def panel_of_file(
    folder: RunFolder, asking: ScoringModelOptions, scorer: Scorer, schema: pa.Schema
) -> ScoringPass:
    """The panel for a table of answers.

    Raises:
        UsageError: a metric asks a model and none is named, or the other way round.
        ModelError: the model cannot be found.
    """
    if not _needs_model(scorer):
        return _empty_pass(folder, asking)
    if not asking.model:
        names = [m.name for m in scorer.evaluation.measures if is_model_metric(m.metric)]
        raise UsageError(
            f"{', '.join(names)}: a model has to be asked, and none is named",
            hint="Such as --model demo:smollm2-135m, or the folder of one.",
        )
    job = Job.model_validate(
        {
            "version": 1,
            "name": "score",
            "input": {"path": "-"},
            "prompt": {"user": "-", "chat_template": asking.chat_template},
            "model": {"path": asking.model},
            "output": {"path": "-"},
        }
    )
    model = find_local_model(job.model, None, asking.say, asking.terminal)
    today = datetime.now(UTC).astimezone().date()
    return own_panel(
        folder, asking, load_scoring_model(job, model, today), scorer=scorer, schema=schema
    )


def _needs_model(scorer: Scorer) -> bool:
    return any(is_model_metric(measure.metric) for measure in scorer.evaluation.measures)


def _empty_pass(folder: RunFolder, asking: ScoringModelOptions) -> ScoringPass:
    if asking.model:
        raise UsageError(
            "--model has no effect: no metric asks a model",
            hint="Those that do: loglikelihood, perplexity, bits_per_byte, multiple_choice.",
        )

    def opened() -> Engine:
        raise ValueError("nobody asks")

    return ScoringPass("", LazyEngine(opened), (), LikelihoodCache(folder))


def _must_be(manifest: Mapping[str, Any], model: LocalModel | None) -> None:
    """Check that a model is the one that answered."""
    recorded = manifest["settings"]["model"]
    own = model.card.identity if model else {}
    if differing := sorted(name for name, value in own.items() if recorded.get(name) != value):
        raise StateError(
            f"the model of this run is another one now: {', '.join(differing)} changed since it answered",
            hint="Score with the one that answered, or name one with --model.",
        )
