"""The engine contract: what an engine does (`Engine`), what it declares (`EngineInfo`), what it estimates (`Estimate`).

    requests ──pulled as capacity allows──> Engine.generate ──> completions, in the order in which they finish

Rows of the next part start while the long rows of this one finish. `engine_registry.py` lists the engines; `echo.py` is the
smallest one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from batchgen.decoding_settings import AnswerGrammar
from batchgen.engines.early_compilation import CompileEarly
from batchgen.engines.served_tokenizer_sample import CompareTokenizer
from batchgen.errors import Problem
from batchgen.job.decoding import MOST_TOP_LOGPROBS
from batchgen.job.spec import Batching, Decoding, Job, ModelSpec
from batchgen.planning.batches import BatchLimits
from batchgen.planning.dtype_choice import ChosenDtype
from batchgen.planning.kv_cache_plan import Workers
from batchgen.records import AnswerDecoder, Completion, Continuation, InFlight, Likelihood, Request
from batchgen.section import Auto
from batchgen.storage.openvino_header import WeightFormat


class Engine(Protocol):
    """Answers requests. Every request ends in exactly one completion; a request that fails affects no other."""

    @property
    def name(self) -> str:
        """The value of `model.engine`."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Answer all requests.

        The iterable is pulled only as capacity allows. After its end it may have more requests: those that follow from
        answers, such as the next turn of a conversation. An engine that still has rows pulls again, so that they are
        computed together; otherwise `generate` is called again for them. Closing the iterator stops the engine at a step
        boundary; rows in flight are then not answered. May be called again after that: after a crash, suspect rows are
        generated in separate calls.
        """

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
        """Compute how likely each continuation is after its context. Every one ends in exactly one likelihood, in any order.

        A result does not depend on order or on shared computation, except for the rounding of the model's dtype: it equals
        that of the model's own forward over the row alone, to within 1e-5 a token where rounding is smaller. If possible,
        the tokens of a context are computed once for all its continuations that arrive close together. The caller ensures
        that a row fits the context window. Pulling and closing are as with `generate`; only one of the two runs at a time.
        Called only if `EngineInfo.likelihoods`, or for the labels of judges if `EngineInfo.label_likelihoods`.
        """

    def in_flight(self) -> InFlight:
        """The rows that are computed now, and their new tokens so far; zeros if the engine cannot count them.

        Called about once a second, from another thread, while `generate` runs: it reads and changes nothing.
        """

    def facts(self) -> Mapping[str, object]:
        """Plain values for the manifest that decided the text or the speed, in addition to `EngineInfo.facts`."""

    def close(self) -> None:
        """Free memory, processes and connections."""


Needs = Literal["weights", "tokenizer", "optional tokenizer", "nothing"]
"""What an engine needs of `model.path`: its weights, its tokenizer only (optional: if the job names one), or no model at all."""

OPTIONS = frozenset(
    {
        *(
            f"decoding.{name}"
            for name in Decoding.model_fields
            if name not in ("preset", "max_new_tokens", "num_return_sequences", "columns")
        ),
        "model.adapter",
        "model.dtype",
        "model.device",
        "model.attn_implementation",
        "model.base_url",
        "model.served_name",
        "model.tensor_parallel",
        "model.api_key_env",
        "model.engine_args",
        "model.price",
        "batching.max_rows",
        "batching.max_tokens",
        "batching.sort",
        "batching.memory_fraction",
        "run.workers",
    }
)
"""The job keys that an engine may support or not. Every other key concerns batchgen itself, or all engines support it."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine declares. Plain data: importing it imports no library that only the engine needs.

    Attributes:
        name: the value of `model.engine`.
        summary: a phrase for the reference of job files.
        options: those of `OPTIONS` that it supports. A job key that only some engines support is added to `OPTIONS`.
        seeds: whether the seed of a request decides a sampled answer.
        likelihoods: whether it can score given texts: metrics such as perplexity, and judges.
        weight_format: of the weights that it loads.
        label_likelihoods: whether it can score short texts that are likely, such as the labels of a judge.
        batch_invariant: whether an answer is independent of other rows; None if the facts of the open engine have it.
        token_exact: whether the model gets exactly the request's token ids, and the completion has exactly the model's.
        compressed_weights: methods of compressed checkpoints that it loads, as `quant_method` in config.json names them.
        top_logprobs: the largest N of `decoding.logprobs: N`; None if it computes only the mean.
    """

    name: str
    summary: str
    needs: Needs
    options: frozenset[str]
    seeds: bool
    likelihoods: bool
    batch_invariant: bool | None
    batch_invariant_reason: str
    token_exact: bool
    compressed_weights: frozenset[str] = frozenset()
    top_logprobs: int | None = MOST_TOP_LOGPROBS
    label_likelihoods: bool = False
    weight_format: WeightFormat = "safetensors"

    def facts(self) -> dict[str, object]:
        """The part of the manifest's `engine` that is known without opening it."""
        facts: dict[str, object] = {"engine": self.name, "token_exact": self.token_exact}
        if self.batch_invariant is not None:
            facts["batch_invariant"] = self.batch_invariant
            facts["batch_invariant_reason"] = self.batch_invariant_reason
        return facts


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes; of the `parts` (name and bytes), the last grows with the tokens in memory."""

    parts: tuple[tuple[str, int], ...]
    bytes_per_token: int
    free_bytes: int


Origin = Callable[[str], str]
"""The origin of the value of a job key, such as "default" or "--set"."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an engine would need, without opening it. Engines extend it.

    Attributes:
        device: such as "cpu"; "none" if nothing is computed on this machine.
        limits: of a padded batch.
    """

    device: str
    limits: BatchLimits
    workers: Workers

    @property
    def rows_at_once(self) -> int:
        """How many rows may be computed together."""
        return self.limits.rows

    def model_lines(self) -> list[str]:
        """The description of a model that is not on this machine; empty for one that is, or for none."""
        return []

    def model_facts(self, origin: Origin) -> list[str]:
        """How the model is computed, in a few words each."""
        del origin
        return []

    def warnings(self) -> list[str]:
        """What the user may not expect of the way in which the model is computed."""
        return []

    def batch_lines(self, origin: Origin) -> list[str]:
        """How rows are computed together; empty for padded batches, which `limits` describes."""
        del origin
        return []

    def memory(self, *, batch_tokens: int, job_tokens: int) -> MemoryEstimate | None:
        """The most memory needed, from the tokens of the largest padded batch and of the whole job; None without a model."""
        del batch_tokens, job_tokens
        return None


class OpenEngine(Protocol):
    """Opens an engine; this is where it loads its model."""

    def __call__(
        self,
        model: ModelSpec,
        /,
        *,
        folder: Path | None,
        batching: Batching,
        workers: int | Auto,
        decode: AnswerDecoder,
        should_stop: Callable[[], bool],
    ) -> Engine:
        """Open the engine.

        Args:
            model: the job's section, or a judge's; its dtype is what `ChooseDtype` chose, if the entry has one, and its
                adapter is a folder.
            folder: the model's folder; None only if the engine needs no model.
            batching: how many rows may be computed together.
            workers: `run.workers`.
            decode: token ids to text; pickled where there are several GPUs.
            should_stop: called between steps.
        """


class EstimateEngine(Protocol):
    """Estimates what an engine would need, without loading a weight; the arguments are those of `OpenEngine`."""

    def __call__(
        self, model: ModelSpec, /, *, folder: Path | None, batching: Batching, workers: int | Auto
    ) -> Estimate: ...


class ChooseDtype(Protocol):
    """Chooses the dtype in which a model is computed on this machine, without loading a weight."""

    def __call__(
        self, model: ModelSpec, /, *, checkpoint: str, recorded: str | None
    ) -> ChosenDtype:
        """Choose; the arguments are those of `planning.dtype_choice.choose_dtype`."""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What a job uses a model for.

    Attributes:
        settings: the decoding settings that are not neutral, or come from a column, and the job key of each. A form of
            answers is named by its kind, such as json_schema; `likelihoods` if given texts are scored, `labels` for a judge.
        grammar: the form of rows without one of their own.
        sampled: whether answers may be sampled.
        known: what `identify` returned when the run began; empty for a new run.
    """

    settings: Mapping[str, str]
    grammar: AnswerGrammar | None = None
    sampled: bool = False
    known: Mapping[str, object] = field(default_factory=dict)


