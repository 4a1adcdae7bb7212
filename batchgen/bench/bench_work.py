"""What a contender of `bench` is given, and what it reports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from batchgen.job.spec import Batching, ModelSpec
from batchgen.models.find_model import ResolvedModel
from batchgen.planning.required_flops import ModelFlops
from batchgen.records import Request
from batchgen.section import Auto

Contender = Literal["continuous", "static", "generate", "vllm", "openvino", "openai"]
CONTENDERS: tuple[Contender, ...] = get_args(Contender)


@dataclass(frozen=True, slots=True)
class OtherForms:
    """The same model elsewhere.

    Attributes:
        converted: a folder of the model for OpenVINO.
        servers: addresses of servers that offer the model.
    """

    converted: Path | None = None
    servers: tuple[str, ...] = ()


NOWHERE_ELSE = OtherForms()


@dataclass(frozen=True, slots=True)
class BenchWork:
    """Requests and model of a benchmark; `device` and `dtype` are of our engine, such as "cpu" and "float32"."""

    model: ResolvedModel
    spec: ModelSpec
    device: str
    dtype: str
    batching: Batching
    workers: int | Auto
    requests: tuple[Request, ...]
    others: OtherForms = NOWHERE_ELSE


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of a contender; None where it was not measured.

    Attributes:
        seconds: from the loaded model to the last token.
        new_tokens: of each request, in the order of the requests; 0 for one that failed.
        computed_tokens: including padding and recomputed tokens.
        peak: floating-point operations a second, measured by the same process.
    """

    load_seconds: float
    seconds: float
    new_tokens: tuple[int, ...]
    computed_tokens: int | None = None
    costs: ModelFlops | None = None
    peak: float | None = None


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """A contender that did not run."""

    reason: str
