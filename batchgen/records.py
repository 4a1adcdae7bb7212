"""The types of a row, from the input file to the output file.

    Row ──render──> Prompt ──tokenize──> Request ──generate──> Completion ──respond──> Response
                                         Continuation ──score──> Likelihood

Each step may end in a `Failure`; the row then stays in the output, with the reason. `run/work.py` shows the files.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from batchgen.decoding_settings import AnswerGrammar as AnswerGrammar
from batchgen.decoding_settings import ResolvedDecoding as ResolvedDecoding
from batchgen.token_logprobs import TokenLogprobs as TokenLogprobs

FinishReason = Literal["stop", "length", "stop_string", "error", "skipped"]
"""Why an answer ended: an end token, max_new_tokens, a stop string; or why there is none."""

FailureCode = Literal[
    "prompt_null",
    "prompt_empty",
    "prompt_too_long",
    "earlier_turn_failed",
    "invalid_unicode",
    "invalid_messages",
    "unsupported_content",
    "invalid_override",
    "template_error",
    "control_tokens",
    "context_empty",
    "continuation_empty",
    "continuation_too_long",
    "unknown_token",
    "nonfinite_logits",
    "grammar_stuck",
    "grammar_unsupported",
    "grammar_violated",
    "out_of_memory",
    "crash_suspect",
    "request_refused",
    "server_error",
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
    unparsed      the metric cannot read its other input, such as a reference that is not a number (no value); or the
                  response gives an answer that the metric cannot read, such as an expression without an exact value (0)
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
    """One turn. `authored`: start and end of the parts of `content` by the author of the job; the rest is the row's."""

    role: Role
    content: str
    authored: tuple[tuple[int, int], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages of a row, before the chat template. `prefill` is the text that the answer starts with, often empty."""

    index: int
    id: str
    messages: tuple[Message, ...]
    prefill: str = ""
    prefill_authored: tuple[tuple[int, int], ...] = field(default=(), compare=False)


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
        label_tokens: of the labels of a `choice`, each after `token_ids`; then the answer is the most likely label, or a
            sampled one (`structured/label_choice.py`). Empty if it is generated token by token.
        follows: index of the row with whose prompt and answer this prompt begins, as far as the chat template repeats them.
        is_followed: whether a request that follows this one is expected; an engine may keep what it computed until then.
    """

    index: int
    sample: int
    token_ids: Sequence[int]
    decoding: ResolvedDecoding
    seed: int
    prompt: Prompt | None = None
    label_tokens: Sequence[Sequence[int]] = ()
    follows: int | None = None
    is_followed: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """An engine's result for a request.

    Attributes:
        token_ids: the new tokens, including the end token if there was one; empty if the row failed.
        text: the new text, cut before a stop string, without special tokens.
        logprob_mean: mean log-probability (natural) of `token_ids` under the model's unmodified distribution;
            None unless `decoding.logprobs`.
        token_logprobs: of `token_ids`, without texts; None unless `decoding.top_logprobs`.
        failure: set exactly when `finish_reason` is "error".
        seed_honored: False if the answer was sampled without the request's seed, so that it cannot be reproduced.
        input_tokens: of the prompt as the engine counted them; None if they are those of the request.
        output_tokens: new tokens where the engine reports no `token_ids`; None if these count.
        label_logprobs: of the labels of `Request.label_tokens`, without what continues to a longer label; None if not computed.
    """

    index: int
    sample: int
    token_ids: Sequence[int]
    text: str
    finish_reason: FinishReason
    logprob_mean: float | None = None
    failure: Failure | None = None
    seed_honored: bool = True
    token_logprobs: TokenLogprobs | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    label_logprobs: Sequence[float] | None = None

    @property
    def new_tokens(self) -> int:
        return len(self.token_ids) if self.output_tokens is None else self.output_tokens


class AnswerDecoder(Protocol):
    """Token ids of an answer to text. Can be pickled."""

    @property
    def special_tokens(self) -> Mapping[int, str]:
        """The ids that have no text in an answer, and their names, such as `<|im_end|>`."""

    def __call__(
        self, token_ids: Sequence[int], prompt: Sequence[int] = (), *, special: bool = False
    ) -> str:
        """The text that tokens add to a prompt; U+FFFD for bytes that are not a character. `special`: with names of special tokens."""

    def decode_complete(self, token_ids: Sequence[int], prompt: Sequence[int] = ()) -> str:
        """The same without a character at the end whose last bytes are missing."""

    def tokenizer_json(self) -> str | None:
        """The tokenizer as tokenizer.json has it, with added tokens; None if it cannot be written so."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """What an engine computes at this moment: rows and their new tokens so far; of few rows also which, by (index, sample)."""

    rows: int = 0
    new_tokens: int = 0
    answers: Mapping[tuple[int, int], Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Continuation:
    """A given text, whose log-probability after a context is computed.

    Attributes:
        index: the caller's key, repeated in the `Likelihood`; need not be unique.
        context: all tokens before it, at least one. Those of the same context that arrive close together share its work.
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
            distribution, log-softmax of the model's logits with an error below 1e-7. -inf for a token of probability 0.
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
        token_logprobs: with texts, unless the answer is published without a part of its text.
        redacted: number of redactions in the answer, by kind; only their sums are written.
        run_id: the run that generated it; None is the run that writes it.
        label_logprobs: the labels of a `choice` and their log-probabilities; None if they were not computed.
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
    token_logprobs: TokenLogprobs | None = None
    label_logprobs: Sequence[tuple[str, float]] | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The result of a metric for one response, or for all samples of one prompt.

    Attributes:
        metric: its name in the job.
        value: in the metric's unit; None if the row is not scored, which lowers coverage and never counts as 0.
        answer: the answer extracted from the response, in canonical form, such as "18", by the `rule`, such as "boxed".
        reference: the label of the reference in canonical form, for metrics with labels.
    """

    metric: str
    value: float | None
    status: Status
    answer: str | None = None
    rule: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One row of metrics.parquet: a metric over a slice.

    Attributes:
        slice: "all", or a group such as "lang=zh".
        n: answers, or prompts, that have a score.
        coverage: their share of those that should have a score; None if that is none.
        method: how the interval was computed, or why there is none; `seed` is that of the bootstrap, None without one.
        fingerprint: of everything that decides the value except the answers; only values with equal ones are comparable.
        least: the smallest possible value, `most` the largest; None where values have no limits.
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
    least: float | None = None
    most: float | None = None
