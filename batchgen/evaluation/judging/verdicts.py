"""What a judge's model told about an answer, as a judgement: the other end of `queries.py`.

Knows nothing of how models are asked.
"""

from collections.abc import Mapping
from typing import get_args

from batchgen.evaluation.judging.prepare_judges import ReadyJudge
from batchgen.evaluation.judging.scores import Judgement, Look, State, disjoint
from batchgen.metrics.base import Answer
from batchgen.metrics.told import told


def look_for(ready: ReadyJudge) -> Look:
    """Finds what a judge's model was told to have said about an answer."""
    labels = ready.prompts.labels.token_ids

    def look(answer: Answer) -> Judgement | None:
        said = told(answer, ready.judge.name)
        if not said:
            return None
        if code := next((one.failure for one in said if one.failure), ""):
            return Judgement("failed", code=code)
        state = _STATES.get(said[0].note, "judged")
        if len(said) == 1:
            return Judgement(state)
        orders = (said[at : at + len(labels)] for at in range(0, len(said), len(labels)))
        logprobs = [disjoint([one.logprob for one in order], labels) for order in orders]
        return Judgement(state, [one for order in logprobs for one in order])

    return look


_STATES: Mapping[str, State] = {state: state for state in get_args(State)}
