"""Which tier answers right: each is compared, at load, with `generate` on one row at a time.

Four short prompts are run along the same tokens, and the logits of each step compared: the largest difference, in
units of the spread of the row's logits. Rounding makes about 1e-5 of it in float32; a wrong mask or position makes
a tenth or more. The first tier that is close enough is taken:

    cohort  >  generate, padded  >  generate, same length  >  generate, single

The prompts are much shorter than a real model's sliding window, so this is no proof; tests compare families.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from batchgen.engines.torch.generate.generate_runner import GenerateRunner, Grouping
from batchgen.engines.torch.memory import out_of_memory
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.static.static_runner import StaticRunner
from batchgen.engines.torch.tier import BatchRunner, SamplerFactory, TierOptions
from batchgen.engines.torch.token_chooser import SampledBatch, Warp
from batchgen.errors import ModelError, ResourceError
from batchgen.records import Request, ResolvedDecoding

LENGTHS = (9, 7, 3, 3)
"""Of the prompts: padding inside a prefill, a join of two prefills, and two prompts of one length."""
STEPS = 3
_JOINED = 2
"""What the cohort pads here at most: the first two prompts share a prefill, the last two another."""
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.2}
_GROUPINGS: tuple[Grouping, ...] = ("padded", "same length")
_SINGLE = "generate, single"

MakeRunner = Callable[[LoadedModel, TierOptions], BatchRunner]


@dataclass(frozen=True, slots=True)
class TierChoice:
    """The tier that was found right.

    Attributes:
        make: builds its runner for real work.
        name: `cohort`, or `generate` and how rows are put together.
        reason: how close it is, and why no faster one was taken.
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
    """Find the fastest tier that answers as each row alone does.

    Raises:
        ModelError: not even one row alone can be generated.
        ResourceError: a few short prompts do not fit in memory.
    """
    return _first_right(loaded, _candidates(loaded))


def tier_choice_named(loaded: LoadedModel, name: str, reason: str) -> TierChoice | None:
    """The verdict that an earlier probe came to; None if there is no such tier for this model."""
    makes = {candidate.name: candidate.make for candidate in _candidates(loaded)}
    makes[_SINGLE] = partial(GenerateRunner, grouping="single")
    return TierChoice(makes[name], name, reason) if name in makes else None


def probe_generate(loaded: LoadedModel) -> TierChoice:
    """The same among the tiers that go through `generate`."""
    return _first_right(loaded, _through_generate())


def record_reference(loaded: LoadedModel) -> tuple[list[Request], "LogitRecord"]:
    """The probe's requests, and what `generate` makes of each one alone.

    Raises:
        ModelError: the model cannot generate.
    """
    requests = _requests(loaded)
    alone = LogitRecord()
    try:
        _run(partial(GenerateRunner, grouping="single"), loaded, requests, alone.chooser)
    except ResourceError:
        raise
    except Exception as error:
        raise _unusable(loaded, error) from error
    return requests, alone


def logit_tolerance(loaded: LoadedModel) -> float:
    """How far logits may be apart, in units of their spread."""
    return _TOLERANCE.get(loaded.dtype, 0.2)


def parity_text(found: float) -> str:
    """The words for a tier that answers right."""
    return f"logits within {found:.1e} of one row alone"


def disparity_text(name: str, found: float | str) -> str:
    """The words for a tier that does not: how far apart it is, or what stopped it."""
    return f"not {name}: {_words(found)}"


def _first_right(loaded: LoadedModel, candidates: Sequence[_Candidate]) -> TierChoice:
    requests, alone = record_reference(loaded)
    refused: list[str] = []
    for candidate in candidates:
        found = _difference(candidate, loaded, requests, alone)
        if isinstance(found, float) and found <= logit_tolerance(loaded):
            return TierChoice(
                candidate.make, candidate.name, "; ".join([*refused, parity_text(found)])
            )
        refused.append(disparity_text(candidate.name, found))
    return TierChoice(partial(GenerateRunner, grouping="single"), _SINGLE, "; ".join(refused))


def _candidates(loaded: LoadedModel) -> list[_Candidate]:
    if loaded.encoder_decoder:
        return _through_generate()
    cohort = _Candidate("cohort", StaticRunner, partial(StaticRunner, forward_cost=_JOINED))
    return [cohort, *_through_generate()]


