"""From completions to responses: the reasoning is split off and personal data is redacted.

Completion, or Failure ──> Response
"""

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from batchgen.decoding.reasoning import split_reasoning
from batchgen.privacy.redact import Redactor
from batchgen.records import Completion, Failure, ResolvedDecoding, Response, TokenLogprobs
from batchgen.run.requests import PendingRow
from batchgen.structured.label_choice import labels_of


@dataclass(frozen=True, slots=True)
class ResponseBuilder:
    """Builds the responses of a run.

    Attributes:
        reasoning: what becomes of text between think marks; the job's `output.reasoning`.
        reasoning_opened: whether the chat template leaves a think mark open before the answer.
        redactor: removes personal data from answers.
        seeds: whether the engine uses the seed of a request; else only a greedy answer keeps its seed.
        token_text: the text of a token within an answer.
        counts_tokens: whether the tokens of a row are those of the model; else the engine reports their number.
    """

    reasoning: Literal["inline", "drop", "column"]
    reasoning_opened: bool
    redactor: Redactor
    seeds: bool
    token_text: Callable[[int], str]
    counts_tokens: bool = True

    def build_response(self, row: PendingRow, completion: Completion) -> Response:
        """The response to one request of a row."""
        failed = completion.failure is not None
        text = _StoredText(None, None) if failed else self._stored(completion.text)
        greedy = isinstance(row.decoding, ResolvedDecoding) and row.decoding.greedy
        seeded = completion.seed_honored and (self.seeds or greedy)
        return Response(
            index=row.index,
            id=row.id,
            sample=completion.sample,
            messages=row.messages,
            response=text.response,
            reasoning=text.reasoning,
            finish_reason=completion.finish_reason,
            failure=completion.failure,
            input_tokens=self._input_tokens(row, completion),
            output_tokens=None if failed else completion.new_tokens,
            seed=row.seeds[completion.sample] if seeded else None,
            logprob_mean=completion.logprob_mean,
            prompt_hash=row.prompt_hash,
            row_fingerprint=row.row_fingerprint,
            created_at=datetime.now(UTC),
            redacted=text.redacted,
            token_logprobs=self._token_logprobs(completion.token_logprobs, text),
            label_logprobs=_label_logprobs(row, completion),
        )

    def _input_tokens(self, row: PendingRow, completion: Completion) -> int | None:
        if completion.input_tokens is not None or not self.counts_tokens:
            return completion.input_tokens
        return len(row.token_ids) if row.token_ids else None

    def failed_responses(self, row: PendingRow, failure: Failure) -> list[Response]:
        """The responses, one for each sample, of a row that the engine did not answer."""
        return [self.failed_response(row, sample, failure) for sample in range(len(row.seeds))]

    def failed_response(self, row: PendingRow, sample: int, failure: Failure) -> Response:
        """The response to one request that the engine did not answer."""
        failed = Completion(row.index, sample, (), "", failure.finish_reason, failure=failure)
        return self.build_response(row, failed)

    def _stored(self, text: str) -> "_StoredText":
        reasoning: str | None = None
        if self.reasoning != "inline":
            answer = split_reasoning(text, opened=self.reasoning_opened)
            text, reasoning = answer.response, answer.reasoning
        response = self.redactor.redact(text)
        if reasoning is None:
            return _StoredText(response.text, None, response.counts)
        if self.reasoning == "drop":
            return _StoredText(response.text, None, response.counts, reasoning_dropped=True)
        thought = self.redactor.redact(reasoning)
        counts = Counter(response.counts) + Counter(thought.counts)
        return _StoredText(response.text, thought.text, counts)

    def _token_logprobs(
        self, recorded: TokenLogprobs | None, stored: "_StoredText"
    ) -> TokenLogprobs | None:
        """With texts; without tokens if these have text that is not stored, since redacted or dropped."""
        if recorded is None:
            return None
        texts = tuple(map(self.token_text, recorded.token_ids))
        tokens = "".join(texts[:: recorded.width])
        if stored.redacted or stored.reasoning_dropped or self.redactor.redact(tokens).counts:
            return replace(recorded, token_ids=array("i"))
        return replace(recorded, texts=texts)


def _label_logprobs(row: PendingRow, completion: Completion) -> Sequence[tuple[str, float]] | None:
    if completion.label_logprobs is None or isinstance(row.decoding, Failure):
        return None
    return tuple(zip(labels_of(row.decoding), completion.label_logprobs, strict=True))


@dataclass(frozen=True, slots=True)
class _StoredText:
    response: str | None
    reasoning: str | None
    redacted: Mapping[str, int] = field(default_factory=dict)
    reasoning_dropped: bool = False