class IdentifyModel(Protocol):
    """Finds out which model answers, where that is not a folder on this machine, and how to use it."""

    def __call__(
        self, model: ModelSpec, use: ModelUse, report: Callable[[str], None], /
    ) -> Mapping[str, object]:
        """Plain values that decide the answers, for the run's settings; `open` finds them in `engine_args` under `SERVED`.

        Args:
            model: the job's section, or a judge's.
            use: what must be supported.
            report: receives a message if this takes long.

        Raises:
            JobKeyError: a setting has no effect.
        """


SERVED = "served"
"""A key of `engine_args` that is never in a job: what `identify` returned."""
SERVED_CONTEXT = "served_context"
"""A key of what `identify` returned: the longest prompt and answer that the server computes, where prompts are token ids."""


class FindProblems(Protocol):
    """Checks the keys that only this engine reads, and those that it supports only in some jobs."""

    def __call__(self, job: Job, model: ModelSpec, key: str, /) -> Iterable[Problem]:
        """The problems of a section `model` at the dotted `key`."""


class CheckAdapter(Protocol):
    """Compares an adapter with its model, without loading a weight of the model."""

    def __call__(self, model: ModelSpec, /, *, folder: Path) -> None:
        """Check; `model.adapter` is a folder.

        Raises:
            AdapterError: it does not fit.
        """


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """An engine as the registry lists it; its functions import its libraries.

    Attributes:
        estimate: None estimates a plain default.
        check_adapter: None if the engine has no option `model.adapter`, or cannot check it before it is opened.
        choose_dtype: None if the engine has no use for `model.dtype`, or leaves `auto` to its library.
        identify: None if the files of `model.path` are the model.
        problems: None if declarations alone decide what the engine supports.
        compare_tokenizer: None if the tokenizer of `model.path` is the model's own.
        compile_early: None if it compiles nothing, or not before it is opened.
    """

    info: EngineInfo
    open: OpenEngine
    estimate: EstimateEngine | None = None
    choose_dtype: ChooseDtype | None = None
    identify: IdentifyModel | None = None
    problems: FindProblems | None = None
    check_adapter: CheckAdapter | None = None
    compare_tokenizer: CompareTokenizer | None = None
    compile_early: CompileEarly | None = None
