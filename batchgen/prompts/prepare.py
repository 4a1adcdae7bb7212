"""Rows to token ids: rendered, tokenized in one batch, and truncated according to the job.

Every row is returned, in order; a failed one with its failure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from batchgen.arrow.nested_column import value_at
from batchgen.job.spec import Job
from batchgen.prompts.overflow import ColumnCut, CuttablePrompt, LengthSearch, MessageCut, shorten
from batchgen.prompts.render import PromptRenderer
from batchgen.prompts.tokenize import Tokenizer
from batchgen.records import Failure, Prompt, Row


@dataclass(frozen=True, slots=True)
class Prepared:
    """A row with its prompt, or with its failure.

    Attributes:
        prompt: after truncation; also of a row that failed after rendering.
        token_ids: at least one; empty if the row failed.
    """

    index: int
    id: str
    prompt: Prompt | None
    token_ids: Sequence[int]
    failure: Failure | None


class Preparer:
    """Prepares the rows of a job."""

    def __init__(self, job: Job, tokenizer: Tokenizer, max_input_tokens: int) -> None:
        """Compile the templates.

        Args:
            job: a job without problems in `check_prompts`.
            tokenizer: of the model.
            max_input_tokens: of the job, or the context length minus the response's.

        Raises:
            DataError: the templates cannot be read.
        """
        self._renderer = PromptRenderer(job)
        self._tokenizer = tokenizer
        self._limit = max_input_tokens
        self._on_overflow = job.prompt.on_overflow
        self._truncate = job.prompt.truncate_column
        self._skips_empty = job.input.on_empty_prompt == "skip"

    def prepare(
        self, rows: Sequence[Row], check: Callable[[], None] = lambda: None
    ) -> list[Prepared]:
        """Render and tokenize rows in one batch; one `Prepared` for each, in their order.

        `check` is called after each row is rendered, and may raise.
        """
        rendered = []
        for row in rows:
            rendered.append(self._render(row))
            check()
        return self._prepare(rows, rendered)

    @property
    def asks_later(self) -> bool:
        """Whether a row is a turn of a conversation, asked after the model's answers to those before it."""
        return self._renderer.asks_later

    def prepare_later(self, row: Row, answers: Sequence[str]) -> Prepared:
        """Render and tokenize a turn behind the answers to the turns before it."""
        (prepared,) = self._prepare([row], [self._render(row, answers)])
        return prepared

    def _prepare(self, rows: Sequence[Row], rendered: Sequence[Prompt | Failure]) -> list[Prepared]:
        encoded = iter(self._tokenizer.encode([p for p in rendered if isinstance(p, Prompt)]))
        prepared = [
            _prepared(row, prompt, next(encoded))
            if isinstance(prompt, Prompt)
            else Prepared(row.index, row.id, None, (), prompt)
            for row, prompt in zip(rows, rendered, strict=True)
        ]
        long = [k for k, p in enumerate(prepared) if len(p.token_ids) > self._limit]
        fitted = self._fit([(rows[k], prepared[k]) for k in long])
        for k, outcome in zip(long, fitted, strict=True):
            prepared[k] = outcome
        return prepared

    def label_tokens(
        self, token_ids: Sequence[int], labels: Sequence[str]
    ) -> Sequence[Sequence[int]]:
        """The tokens of labels after a prompt."""
        return self._tokenizer.encode_labels(token_ids, labels)

    def _render(self, row: Row, answers: Sequence[str] | None = None) -> Prompt | Failure:
        prompt = self._renderer.render(row, answers)
        if isinstance(prompt, Prompt):
            return prompt if _has_text(prompt) else self._empty(_EMPTY)
        if prompt.code == "prompt_null" and self._is_blank(row):
            return self._empty(prompt)
        return prompt

    def _empty(self, failure: Failure) -> Failure:
        return replace(failure, finish_reason="skipped") if self._skips_empty else failure

    def _is_blank(self, row: Row) -> bool:
        """Whether all columns of the user's message are null or blank: an empty field of CSV is null."""
        values = [value_at(row.fields, column) for column in self._renderer.user_columns]
        return not any(str(value).strip() for value in values if value is not None)

    def _fit(self, long: Sequence[tuple[Row, Prepared]]) -> list[Prepared]:
        keep = _KEEP.get(self._on_overflow)
        if keep is None:
            return [self._too_long(prepared, "") for _, prepared in long]
        searches = [self._search(row, prepared) for row, prepared in long]
        running = [search for search in searches if search is not None]
        shorten(running, self._tokenizer.encode, limit=self._limit, keep=keep)
        return [
            replace(prepared, prompt=search.best.prompt, token_ids=search.best.token_ids)
            if search and search.best and _has_text(search.best.prompt)
            else self._too_long(prepared, ", even if the row's text is cut")
            for search, (_, prepared) in zip(searches, long, strict=True)
        ]

    def _search(self, row: Row, prepared: Prepared) -> LengthSearch | None:
        """None if the row has no text that can be cut."""
        cuttable: CuttablePrompt | None = None
        columns = (self._truncate,) if self._truncate else self._renderer.user_columns
        texts = {
            c: text for c in columns if isinstance(text := value_at(row.fields, c), str) and text
        }
        if texts:
            column = max(texts, key=lambda name: len(texts[name]))
            cuttable = ColumnCut(row, column, texts[column], self._renderer.render)
        elif not columns and prepared.prompt is not None:
            cuttable = _last_user_message(prepared.prompt)
        length = len(prepared.token_ids)
        return (
            None if cuttable is None else LengthSearch(cuttable, length=length, limit=self._limit)
        )

    def _too_long(self, prepared: Prepared, more: str) -> Prepared:
        tokens = len(prepared.token_ids)
        words = f"the prompt has {tokens:,} tokens, more than {self._limit:,}{more}"
        reason: Literal["error", "skipped"] = "skipped" if self._on_overflow == "skip" else "error"
        failure = Failure("prompt_too_long", words, reason)
        return replace(prepared, token_ids=(), failure=failure)


_KEEP: Mapping[str, Callable[[str, int], str]] = {
    "truncate_left": lambda text, count: text[len(text) - count :],
    "truncate_right": lambda text, count: text[:count],
}
_EMPTY = Failure("prompt_empty", "the prompt is empty or only white space")


def _has_text(prompt: Prompt) -> bool:
    return bool(prompt.messages[-1].content.strip())


def _last_user_message(prompt: Prompt) -> MessageCut | None:
    texts = [k for k, m in enumerate(prompt.messages) if m.role == "user" and m.content]
    return MessageCut(prompt, texts[-1]) if texts else None


def _prepared(row: Row, prompt: Prompt, token_ids: Sequence[int] | Failure) -> Prepared:
    if isinstance(token_ids, Failure):
        return Prepared(row.index, row.id, prompt, (), token_ids)
    return Prepared(row.index, row.id, prompt, token_ids, None if token_ids else _EMPTY)
