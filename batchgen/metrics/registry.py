"""All types of metrics, by name.

To add one: write its file (options, computation, a `MetricType`) and add it to `_ALL`. An option named `file` or
`schema` is a path relative to the job file.
"""

from collections.abc import Mapping
from typing import Any, Final

from batchgen.metrics.base import Metric, MetricOptions, MetricType
from batchgen.metrics.bleu import BLEU
from batchgen.metrics.calibration import CALIBRATION
from batchgen.metrics.choice import CHOICE
from batchgen.metrics.chrf import CHRF
from batchgen.metrics.diversity import DISTINCT, DUPLICATES, SAMPLE_DIVERSITY
from batchgen.metrics.edit_distance import CER, EDIT_DISTANCE
from batchgen.metrics.human import HUMAN
from batchgen.metrics.ifeval.ifeval import IFEVAL
from batchgen.metrics.json_output import JSON, JSON_SCHEMA
from batchgen.metrics.language import LANGUAGE
from batchgen.metrics.length import LENGTH
from batchgen.metrics.likelihood import BITS_PER_BYTE, LOGLIKELIHOOD, PERPLEXITY
from batchgen.metrics.match import CONTAINS, EXACT, NORMALIZED_MATCH, REGEX
from batchgen.metrics.math_equal import MATH_EQUAL
from batchgen.metrics.multiple_choice import MULTIPLE_CHOICE
from batchgen.metrics.number.number import NUMBER
from batchgen.metrics.overlap import ROUGE, TOKEN_F1
from batchgen.metrics.pii import PII
from batchgen.metrics.refusal import REFUSAL
from batchgen.metrics.repetition import REPETITION
from batchgen.metrics.samples import MAJORITY_AT_K, PASS_AT_K, PASS_HAT_K
from batchgen.metrics.squad import SQUAD_EM, SQUAD_F1
from batchgen.metrics.user_function import PYTHON

_ALL: Final[tuple[MetricType[Any], ...]] = (
    EXACT,
    NORMALIZED_MATCH,
    CONTAINS,
    REGEX,
    CHOICE,
    NUMBER,
    MATH_EQUAL,
    TOKEN_F1,
    SQUAD_EM,
    SQUAD_F1,
    ROUGE,
    CHRF,
    BLEU,
    EDIT_DISTANCE,
    CER,
    JSON,
    JSON_SCHEMA,
    IFEVAL,
    LENGTH,
    LANGUAGE,
    REPETITION,
    REFUSAL,
    PII,
    PASS_AT_K,
    PASS_HAT_K,
    MAJORITY_AT_K,
    SAMPLE_DIVERSITY,
    DISTINCT,
    DUPLICATES,
    LOGLIKELIHOOD,
    PERPLEXITY,
    BITS_PER_BYTE,
    MULTIPLE_CHOICE,
    CALIBRATION,
    HUMAN,
    PYTHON,
)

METRIC_TYPES: Mapping[str, MetricType[Any]] = {one.word: one for one in _ALL}
"""All types, by the value of `type` in a job."""


def make_metrics(options: MetricOptions) -> tuple[Metric, ...]:
    """The metrics of one entry of `evaluate.metrics`.

    Raises:
        DataError: if a file cannot be read or a package is not installed.
    """
    return METRIC_TYPES[options.type].metrics(options)
