"""SQuAD's own exact match and F1, by the rules of its evaluation script: for English, and comparable with published results.

Unlike `normalized_match` and `token_f1` they delete punctuation within words: `10,000` is `10000`, `U.S.` is `US`, and
`well-known` is `wellknown`, which is not `well known`. Text without spaces, such as Chinese, is one token. A question whose list of
references is empty is unanswerable (SQuAD 2.0): an empty response is right, any other wrong.
"""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from batchgen.metrics.base import (
    Answer,
    MetricOptions,
    MetricType,
    Spec,
    scored,
    stored_form,
    without_reference,
)
from batchgen.metrics.overlap import unigram_f1
from batchgen.records import Score

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class SquadEmOptions(MetricOptions):
    """SQuAD's exact match: the response is a reference, without case, ASCII punctuation, `a`, `an`, `the` and redundant spaces."""

    type: Literal["squad_em"] = "squad_em"


class SquadF1Options(MetricOptions):
    """SQuAD's F1: words shared with the nearest reference, in the same form as for `squad_em`."""

    type: Literal["squad_f1"] = "squad_f1"


def squad_form(text: str) -> str:
    """The text as SQuAD compares it (Rajpurkar et al. 2018, evaluation script of version 2.0)."""
    plain = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", plain).split())


@dataclass(frozen=True, slots=True)
class SquadScore:
    """The highest value of any reference; both texts are in SQuAD's form."""

    spec: Spec
    compare: Callable[[str, str], float]

    def score(self, answer: Answer) -> Score:
        """Score an answer. `answer` of the score is the form that was compared."""
        references = answer.references or (("",) if answer.unanswerable else ())
        if not references:
            return without_reference(self.spec, readable=answer.readable)
        found = squad_form(answer.text)
        best = max(self.compare(found, squad_form(one)) for one in references)
        return scored(self.spec, best, answer, stored_form(found))


def _is_same(left: str, right: str) -> float:
    return float(left == right)


def _word_f1(left: str, right: str) -> float:
    # SQuAD 2.0: where either is empty, F1 is exact match.
    return unigram_f1(left.split(), right.split()) if left and right else _is_same(left, right)


SQUAD_EM = MetricType(SquadEmOptions, lambda spec, _: SquadScore(spec, _is_same))
SQUAD_F1 = MetricType(SquadF1Options, lambda spec, _: SquadScore(spec, _word_f1))
