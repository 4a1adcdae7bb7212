"""The models that are queried about a run's answers, opened as the run opens its own."""

from collections.abc import Callable

from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.evaluation.model_queries.scoring_pass import ScoringPasses
from batchgen.evaluation.scoring_models import ScoringModelOptions, scoring_passes
from batchgen.progress import Reporter
from batchgen.run.setup import Setup
from batchgen.state.bucket_state import PartsHome
from batchgen.state.likelihood_cache import LikelihoodCache
from batchgen.state.shards.bucket_scores import BucketBlocks


def run_passes(
    home: PartsHome,
    run_id: str,
    setup: Setup,
    opener: EngineOpener,
    *,
    should_stop: Callable[[], bool],
    reporter: Reporter,
) -> ScoringPasses:
    """See `scoring_passes`. Where the parts of the run are in a bucket, so are the results."""
    shared = None if home.state is None else BucketBlocks(home.state, run_id)
    options = ScoringModelOptions(
        opener=opener,
        should_stop=should_stop,
        reporter=reporter,
        grammars=setup.request_builder.grammars,
    )
    return scoring_passes(
        LikelihoodCache(home.folder, shared),
        options,
        setup.scoring_model,
        evaluation=setup.evaluation,
        origin=setup.origin,
        schema=setup.schema,
    )
