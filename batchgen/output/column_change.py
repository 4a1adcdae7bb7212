"""Other columns for the same answers: `output.keep_columns`, `store_prompt`, `parse` and `prefix` decide no answer.

    sealed part, or published rows ────────────────┐
                                                   ├── ColumnChange ──> a part with the columns of the job
    its rows of the input, read and rendered again ┘

The run is then published as usual. A part that has the new columns already may be converted once more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import StateError
from batchgen.fingerprint import differences
from batchgen.input.sources import Chunk
from batchgen.output.published_run import PublishedRun
from batchgen.output.schema import MESSAGES, OutputLayout
from batchgen.records import Message
from batchgen.state.identity import (
    Identity,
    has_other_columns,
    mark_columns_changing,
    record_columns,
)
from batchgen.state.parts import PartStore, SealedPart, answer_prefix, read_part
from batchgen.state.run_folder import RunFolder, read_json


@dataclass(frozen=True, slots=True)
class AnsweredPrompt:
    """The prompt of a row as it is rendered now; `messages` are empty if it cannot be rendered."""

    prompt_hash: str
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """The columns that the job wants.

    Attributes:
        samples: answers of each row.
        store_prompt: whether the column `messages` has the prompts.
        render: the prompts of all samples of all rows of a chunk, in order, given the text of each answer.
    """

    layout: OutputLayout
    samples: int
    store_prompt: bool
    render: Callable[[Chunk, Sequence[str | None]], Sequence[AnsweredPrompt]]

    def apply(self, part: pa.Table, chunk: Chunk) -> pa.Table:
        """The answers of a part with the new columns; `chunk` has its rows of the input.

        Raises:
            StateError: the rows are not those that were answered, or their prompts are rendered differently now.
        """
        answers = OutputLayout.written(part.schema, answer_prefix(part.schema)).answers(part)
        rows = pa.array([row for row in range(len(chunk.ids)) for _ in range(self.samples)])
        ids = pa.array(chunk.ids, pa.string()).take(rows)
        if answers.column("id").to_pylist() != ids.to_pylist():
            raise StateError(
                f"part {chunk.number} of the saved answers does not belong to these rows of the input",
                hint="Start over with --fresh: the old run is moved aside, not deleted.",
            )
        at = answers.column_names.index("messages")
        answers = answers.set_column(at, "messages", self._messages(answers, chunk))
        kept = chunk.table.select(list(self.layout.kept)).take(rows)
        schema = self.layout.schema(chunk.table.schema).with_metadata(part.schema.metadata)
        return pa.Table.from_arrays(self.layout.columns(kept, answers), schema.names).cast(schema)

    def _messages(self, answers: pa.Table, chunk: Chunk) -> pa.Array | pa.ChunkedArray:
        if not self.store_prompt:
            return pa.nulls(answers.num_rows, MESSAGES)
        stored = answers.column("messages")
        lost = pc.and_(pc.is_null(stored), pc.not_equal(answers.column("prompt_hash"), ""))
        if not pc.any(lost).as_py():
            return stored
        prompts = self.render(chunk, answers.column("response").to_pylist())
        hashes = answers.column("prompt_hash").to_pylist()
        for prompt, answered, id_ in zip(prompts, hashes, answers.column("id"), strict=True):
            if prompt.prompt_hash != answered:
                raise StateError(
                    f"the prompt of row {id_} is rendered differently now: it is not the one that was answered",
                    hint="Set output.store_prompt: false, or start over with --fresh.",
                )
        turns = [[{"role": m.role, "content": m.content} for m in p.messages] for p in prompts]
        return pa.array([one or None for one in turns], MESSAGES)


@dataclass(frozen=True, slots=True)
class PartConverter:
    """Gives the sealed parts of an unfinished run the columns that its job has now."""

    folder: RunFolder
    identity: Identity
    store: PartStore
    change: ColumnChange

    @property
    def is_needed(self) -> bool:
        return has_other_columns(self.folder, self.identity)

    def describe(self) -> str:
        """What changed since run.json was written, such as `output.prefix was "", is "x"`."""
        recorded = read_json(self.folder.run)["settings"]["output"]
        changes = differences(recorded, self.identity.settings["output"])
        return "; ".join(f"output.{one}" for one in changes) or "an earlier change was interrupted"

    def convert(
        self,
        sealed: dict[int, SealedPart],
        chunks: Iterable[Chunk],
        *,
        check: Callable[[], None],
        should_stop: Callable[[], bool],
    ) -> bool:
        """Replace each part, in `sealed` as well, and record the columns; False if stopped before.

        A kill at any point is repeated by the next start: run.json has a mark until all parts have the same columns.

        Args:
            sealed: the parts by number.
            chunks: their rows of the input.
            check: raises if nothing may be saved any more; called before each replacement.
            should_stop: called before each replacement.
        """
        if sealed:
            mark_columns_changing(self.folder)
        for chunk in chunks:
            part = sealed[chunk.number]
            table = self.change.apply(read_part(part.path), chunk)
            check()
            if should_stop():
                return False
            sealed[chunk.number] = self.store.replace(part, table)
        record_columns(self.folder, self.identity)
        return True


def seal_published(
    published: PublishedRun,
    store: PartStore,
    sizes: Sequence[int],
    convert: Callable[[int, pa.Table], pa.Table],
) -> dict[int, SealedPart]:
    """Seal published answers as parts of so many output rows, each converted, given its number; there must be no parts."""
    tables = published.responses.row_groups(published.schema.names)
    parts = (part.replace_schema_metadata() for part in _regrouped(tables, sizes))
    return {number: store.seal(number, convert(number, part)) for number, part in enumerate(parts)}


def _regrouped(tables: Iterable[pa.Table], sizes: Sequence[int]) -> Iterator[pa.Table]:
    """The same rows in tables of these sizes."""
    left = iter(sizes)
    rows = next(left, 0)
    waiting: pa.Table | None = None
    for table in tables:
        waiting = table if waiting is None else pa.concat_tables([waiting, table])
        while rows and waiting.num_rows >= rows:
            yield waiting.slice(0, rows)
            waiting = waiting.slice(rows)
            rows = next(left, 0)
    if waiting is not None and waiting.num_rows:
        yield waiting
