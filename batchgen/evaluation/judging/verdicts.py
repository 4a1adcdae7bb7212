"""What a judge's model told about an answer, as a judgement: the other end of `queries.py`.

Knows nothing of how models are asked.
"""

from collections.abc import Mapping
from typing import get_args

from batchgen.evaluation.judging.prepare_judges import PreparedJudge
from batchgen.evaluation.judging.scores import (
    JudgeResult,
    JudgeState,
    VerdictReader,
    disjoint_logprobs,
)
from batchgen.metrics.base import Answer
from batchgen.metrics.told import text_likelihoods


def verdict_reader(ready: PreparedJudge) -> VerdictReader:
    """Finds what a judge's model was told to have said about an answer."""
    labels = ready.prompts.labels.token_ids

    def look(answer: Answer) -> JudgeResult | None:
        said = text_likelihoods(answer, ready.judge.name)
        if not said:
            return None
        if code := next((one.failure for one in said if one.failure), ""):
            return JudgeResult("failed", code=code)
        state = _STATES.get(said[0].note, "judged")
        if len(said) == 1:
            return JudgeResult(state)
        orders = (said[at : at + len(labels)] for at in range(0, len(said), len(labels)))
        logprobs = [disjoint_logprobs([one.logprob for one in order], labels) for order in orders]
        return JudgeResult(state, [one for order in logprobs for one in order])

    return look


_STATES: Mapping[str, JudgeState] = {state: state for state in get_args(JudgeState)}
