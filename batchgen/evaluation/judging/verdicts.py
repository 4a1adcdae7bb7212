"""Likelihoods of a judge's labels as verdicts: the reverse of `queries.py`."""

from collections.abc import Mapping
from typing import get_args

from batchgen.evaluation.judging.prepare_judges import PreparedJudge
from batchgen.evaluation.judging.scores import (
    JudgeResult,
    JudgeState,
    VerdictReader,
)
from batchgen.metrics.base import Answer
from batchgen.metrics.likelihood_columns import text_likelihoods
from batchgen.structured.disjoint_labels import disjoint_logprobs


def verdict_reader(ready: PreparedJudge) -> VerdictReader:
    """Return the function that finds the judge's verdict on an answer."""
    labels = ready.prompts.labels.token_ids

    def read(answer: Answer) -> JudgeResult | None:
        results = text_likelihoods(answer, ready.judge.name)
        if not results:
            return None
        if code := next((one.failure for one in results if one.failure), ""):
            return JudgeResult("failed", code=code)
        state = _STATES.get(results[0].note, "judged")
        if len(results) == 1:
            return JudgeResult(state)
        orders = (results[at : at + len(labels)] for at in range(0, len(results), len(labels)))
        logprobs = [disjoint_logprobs([one.logprob for one in order], labels) for order in orders]
        return JudgeResult(state, [one for order in logprobs for one in order])

    return read


_STATES: Mapping[str, JudgeState] = {state: state for state in get_args(JudgeState)}
