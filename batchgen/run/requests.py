"""From prepared rows to requests, and from completions to responses: the two ends of the engine.

Knows nothing of engines, files, parts or progress.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from batchgen.decoding.reasoning import split_reasoning
from batchgen.decoding.resolve_decoding import override_decoding
from batchgen.decoding.rng import row_seed
from batchgen.job.spec import Job
from batchgen.privacy.redact import Redactor
from batchgen.prompts.prepare import Prepared, Preparer
from batchgen.records import (
    Completion,
    Failure,
    Message,
    Prompt,
    Request,
    ResolvedDecoding,
    Response,
    Row,
)


@dataclass(frozen=True, slots=True)
class PendingRow:
    """What stays known of a row until its answers are in."""

    index: int
    id: str
    messages: tuple[Message, ...]
    token_ids: Sequence[int]
    settings: ResolvedDecoding | Failure
    prompt_hash: str
    row_fingerprint: str
    prompt: Prompt | None


@dataclass(frozen=True, slots=True)
class RequestBuilder:
    """The settings of a run that turn rows into requests and completions into responses.

    Attributes:
        columns: the input columns that prompts and overrides read.
        context_length: most tokens of a prompt and its answer together.
        max_input_tokens: most tokens of a prompt.
        row_settings: fingerprint of everything that decides a row's answer but the row itself.
        reasoning_opened: whether the chat template leaves a think mark open before the answer.
        redactor: takes personal data out of answers; cells have lost theirs before.
    """

    job: Job
    preparer: Preparer
    columns: tuple[str, ...]
    decoding: ResolvedDecoding
    context_length: int
    max_input_tokens: int
    row_settings: str
    reasoning_opened: bool
    redactor: Redactor

    @property
    def samples(self) -> int:
        """Answers per row."""
        return self.job.decoding.num_return_sequences

    def ask(self, rows: Sequence[Row], failures: Mapping[int, Failure]) -> list[PendingRow]:
        """Render and tokenize rows, in one batch; a row in `failures` is not asked.

        Args:
            rows: rows of one part, in input order.
            failures: rows that could not be read, by index.
        """
        sound = self.preparer.prepare([row for row in rows if row.index not in failures])
        prepared = {one.index: one for one in sound}
        return [
            self._asked(
                row,
                prepared.get(row.index)
                or Prepared(row.index, row.id, None, (), failures[row.index]),
            )
            for row in rows
        ]

    def requests(self, asked: PendingRow, settings: ResolvedDecoding) -> list[Request]:
        """One request per sample."""
        return [
            Request(
                asked.index,
                sample,
                asked.token_ids,
                settings,
                self._seed(asked, sample),
                asked.prompt,
            )
            for sample in range(self.samples)
        ]

    def refused(self, asked: PendingRow, sample: int, failure: Failure) -> Response:
        """The response of a row that never reached the engine."""
        return self._response(
            asked,
            Completion(asked.index, sample, (), "", failure.finish_reason, failure=failure),
        )

    def answered(self, asked: PendingRow, completion: Completion) -> Response:
        """The response that a completion is."""
        return self._response(asked, completion)

    def _asked(self, row: Row, prepared: Prepared) -> PendingRow:
        messages = prepared.prompt.messages if prepared.prompt else ()
        prefill = prepared.prompt.prefill if prepared.prompt else ""
        prompt_hash = _hash([[m.role, m.content] for m in messages], prefill) if messages else ""
        own = [row.fields.get(column) for column in self.job.decoding.columns.values()]
        return PendingRow(
            index=row.index,
            id=row.id,
            messages=messages if self.job.output.store_prompt else (),
            token_ids=prepared.token_ids,
            settings=prepared.failure or self._settings(row, prepared),
            prompt_hash=prompt_hash,
            row_fingerprint=_hash(self.row_settings, prompt_hash, row.id, own),
            prompt=prepared.prompt,
        )

    def _settings(self, row: Row, prepared: Prepared) -> ResolvedDecoding | Failure:
        settings = override_decoding(self.decoding, self.job.decoding.columns, row.fields)
        if isinstance(settings, Failure):
            return settings
        found, room = len(prepared.token_ids), self.context_length - settings.max_new_tokens
        if found > room:
            return Failure(
                "prompt_too_long",
                f"{found:,} prompt tokens, room for {max(room, 0):,}: the model's context is "
                f"{self.context_length:,} tokens and max_new_tokens {settings.max_new_tokens:,}",
            )
        return settings

    def _seed(self, asked: PendingRow, sample: int) -> int:
        return row_seed(self.job.run.seed, asked.id, sample)

    def _response(self, asked: PendingRow, completion: Completion) -> Response:
        failed = completion.failure is not None
        said = _ResponseText(None, None, {}) if failed else self._said(completion.text)
        return Response(
            index=asked.index,
            id=asked.id,
            sample=completion.sample,
            messages=asked.messages,
            response=said.response,
            reasoning=said.reasoning,
            finish_reason=completion.finish_reason,
            failure=completion.failure,
            input_tokens=len(asked.token_ids) if asked.token_ids else None,
            output_tokens=None if failed else len(completion.token_ids),
            seed=self._seed(asked, completion.sample) if completion.seed_honored else None,
            logprob_mean=completion.logprob_mean,
            prompt_hash=asked.prompt_hash,
            row_fingerprint=asked.row_fingerprint,
            created_at=datetime.now(UTC),
            redacted=said.redacted,
        )

    def _said(self, text: str) -> "_ResponseText":
        """What is stored of an answer: split from its reasoning, and without what is to be redacted."""
        shown = self.job.output.reasoning
        reasoning: str | None = None
        if shown != "inline":
            answer = split_reasoning(text, opened=self.reasoning_opened)
            text, reasoning = answer.response, answer.reasoning if shown == "column" else None
        response = self.redactor.redact(text)
        if reasoning is None:
            return _ResponseText(response.text, None, response.counts)
        thought = self.redactor.redact(reasoning)
        counts = Counter(response.counts) + Counter(thought.counts)
        return _ResponseText(response.text, thought.text, counts)


@dataclass(frozen=True, slots=True)
class _ResponseText:
    response: str | None
    reasoning: str | None
    redacted: Mapping[str, int]


def _hash(*parts: object) -> str:
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
