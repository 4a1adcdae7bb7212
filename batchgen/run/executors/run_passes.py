"""The models that are queried about a run's answers, opened as the run opens its own."""

from collections.abc import Callable

from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.evaluation.model_queries.scoring_pass import ScoringPasses
from batchgen.evaluation.scoring_models import ScoringModelOptions, scoring_passes
from batchgen.progress import Reporter
from batchgen.run.setup import Setup
from batchgen.state.run_folder import RunFolder


def run_passes(
    folder: RunFolder,
    setup: Setup,
    opener: EngineOpener,
    *,
    should_stop: Callable[[], bool],
    reporter: Reporter,
) -> ScoringPasses:
    """See `scoring_passes`."""
    options = ScoringModelOptions(
        opener=opener,
        should_stop=should_stop,
        reporter=reporter,
        grammars=setup.request_builder.grammars,
    )
    return scoring_passes(
        folder,
        options,
        setup.scoring_model,
        evaluation=setup.evaluation,
        origin=setup.origin,
        schema=setup.schema,
    )
