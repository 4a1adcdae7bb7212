"""The types of a row, from the input file to the output file.

    Row ──render──> Prompt ──tokenize──> Request ──generate──> Completion ──respond──> Response
                                         Continuation ──score──> Likelihood

Each step may end in a `Failure` instead; the row then stays in the output, with the reason. `run/work.py` shows the
files in which these steps are.
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
    "ok", "no_answer", "truncated", "empty", "no_reference", "unparsed", "error", "skipped"
]
"""How the scoring of an answer by a metric ended.

    ok            scored
    no_answer     the response does not contain what the metric extracts (a number, a letter)
    truncated     the same, and the response was cut at max_new_tokens
    empty         the response is empty or white space
    no_reference  the row has no reference to compare with
    unparsed      the metric cannot read its other input, such as a reference that is not a number
    error         the metric failed; `rule` gives the reason, without text of the row
    skipped       there is no response: the row failed, or the metric does not apply to it

`ok` always has a value; `no_answer`, `truncated` and `empty` may have one, by the metric's own rule; the others never do.
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row has no answer. `message` never quotes text of the row: it is written to logs and terminals."""

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
    """The messages of a row, before the chat template. `prefill` is the text that the answer starts with, often empty."""

    index: int
    id: str
    messages: tuple[Message, ...]
    prefill: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedDecoding:
    """Decoding settings of one request. Neutral values switch a setting off.

    Attributes:
        temperature: 0 is greedy: the most likely token.
        top_k: 0 keeps every token.
        num_beams: 1 switches beam search off.
        end_token_ids: each of these ends the answer and is not part of its text.
        generation_kwargs: further `GenerationConfig` fields, sorted by name; only plain `generate` supports them.
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
    """An engine's result for a request.

    Attributes:
        token_ids: the new tokens, including the end token if there was one; empty if the row failed.
        text: the new text, cut before a stop string, without special tokens.
        logprob_mean: mean log-probability (natural) of `token_ids` under the model's unmodified distribution;
            None unless `decoding.logprobs`.
        failure: set exactly when `finish_reason` is "error".
        seed_honored: False if the answer was sampled without the request's seed, so that it cannot be reproduced.
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
    """A given text, whose log-probability after a context is computed.

    Attributes:
        index: the caller's key, repeated in the `Likelihood`; need not be unique.
        context: all tokens before the continuation, at least one. Continuations of the same context that arrive close
            together share its computation.
        token_ids: at least one.
    """

    index: int
    context: Sequence[int]
    token_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """An engine's result for a continuation.

    Attributes:
        logprobs: of each token given all tokens before it: natural logarithms under the model's unmodified
            distribution, log-softmax in float64 of the model's logits. -inf for a token of probability 0.
            Empty exactly if there is a failure.
        greedy: whether each token is the most likely one at its position; ties go to the lowest id.
    """

    index: int
    logprobs: tuple[float, ...]
    greedy: bool = False
    failure: Failure | None = None

    @property
    def total(self) -> float:
        return math.fsum(self.logprobs)


@dataclass(frozen=True, slots=True)
class Response:
    """One row of the output, without the input's own columns.

    Attributes:
        seed: None if the engine sampled without it.
        redacted: number of redactions in the answer, by kind; only their sums are written.
        run_id: the run that generated it; None is the run that writes it.
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


@dataclass(frozen=True, slots=True)
class Score:
    """The result of a metric for one response, or for all samples of one prompt.

    Attributes:
        metric: its name in the job.
        value: in the metric's unit; None if the row is not scored, which lowers coverage and never counts as 0.
        answer: the answer extracted from the response, in canonical form, such as "18".
        rule: the rule that extracted it, such as "boxed".
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
        slice: "all", or a group such as "lang=zh".
        n: answers, or prompts, that have a score.
        coverage: their share of those that should have a score; None if that is none.
        method: how the interval was computed, or why there is none.
        fingerprint: of everything that decides the value except the answers; only values with equal ones are comparable.
        seed: of the bootstrap; None without one.
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
