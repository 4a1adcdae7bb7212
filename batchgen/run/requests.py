"""From input rows to requests: prompts are rendered and tokenized, decoding settings and seeds are resolved.

Row ──> PendingRow ──> Request, one for each sample
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from batchgen.decoding.resolve_decoding import override_decoding
from batchgen.decoding.rng import row_seed
from batchgen.input.chunk import Chunk
from batchgen.job.spec import Job
from batchgen.prompts.prepare import Prepared, Preparer
from batchgen.prompts.render import turn_of
from batchgen.records import Failure, Message, Prompt, Request, ResolvedDecoding, Response, Row
from batchgen.structured.answer_grammars import NO_GRAMMARS, AnswerGrammars
from batchgen.structured.label_choice import labels_of


@dataclass(frozen=True, slots=True)
class PendingRow:
    """An input row on its way: rendered, tokenized, and with the settings and seeds of its answers.

    Attributes:
        messages: empty unless the job stores prompts.
        token_ids: the whole prompt; empty if the row failed before it was tokenized.
        decoding: how to decode its answers, or why the row cannot be sent to the engine.
        row_fingerprint: of everything that decides the row's answers.
        seeds: of its answers, by sample.
        prompt: as rendered; None if the row failed before.
    """

    index: int
    id: str
    messages: tuple[Message, ...]
    token_ids: Sequence[int]
    decoding: ResolvedDecoding | Failure
    prompt_hash: str
    row_fingerprint: str
    seeds: tuple[int, ...]
    prompt: Prompt | None


@dataclass(frozen=True, slots=True)
class RequestBuilder:
    """Builds the requests of a run.

    Attributes:
        columns: the input columns that prompts and decoding settings read.
        context_length: the largest number of tokens of a prompt and its answer together.
        context_owner: what decides it, for messages.
        max_input_tokens: the largest number of tokens of a prompt.
        row_settings_fingerprint: of everything that decides a row's answer except the row itself.
        grammars: the forms of answers.
        scores_labels: whether the engine can compute how likely the labels of a `choice` are.
    """

    job: Job
    preparer: Preparer
    columns: tuple[str, ...]
    decoding: ResolvedDecoding
    context_length: int
    max_input_tokens: int
    row_settings_fingerprint: str
    context_owner: str = "the model's context"
    grammars: AnswerGrammars = NO_GRAMMARS
    scores_labels: bool = False

    def prepare_rows(
        self,
        rows: Sequence[Row],
        failures: Mapping[int, Failure],
        check: Callable[[], None] = lambda: None,
    ) -> list[PendingRow]:
        """Render and tokenize rows of one part, in one batch; those in `failures` could not be read.

        `check` is called after each row is rendered, and may raise.
        """
        readable = self.preparer.prepare([r for r in rows if r.index not in failures], check)
        prepared = {one.index: one for one in readable}
        for row in rows:
            if row.index in failures:
                prepared[row.index] = Prepared(row.index, row.id, None, (), failures[row.index])
        return [self._pending_row(row, prepared[row.index]) for row in rows]

    def prepare_chunk(self, chunk: Chunk) -> Iterator[tuple[Row, PendingRow]]:
        """The rows of a chunk; a later turn of a conversation has empty answers to the turns before it."""
        rows = chunk.rows()
        return zip(rows, self.prepare_rows(rows, chunk.failures), strict=True)

    def waits(self, row: Row) -> bool:
        """Whether a row is a turn of a conversation that is asked after the model's answer to the row before it."""
        return self.preparer.asks_later and turn_of(row) > 1

    def prepare_later(self, row: Row, earlier: Sequence[Response]) -> PendingRow:
        """Render and tokenize a turn behind the responses to the turns before it, or say why it cannot be asked."""
        missing = [one.finish_reason for one in earlier if one.response is None]
        reason: Literal["error", "skipped"] = "error" if "error" in missing else "skipped"
        return self._later(row, [one.response for one in earlier], reason)

    def prepare_after(self, row: Row, answers: Sequence[str]) -> PendingRow:
        """A turn behind answers to the turns before it."""
        return self._pending_row(row, self.preparer.prepare_later(row, answers))

    def _later(
        self, row: Row, answers: Sequence[str | None], reason: Literal["error", "skipped"]
    ) -> PendingRow:
        """A turn behind the answers to the turns before it; `reason` is for one after a turn without answer."""
        given = [answer for answer in answers if answer is not None]
        if len(given) == len(answers):
            return self.prepare_after(row, given)
        failure = replace(_EARLIER_TURN_FAILED, finish_reason=reason)
        return self._pending_row(row, Prepared(row.index, row.id, None, (), failure))

    def prepare_samples(
        self, rows: Sequence[Row], failures: Mapping[int, Failure], texts: Sequence[str | None]
    ) -> list[PendingRow]:
        """The row of each sample of rows of one part, in order; `texts` are their answers, behind which later turns are asked."""
        count = self.job.decoding.num_return_sequences
        made = [row for row in self.prepare_rows(rows, failures) for _ in range(count)]
        for at, row in enumerate(rows):
            if self.waits(row):
                for sample in range(count):
                    turns = range(at - turn_of(row) + 1, at)
                    answers = [texts[turn * count + sample] for turn in turns]
                    made[at * count + sample] = self._later(row, answers, "error")
        return made

    def build_requests(self, rows: Iterable[PendingRow]) -> list[Request]:
        """One request for each sample of each row, in input order; none for rows that failed."""
        return [
            Request(row.index, sample, row.token_ids, row.decoding, seed, row.prompt, labels)
            for row in rows
            if not isinstance(row.decoding, Failure)
            for labels in [self._label_tokens(row.token_ids, row.decoding)]
            for sample, seed in enumerate(row.seeds)
        ]

    def build_request(self, row: PendingRow, sample: int) -> Request:
        """The request of one sample of a row that has not failed."""
        return self.build_requests([row])[sample]

    def _label_tokens(
        self, token_ids: Sequence[int], decoding: ResolvedDecoding
    ) -> Sequence[Sequence[int]]:
        """See `Request.label_tokens`; empty if a label does not fit or has no tokens of its own."""
        if not self.scores_labels or not (labels := labels_of(decoding)):
            return ()
        tokens = self.preparer.label_tokens(token_ids, labels)
        fits = all(0 < len(one) <= decoding.max_new_tokens for one in tokens)
        return tokens if fits and len(set(map(tuple, tokens))) == len(tokens) else ()

    def _pending_row(self, row: Row, prepared: Prepared) -> PendingRow:
        messages = prepared.prompt.messages if prepared.prompt else ()
        prefill = prepared.prompt.prefill if prepared.prompt else ""
        prompt_hash = _hash([[m.role, m.content] for m in messages], prefill) if messages else ""
        own = [row.fields.get(column) for column in self.job.decoding.columns.values()]
        if self.grammars.column:
            own.append(row.fields.get(self.grammars.column))
        samples = range(self.job.decoding.num_return_sequences)
        return PendingRow(
            index=row.index,
            id=row.id,
            messages=messages if self.job.output.store_prompt else (),
            token_ids=prepared.token_ids,
            decoding=prepared.failure or self._decoding(row, prepared),
            prompt_hash=prompt_hash,
            row_fingerprint=_hash(self.row_settings_fingerprint, prompt_hash, row.id, own),
            seeds=tuple(row_seed(self.job.run.seed, row.id, sample) for sample in samples),
            prompt=prepared.prompt,
        )

    def _decoding(self, row: Row, prepared: Prepared) -> ResolvedDecoding | Failure:
        settings = override_decoding(self.decoding, self.job.decoding.columns, row.fields)
        if isinstance(settings, Failure):
            return settings
        grammar = self.grammars.row_grammar(row.fields)
        if isinstance(grammar, Failure):
            return grammar
        if grammar is not settings.grammar:
            settings = replace(settings, grammar=grammar)
        length, limit = len(prepared.token_ids), self.context_length - settings.max_new_tokens
        if length > limit:
            return Failure(
                "prompt_too_long",
                f"{length:,} prompt tokens, expected at most {max(limit, 0):,}: {self.context_owner} is "
                f"{self.context_length:,} tokens and max_new_tokens {settings.max_new_tokens:,}",
            )
        return settings


_EARLIER_TURN_FAILED = Failure(
    "earlier_turn_failed", "an earlier turn of the conversation has no answer"
)


def _hash(*parts: object) -> str:
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
