"""Parity probe: compares each tier, when the model is loaded, with `generate` on one row at a time.

Four short prompts are run with the same tokens, and the logits of each step are compared. The measure is the largest
difference, in units of the standard deviation of the row's logits: about 1e-5 from rounding in float32; 0.1 or more
from a wrong mask or position. A bfloat16 model on a CPU is compared with float32 arithmetic on its weights: `generate` in
bfloat16 is about 0.2 away from it itself. The first tier within the tolerance is selected:

    static  >  generate, padded  >  generate, same length  >  generate, single

The prompts are much shorter than the sliding window of a real model, so this is not a proof; tests compare families.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from batchgen.engines.torch.generate.generate_runner import GenerateRunner, Grouping
from batchgen.engines.torch.memory import out_of_memory
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.quiet import first_line
from batchgen.engines.torch.select.float32_arithmetic import float32_arithmetic
from batchgen.engines.torch.static.static_runner import StaticRunner
from batchgen.engines.torch.tier import BatchRunner, NoText, SamplerFactory, TierOptions
from batchgen.engines.torch.token_chooser import NONE_RECORDED, SampledBatch, Warp
from batchgen.errors import ModelError, ResourceError
from batchgen.records import Request, ResolvedDecoding

LENGTHS = (9, 7, 3, 3)
"""Prompt lengths: they cause padding inside a prefill, a join of two prefills, and two prompts of equal length."""
STEPS = 3
_JOINED = 2
"""Most padding of the static tier in the probe: the first two prompts share a prefill, the last two another."""
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.4}
_GROUPINGS: tuple[Grouping, ...] = ("padded", "same length")
_SINGLE = "generate, single"

MakeRunner = Callable[[LoadedModel, TierOptions], BatchRunner]


@dataclass(frozen=True, slots=True)
class TierChoice:
    """The tier that passed the probe.

    Attributes:
        make: builds its runner for real work.
        name: `static`, or `generate` and how rows are batched.
        reason: its difference from `generate`, and why faster tiers were rejected.
    """

    make: MakeRunner
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    make: MakeRunner
    make_for_probe: MakeRunner


def probe_tiers(loaded: LoadedModel) -> TierChoice:
    """Select the fastest tier of padded batches whose logits match those of each row alone.

    Raises:
        ModelError: `generate` fails for a single row.
        ResourceError: a few short prompts do not fit in memory.
    """
    return _first_match(loaded, _candidates(loaded))


def probe_generate(loaded: LoadedModel) -> TierChoice:
    """Select among the ways of batching for `generate`."""
    return _first_match(loaded, _generate_fallback())


def check_choice(loaded: LoadedModel, name: str) -> TierChoice | None:
    """The tier of this name, checked with one prompt; None if the model has none or its logits differ."""
    named = [candidate for candidate in _candidates(loaded) if candidate.name == name]
    choice = _first_match(loaded, named, prompts=1)
    return choice if choice.name == name else None


def record_reference(loaded: LoadedModel, prompts: int) -> tuple[list[Request], "LogitRecord"]:
    """Some requests, and the logits of `generate` for each one alone. Raises ModelError if the model cannot generate."""
    requests = _requests(loaded)[:prompts]
    if loaded.release is not None:
        loaded.release.restore()
    with suppress(RuntimeError, TypeError, ValueError), float32_arithmetic(loaded.model) as changed:
        # The code of a model may ask for the dtype of weights before they are widened.
        if changed:
            return requests, _alone(loaded, requests)
    try:
        return requests, _alone(loaded, requests)
    except ResourceError:
        raise
    except Exception as error:
        raise ModelError(
            f"{type(loaded.model).__name__} cannot generate: {first_line(error)}",
            hint="Check that the model generates text and which version of transformers it needs.",
        ) from error


def _alone(loaded: LoadedModel, requests: Sequence[Request]) -> "LogitRecord":
    alone = LogitRecord()
    _run(partial(GenerateRunner, grouping="single"), loaded, requests, alone.sampler_for)
    return alone


def logit_tolerance(loaded: LoadedModel) -> float:
    """Largest allowed difference of logits, in units of their standard deviation."""
    return _TOLERANCE.get(loaded.dtype, 0.4)


def parity_text(difference: float) -> str:
    """The reason for a tier that passed."""
    return f"logits within {difference:.1e} of one row alone"


def disparity_text(name: str, difference: float | str) -> str:
    """The reason against a tier: its difference, or the error that stopped it."""
    if isinstance(difference, str):
        return f"not {name}: the model cannot run there ({difference})"
    return f"not {name}: its logits differ by {difference:.1e} of their spread"


def _first_match(
    loaded: LoadedModel, candidates: Sequence[_Candidate], prompts: int = len(LENGTHS)
) -> TierChoice:
    requests, alone = record_reference(loaded, prompts)
    rejected: list[str] = []
    for candidate in candidates:
        difference = _difference(candidate, loaded, requests, alone)
        if isinstance(difference, float) and difference <= logit_tolerance(loaded):
            reason = "; ".join([*rejected, parity_text(difference)])
            return TierChoice(candidate.make, candidate.name, reason)
        rejected.append(disparity_text(candidate.name, difference))
    return TierChoice(partial(GenerateRunner, grouping="single"), _SINGLE, "; ".join(rejected))


def _candidates(loaded: LoadedModel) -> list[_Candidate]:
    if loaded.encoder_decoder:
        return _generate_fallback()
    static = _Candidate("static", StaticRunner, partial(StaticRunner, forward_cost=_JOINED))
    return [static, *_generate_fallback()]


def _generate_fallback() -> list[_Candidate]:
    makes = {f"generate, {one}": partial(GenerateRunner, grouping=one) for one in _GROUPINGS}
    return [_Candidate(name, make, make) for name, make in makes.items()]


def _requests(loaded: LoadedModel) -> list[Request]:
    """Prompts of ordinary tokens, the same in every run, without the special tokens of the config."""
    config = loaded.model.config.get_text_config(decoder=True)
    special = {v for k, v in config.to_dict().items() if k.endswith("_token_id")}
    source = torch.Generator().manual_seed(0)
    drawn = torch.randint(loaded.vocab_size, (8 * sum(LENGTHS),), generator=source).tolist()
    ordinary = iter([token for token in drawn if token not in special] or drawn)
    decoding = ResolvedDecoding(max_new_tokens=STEPS)
    return [
        Request(index, 0, [next(ordinary) for _ in range(length)], decoding, 0)
        for index, length in enumerate(LENGTHS)
    ]


def _run(
    make: MakeRunner, loaded: LoadedModel, requests: Sequence[Request], sampler: SamplerFactory
) -> None:
    options = TierOptions(NoText(), lambda: False, sum(LENGTHS), make_sampler=sampler)
    try:
        for _ in make(loaded, options).run(requests):
            pass
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise ResourceError(
                f"the model is loaded, but no memory is left for {len(requests)} short prompts on {loaded.device}",
                hint="Free memory, or choose a smaller model or dtype.",
            ) from error
        raise


def _difference(
    candidate: _Candidate, loaded: LoadedModel, requests: Sequence[Request], alone: "LogitRecord"
) -> float | str:
    """The largest difference of logits, in units of their standard deviation; or the error that stopped the tier."""
    again = LogitRecord(alone.tokens)
    try:
        _run(candidate.make_for_probe, loaded, requests, again.sampler_for)
    except ResourceError:
        raise
    except Exception as error:  # noqa: BLE001  the model's code may fail in any way: then this tier cannot run it
        return type(error).__name__
    return again.distance(alone)


def _distance(one: Tensor, other: Tensor) -> float:
    spread = other[other.isfinite()].std()
    # Both are -inf where a model masks part of its vocabulary.
    apart = torch.where(one == other, 0.0, (one - other).abs())
    return float(torch.nan_to_num(apart.max() / spread, nan=torch.inf))


class LogitRecord:
    """Logits of each (row, step); takes the tokens of an earlier record, or else the most likely ones."""

    def __init__(self, tokens: Mapping[tuple[int, int], int] | None = None) -> None:
        self.logits: dict[tuple[int, int], Tensor] = {}
        self.tokens: dict[tuple[int, int], int] = {}
        self.forced = tokens or {}

    def distance(self, other: "LogitRecord") -> float:
        """The largest difference of logits from those of `other`, in units of their standard deviation."""
        return max(_distance(self.logits[key], logits) for key, logits in other.logits.items())

    def note(self, key: tuple[int, int], logits: Tensor) -> int:
        """Record the logits [vocab] of a (row, step), and return its next token."""
        self.logits[key] = logits.double().cpu()
        self.tokens[key] = self.forced.get(key, int(self.logits[key].argmax()))
        return self.tokens[key]

    def sampler_for(self, requests: Sequence[Request], _device: torch.device) -> "_Recorder":
        return _Recorder(self, [request.index for request in requests])


class _Recorder:
    def __init__(self, record: LogitRecord, rows: Sequence[int]) -> None:
        self._record = record
        self._rows = list(rows)
        self._step = 0

    def sample(self, logits: Tensor, warp: Warp | None = None) -> SampledBatch:  # noqa: ARG002  the protocol's
        pairs = zip(self._rows, logits, strict=True)
        token_ids = [self._record.note((row, self._step), one) for row, one in pairs]
        self._step += 1
        tokens, count = torch.tensor(token_ids, device=logits.device), len(token_ids)
        return SampledBatch(tokens, token_ids, [True] * count, [0.0] * count, NONE_RECORDED * count)

    def select(self, rows: Sequence[int]) -> None:
        self._rows = [self._rows[row] for row in rows]
