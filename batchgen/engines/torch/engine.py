"""The engine for local models: passes each request to the tier that can answer it.

beams                                             ->  beam search, through generate
fields that only `generate` has, a rotary switch  ->  generate
everything else                                   ->  the selected tier
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from batchgen.engines.pulled import Pulled
from batchgen.engines.torch.batched_tier import BatchedTier
from batchgen.engines.torch.capacity import (
    PADDED,
    continuous_capacity,
    padded_budget,
    step_splitter,
    step_workers,
)
from batchgen.engines.torch.completion_builder import failed_completion
from batchgen.engines.torch.continuous.continuous_tier import (
    BatchShape,
    ContinuousTier,
    StepBackend,
)
from batchgen.engines.torch.continuous.forward.kernel_check import kernel_facts
from batchgen.engines.torch.continuous.kv_store import (
    KVStore,
    KVStoreSizes,
    ZerosFactory,
    private_zeros,
    shared_zeros,
)
from batchgen.engines.torch.continuous.token_picker import TokenSampler
from batchgen.engines.torch.continuous.workers import ForkedWorkers, InProcess, StepWorkers
from batchgen.engines.torch.generate.beam_search import BeamRunner
from batchgen.engines.torch.likelihoods.by_forward import ForwardLikelihoods
from batchgen.engines.torch.likelihoods.by_steps import StepLikelihoods
from batchgen.engines.torch.memory import (
    FreeMemory,
    cache_numbers,
    free_memory,
    loaded_memory,
    release_memory,
    weight_bytes,
)
from batchgen.engines.torch.model import LoadedModel, load_model
from batchgen.engines.torch.select.continuous_probe import ProbedForward
from batchgen.engines.torch.select.parity_probe import TierChoice, probe_generate
from batchgen.engines.torch.select.tier_cache import TierRecord
from batchgen.engines.torch.select.tier_selection import FastTier, select_tier
from batchgen.engines.torch.static.static_runner import StaticRunner
from batchgen.engines.torch.structured.label_answers import LabelAnswers, LabelSplit
from batchgen.engines.torch.structured.row_masks import RowMasks
from batchgen.engines.torch.tier import BatchRunner, Likelihoods, Tier, TierOptions
from batchgen.engines.torch.utilization.meter import UtilizationMeter
from batchgen.errors import ModelError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.padded_batch_budget import batch_limits
from batchgen.records import (
    AnswerDecoder,
    Completion,
    Continuation,
    Failure,
    InFlight,
    Likelihood,
    Request,
)
from batchgen.section import Auto
from batchgen.structured.row_matchers import RowMatchers

Result = TypeVar("Result", Completion, Likelihood)


class TorchEngine:
    """Generates with a model in this process."""

    name = "transformers"
    fastest_tier: FastTier = "continuous"
    """Where the search for a tier begins; `bench` starts it lower to compare."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        batching: Batching,
        workers: int | Auto = "auto",
        decode: AnswerDecoder,
        should_stop: Callable[[], bool],
        free: FreeMemory = free_memory,
    ) -> None:
        """Select a tier for a loaded model, and its memory budget.

        Raises:
            ModelError: the model cannot generate.
            ResourceError: not one row fits.
        """
        self._loaded = loaded
        # Before the weights of its forward may be freed.
        numbers = cache_numbers(loaded.model, loaded.model.config)
        selected = select_tier(loaded, self.fastest_tier, free(loaded.device))
        result = selected.probe_result
        continuous = isinstance(result, ProbedForward)
        chosen = step_workers(workers, loaded.device) if continuous else PADDED
        self._memory = loaded_memory(loaded.model, numbers)
        padding = weight_bytes(loaded.model) // max(1, self._memory.kv_bytes_per_token)
        self._masks = RowMasks(RowMatchers(decode))
        self._options = TierOptions(decode, should_stop, padding, masks=self._masks)
        self._free_bytes = free(loaded.device)
        fit = padded_budget(self._memory, loaded.device, self._free_bytes, batching)
        self._limits = batch_limits(batching, fit)
        self._fallback_tiers: dict[int, Tier] = {}
        self._forward_likelihoods = ForwardLikelihoods(loaded, should_stop, batching.part_rows)
        self._likelihoods: Likelihoods = self._forward_likelihoods
        self._label_answers = LabelAnswers(self.likelihoods)
        self._backend: StepBackend | None = None
        self._main: Tier = (
            self._continuous(result, batching, chosen.count, selected.record)
            if isinstance(result, ProbedForward)
            else self._batched(result)
        )
        self._tier_facts = {
            **selected.facts(),
            "workers": chosen.count,
            "workers_reason": chosen.reason,
            "kernels": kernel_facts(next(loaded.model.parameters())) if continuous else {},
        }
        # Created after the probes, which it must not count.
        self._meter = UtilizationMeter(loaded, batching.part_rows)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        rejected: deque[Completion] = deque()

        def is_known(request: Request) -> bool:
            failure = self._unknown_token(request.token_ids) or self._no_masks(request)
            if failure is not None:
                rejected.append(failed_completion(request, failure))
            return failure is None

        with self._meter.running():
            # `filter` and `map` may continue after their end, see `Engine.generate`; generators do not.
            split = LabelSplit(map(self._meter.add_request, filter(is_known, requests)))
            while not split.ended and not self._options.should_stop():
                for completion in self._generate(split):
                    self._meter.add_completion(completion)
                    yield completion
                    yield from _drain(rejected)
        yield from _drain(rejected)

    def _generate(self, split: LabelSplit) -> Iterator[Completion]:
        while (first := split.next_other(lambda _: True)) is not None:
            split.put_back(first)
            tier = self._tier(first)
            yield from tier.generate(Pulled(partial(split.next_other, partial(self._is_of, tier))))
            if self._options.should_stop():
                return
        yield from self._label_answers.generate(split.labelled())

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
        rejected: deque[Likelihood] = deque()

        def known() -> Iterator[Continuation]:
            for one in continuations:
                if failure := self._unknown_token([*one.context, *one.token_ids]):
                    rejected.append(Likelihood(one.index, (), failure=failure))
                else:
                    yield one

        switch = self._loaded.switches_at
        for switches, run in groupby(known(), lambda r: switch(len(r.context) + len(r.token_ids))):
            tier = self._forward_likelihoods if switches else self._likelihoods
            for likelihood in tier.likelihoods(run):
                yield likelihood
                yield from _drain(rejected)
            if self._options.should_stop():
                return
        yield from _drain(rejected)

    def in_flight(self) -> InFlight:
        each = [tier.in_flight() for tier in (self._main, *list(self._fallback_tiers.values()))]
        rows = sum((one.rows for one in each), self._label_answers.in_flight)
        answers = {key: tokens for one in each for key, tokens in one.answers.items()}
        return InFlight(rows, sum(one.new_tokens for one in each), answers)

    def facts(self) -> Mapping[str, object]:
        return {
            **self._tier_facts,
            **self._loaded.facts(),
            "kv_bytes_per_token": self._memory.kv_bytes_per_token,
            "state_bytes_per_row": self._memory.state_bytes_per_row,
            "free_bytes": self._free_bytes,
            **self._main.facts(),
            "generate_fallbacks": [dict(tier.facts()) for tier in self._fallback_tiers.values()],
            **self._meter.facts(self._backend.workers.tokens_elsewhere if self._backend else 0),
        }

    def close(self) -> None:
        """Free the model's memory. The engine cannot be used afterwards."""
        if self._backend is not None:
            self._backend.close()
        model: Any = self._loaded.model
        model.to("meta")
        release_memory(self._loaded.device)

    def _continuous(
        self, probed: ProbedForward, batching: Batching, workers: int, record: TierRecord
    ) -> Tier:
        device, free = self._loaded.device, self._free_bytes
        plan = continuous_capacity(self._memory, device, free, batching=batching, workers=workers)
        sizes = KVStoreSizes(plan.pages, plan.page_size, plan.arena)
        computing: StepWorkers = InProcess(probed.forward)
        zeros: ZerosFactory = private_zeros
        if workers > 1:
            kernels = kernel_facts(next(self._loaded.model.parameters()))
            splitter = step_splitter(
                workers,
                self._loaded.dtype,
                learns=record.split_invariant,
                kernel=kernels["attention"] == "numba",
            )
            computing = ForkedWorkers(probed.forward, splitter, plan.rows, probed.logits)
            zeros = shared_zeros
        store = KVStore.like(probed.store, sizes, zeros)
        sampler = TokenSampler(device, self._masks)
        self._backend = backend = StepBackend(computing, store, sampler, device)
        shape = BatchShape(plan.rows, plan.step_tokens, batching.part_rows, cuts=record.cuts)
        self._likelihoods = StepLikelihoods(backend, shape, self._options.should_stop)
        return ContinuousTier(backend, shape, self._options)

    def _batched(self, choice: TierChoice) -> Tier:
        runner = choice.make(self._loaded, self._options)
        joins = isinstance(runner, StaticRunner) and runner.joins
        # Joined caches need hardly any padding: a batch may have prompts of any length.
        limit = replace(self._limits, sort="none") if joins else self._limits
        return BatchedTier(runner, limit, self._loaded.device, self._options)

    def _unknown_token(self, token_ids: Sequence[int]) -> Failure | None:
        size, highest = self._loaded.vocab_size, max(token_ids)
        if highest < size:
            return None
        return Failure(
            "unknown_token",
            f"the row contains token {highest}, but the model has {size} tokens: the tokenizer has more",
        )

    def _no_masks(self, request: Request) -> Failure | None:
        """Why the grammar of a request cannot be enforced. Raises ModelError if that of no request can."""
        if request.decoding.grammar is None or request.label_tokens:
            return None
        if self._main.name == "generate":
            reason = self._tier_facts.get("tier_fallback", "faster tiers do not give its answers")
            raise ModelError(
                f"decoding.response_format: this model runs through its own generate ({reason}), "
                "in which no form can be enforced",
                hint="Use another model, or remove decoding.response_format.",
            )
        return _SWITCHES if self._loaded.may_switch(request) else None

    def _is_of(self, tier: Tier, request: Request) -> bool:
        return self._tier(request) is tier

    def _tier(self, request: Request) -> Tier:
        beams, kwargs = request.decoding.num_beams, request.decoding.generation_kwargs
        if beams == 1 and not (kwargs or self._loaded.may_switch(request)):
            return self._main
        if beams not in self._fallback_tiers:
            self._fallback_tiers[beams] = self._generate_fallback(beams)
        return self._fallback_tiers[beams]

    def _generate_fallback(self, beams: int) -> Tier:
        limit = replace(
            self._limits,
            rows=max(1, self._limits.rows // beams),
            tokens=max(1, self._limits.tokens // beams),
        )
        runner: BatchRunner = BeamRunner(self._loaded, self._options)
        if beams == 1:
            runner = probe_generate(self._loaded).make(self._loaded, self._options)
        return BatchedTier(runner, limit, self._loaded.device, self._options)


_SWITCHES = Failure(
    "grammar_unsupported",
    "the row may reach the length where the model changes its positions, where no form can be enforced; shorten it",
)


def _drain(waiting: "deque[Result]") -> Iterator[Result]:
    while waiting:
        yield waiting.popleft()


def open_torch_engine(
    folder: Path,
    spec: ModelSpec,
    *,
    batching: Batching,
    workers: int | Auto = "auto",
    decode: AnswerDecoder,
    should_stop: Callable[[], bool],
) -> TorchEngine:
    """Load a model on one device and select its tier.

    Raises:
        ModelError: the model cannot be loaded, or cannot generate.
        ResourceError: no such device, or not enough memory.
    """
    loaded = load_model(folder, spec)
    return TorchEngine(
        loaded, batching=batching, workers=workers, decode=decode, should_stop=should_stop
    )