def _through_generate() -> list[_Candidate]:
    return [
        _Candidate(f"generate, {grouping}", make, make)
        for grouping in _GROUPINGS
        for make in [partial(GenerateRunner, grouping=grouping)]
    ]


def _requests(loaded: LoadedModel) -> list[Request]:
    """Prompts of ordinary tokens: drawn once and for all, without the config's special ones."""
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
    make: MakeRunner, loaded: LoadedModel, requests: Sequence[Request], chooser: SamplerFactory
) -> None:
    setting = TierOptions(lambda _: "", lambda: False, sum(LENGTHS), make_chooser=chooser)
    try:
        for _ in make(loaded, setting).run(requests):
            pass
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise ResourceError(
                f"the model is loaded, but {len(requests)} short prompts do not fit beside it on {loaded.device}",
                hint="free memory, or choose a smaller model or dtype",
            ) from error
        raise


def _difference(
    candidate: _Candidate, loaded: LoadedModel, requests: Sequence[Request], alone: "LogitRecord"
) -> float | str:
    """The largest difference of logits, in units of their spread; or why the tier cannot run."""
    again = LogitRecord(alone.tokens)
    try:
        _run(candidate.make_for_probe, loaded, requests, again.chooser)
    except ResourceError:
        raise
    except Exception as error:  # noqa: BLE001  a model's own code may fail in any way: this tier is not for it
        return type(error).__name__
    return again.distance(alone)


def _distance(one: Tensor, other: Tensor) -> float:
    spread = other[other.isfinite()].std()
    # -inf stands in both where a model masks part of its vocabulary.
    apart = torch.where(one == other, 0.0, (one - other).abs())
    return float(torch.nan_to_num(apart.max() / spread, nan=torch.inf))


def _words(found: float | str) -> str:
    if isinstance(found, str):
        return f"the model cannot run there ({found})"
    return f"its logits differ by {found:.1e} of their spread"


def _unusable(loaded: LoadedModel, error: Exception) -> ModelError:
    lines = str(error).splitlines() or ["no message"]
    return ModelError(
        f"{type(loaded.model).__name__} cannot generate: {type(error).__name__}: {lines[0][:300]}",
        hint="the model is perhaps not made for generating text, or needs another version of transformers",
    )


class LogitRecord:
    """Logits of each row and step; chooses the tokens of an earlier record, or else the most likely ones."""

    def __init__(self, tokens: Mapping[tuple[int, int], int] | None = None) -> None:
        self.logits: dict[tuple[int, int], Tensor] = {}
        self.tokens: dict[tuple[int, int], int] = {}
        self.forced = tokens or {}

    def distance(self, other: "LogitRecord") -> float:
        """The largest difference of logits from those of `other`, in units of their spread."""
        return max(_distance(self.logits[place], other.logits[place]) for place in other.logits)

    def note(self, place: tuple[int, int], logits: Tensor) -> int:
        """Keep the logits [vocab] of a (row, step), and say which token comes next there."""
        self.logits[place] = logits.double().cpu()
        self.tokens[place] = self.forced.get(place, int(self.logits[place].argmax()))
        return self.tokens[place]

    def chooser(self, requests: Sequence[Request], _device: torch.device) -> "_Recorder":
        """A chooser for a batch that writes into this record."""
        return _Recorder(self, [request.index for request in requests])


class _Recorder:
    def __init__(self, record: LogitRecord, rows: Sequence[int]) -> None:
        self._record = record
        self._rows = list(rows)
        self._step = 0

    def choose(self, logits: Tensor, warp: Warp | None = None) -> SampledBatch:  # noqa: ARG002  the protocol's
        chosen = [
            self._record.note((row, self._step), one)
            for row, one in zip(self._rows, logits, strict=True)
        ]
        self._step += 1
        count = len(chosen)
        tokens = torch.tensor(chosen, device=logits.device)
        return SampledBatch(tokens, chosen, [True] * count, [0.0] * count)

    def keep(self, rows: Sequence[int]) -> None:
        self._rows = [self._rows[row] for row in rows]
