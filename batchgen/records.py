"""The types a row passes through on its way from the input file to the output file.

    Row ──render──> Prompt ──tokenize──> Request ──generate──> Completion ──keep──> Response
                                         Continuation ──how likely──> Likelihood

Each step may end in a `Failure` instead: the row then keeps its place in the output and says why.
Everything is frozen and plain. Knows nothing of files, tensors, models or jobs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

FinishReason = Literal["stop", "length", "stop_string", "error", "skipped"]
"""Why an answer ended: an end token, max_new_tokens, a stop string; or why there is none."""

FailureCode = Literal[
    "prompt_null",
    "prompt_empty",
    "prompt_too_long",
    "invalid_unicode",
    "invalid_messages",
    "invalid_override",
    "template_error",
    "control_tokens",
    "continuation_empty",
    "continuation_too_long",
    "nonfinite_logits",
    "out_of_memory",
    "crash_suspect",
]

Role = Literal["system", "user", "assistant"]

Status = Literal[
    "ok",
    "no_answer",
    "truncated",
    "empty",
    "no_reference",
    "unparsed",
    "error",
    "skipped",
]
"""How the scoring of an answer by a metric ended.

    ok            scored
    no_answer     the response holds nothing that the metric looks for (no number, no letter)
    truncated     the same, and the response was cut at max_new_tokens
    empty         the response is empty or white space
    no_reference  the row has no reference to compare with: never scored
    unparsed      what the metric needs beside the response is there, but unreadable: a reference that is no number
    error         the metric itself failed; `rule` says how, never with text of the row
    skipped       there is no response: the row failed, or the metric does not apply to it

Only `no_answer`, `truncated` and `empty` may carry a value or none, by the metric's own rule; `ok` always carries
one, the others never.
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row has no answer. `message` never repeats text of the row: it reaches logs and terminals."""

    code: FailureCode
    message: str
    finish_reason: Literal["error", "skipped"] = "error"


@dataclass(frozen=True, slots=True)
class Row:
    """One selected input row.

    Attributes:
        index: position among the selected rows (after filter, sample and limit), from 0.
        id: the user's key for the row, as text.
        fields: the columns that prompts and overrides read, by name; values as Python objects.
    """

    index: int
    id: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a row asks, before the model's chat template. `prefill` is text the answer starts with, often empty."""

    index: int
    id: str
    messages: tuple[Message, ...]
    prefill: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedDecoding:
    """Decoding settings of one request, with nothing left open. Neutral values switch a setting off.

    Attributes:
        temperature: 0 is greedy: the most likely token.
        top_k: 0 keeps every token.
        num_beams: 1 is no beam search.
        end_token_ids: any of these ends the answer and is not part of its text.
        generation_kwargs: further `GenerationConfig` fields, sorted by name; only plain `generate` knows them.
    """

    max_new_tokens: int = 256
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    stop_strings: tuple[str, ...] = ()
    logprobs: bool = False
    end_token_ids: frozenset[int] = frozenset()
    generation_kwargs: tuple[tuple[str, object], ...] = ()

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, so that seeds do not matter."""
        return self.temperature == 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to be generated. (index, sample) is its key; an engine may finish requests in any order.

    Attributes:
        index: the row's index.
        sample: which of the row's answers, from 0.
        token_ids: the whole prompt, at least one token, chat template and prefill included.
        seed: 63-bit; every random number of this answer is drawn from (seed, step) alone.
        prompt: messages and prefill that `token_ids` encodes, for engines that apply a chat template themselves;
            None in requests without a row, such as those of a probe.
    """

    index: int
    sample: int
    token_ids: Sequence[int]
    decoding: ResolvedDecoding
    seed: int
    prompt: Prompt | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine made of a request.

    Attributes:
        token_ids: the new tokens, with the end token if there was one; empty if the row failed.
        text: the new text, cut before a stop string, without special tokens.
        logprob_mean: mean log-probability (natural) of `token_ids` under the model's unmodified distribution;
            None unless `decoding.logprobs`.
        failure: set exactly when `finish_reason` is "error".
        seed_honored: False where the answer was sampled without the request's seed: generating it again gives another one.
    """

    index: int
    sample: int
    token_ids: Sequence[int]
    text: str
    finish_reason: FinishReason
    logprob_mean: float | None = None
    failure: Failure | None = None
    seed_honored: bool = True


@dataclass(frozen=True, slots=True)
class Continuation:
    """A continuation that is given, not generated: how likely does the model find it after its context?

    Attributes:
        index: the asker's key; comes back with the likelihood. Need not be unique.
        context: all tokens before the continuation, at least one. Continuations of one context share its computation
            where they arrive close together.
        token_ids: at least one.
    """

    index: int
    context: Sequence[int]
    token_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What an engine made of a continuation.

    Attributes:
        logprobs: of each token after all that stand before it, natural logarithms under the model's unmodified
            distribution: log-softmax in float64 of the model's logits. -inf where the model rules a token out.
            Empty exactly where there is a failure.
        greedy: whether each token is the most likely one in its place; of equally likely ones, the lowest id.
    """

    index: int
    logprobs: tuple[float, ...]
    greedy: bool = False
    failure: Failure | None = None

    @property
    def total(self) -> float:
        """The log-probability of the whole continuation."""
        return math.fsum(self.logprobs)


@dataclass(frozen=True, slots=True)
class Response:
    """One row of the output, less the input's own columns. See `output/schema.py` for the columns it becomes.

    `redacted` is how much personal data of each kind was taken out of the answer: it is summed up, not written.
    `seed` is None where the engine sampled without it.
    """

    index: int
    id: str
    sample: int
    messages: tuple[Message, ...]
    response: str | None
    reasoning: str | None
    finish_reason: FinishReason
    failure: Failure | None
    input_tokens: int | None
    output_tokens: int | None
    seed: int | None
    logprob_mean: float | None
    prompt_hash: str
    row_fingerprint: str
    created_at: datetime
    redacted: Mapping[str, int] = field(default_factory=dict)
    run_id: str | None = None
    """The run that generated it; None is the run that writes it."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a metric says about one response, or about all samples of one prompt.

    Attributes:
        metric: its name in the job.
        value: in the metric's unit; None where the row is not scored, which lowers coverage and never counts as 0.
        answer: what was extracted from the response and compared, in canonical form, such as "18".
        rule: which rule found it, such as "boxed".
    """

    metric: str
    value: float | None
    status: Status
    answer: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One row of metrics.parquet: a metric over a slice.

    Attributes:
        slice: "all", or such as "lang=zh".
        n: answers, or prompts, that have a score.
        coverage: their share of all that should have one; None where there were none.
        method: how the interval came about, or why there is none.
        fingerprint: of all that decides the value beside the answers: only values with the same one compare.
        seed: the bootstrap's; None where there was none.
    """

    metric: str
    slice: str
    value: float | None
    n: int
    coverage: float | None
    stderr: float | None
    ci_low: float | None
    ci_high: float | None
    ci_level: float
    method: str
    unit: str
    higher_is_better: bool | None
    primary: bool
    fingerprint: str
    seed: int | None
