"""What a job file may say: every key, its default and its meaning.

The texts under the fields are the reference that `jobs/README.md` and `batchgen schema` print. A `Job` is
what was *asked*: "auto" stays "auto" here, and nothing ever writes into it; what was resolved is in `Plan`.
Knows nothing of YAML, line numbers or `${...}`: that is `load.py`.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from batchgen.job.decoding import OVERRIDABLE as OVERRIDABLE
from batchgen.job.decoding import Decoding as Decoding
from batchgen.job.evaluate import Evaluate as Evaluate
from batchgen.job.model_section import ModelOrPath
from batchgen.job.model_section import ModelSpec as ModelSpec
from batchgen.job.redact_section import Redact as Redact
from batchgen.section import (
    DURATION_PATTERN,
    AsTuple,
    Auto,
    FreeMapping,
    NonEmptyText,
    NonEmptyTexts,
    PositiveInt,
    Section,
)


def _exactly_one(value: object) -> object:
    if isinstance(value, bool | float):  # both equal 1 in Python
        raise ValueError(f"expected 1, found {str(value).lower()}; write version: 1")  # noqa: TRY004 - pydantic turns only ValueError into a finding
    return value


class CsvOptions(Section):
    """How CSV text is read. Every column is read as text: `001` stays `001`, `NA` stays `NA`."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | Auto = "auto"
    """One character. auto: found among comma, semicolon, tab and bar."""
    encoding: NonEmptyText = "auto"
    """auto: utf-8 (with or without BOM), utf-16 with BOM, then gb18030. Or the name of a codec, such as `latin-1`."""
    quote: Annotated[str, Field(min_length=1, max_length=1)] = '"'
    """The character around values that hold delimiters or line breaks."""
    null_values: Annotated[tuple[str, ...], AsTuple] = ()
    """Texts that mean "no value". An empty field without quotes always does."""


class Columns(Section):
    """Columns of the input that mean something to batchgen."""

    id: NonEmptyText | None = None
    """Key of a row: unique, never null. Left out: a column called `id` if there is one, else the row number from 0."""
    prompt: NonEmptyText | None = None
    """Column with finished prompt text, instead of `prompt.user`."""
    messages: NonEmptyText | None = None
    """Column with chat messages: a list of {role, content}, or JSON text of one."""


class Input(Section):
    """Where the rows come from."""

    path: NonEmptyText | Annotated[NonEmptyTexts, Field(min_length=1)]
    """File, folder, glob, or a list of them; relative to the job file. Hive folders (`lang=zh/`) become columns."""
    format: Literal["auto", "parquet", "csv", "jsonl"] = "auto"
    """auto: from the file names. Each may end in `.gz` or `.zst` as well."""
    columns: Columns = Columns()
    filter: NonEmptyText | None = None
    """SQL condition over the input columns, such as `lang = 'zh' AND length(question) > 5`. Columns of CSV are text."""
    limit: PositiveInt | None = None
    """Only the first rows, after `filter` and `sample`."""
    sample: PositiveInt | None = None
    """That many rows at random (by `run.seed`), in input order."""
    on_empty_prompt: Literal["error", "skip"] = "error"
    """What becomes of a row whose prompt is empty or only white space: a failed row, or a skipped one."""
    csv: CsvOptions = CsvOptions()


class PromptMessage(Section):
    """One turn of `prompt.messages`."""

    role: Literal["system", "user", "assistant"]
    """system, user or assistant."""
    content: NonEmptyText
    """Jinja template of the text."""


class PromptSpec(Section):
    """What is sent to the model. Exactly one of user, messages, file, or a prompt or messages column."""

    system: NonEmptyText | None = None
    """Jinja template of the system message."""
    user: NonEmptyText | None = None
    """Jinja template of the user message; every input column is a variable: `{{ question }}`."""
    messages: Annotated[tuple[PromptMessage, ...], AsTuple, Field(min_length=1)] | None = None
    """Several turns, each a Jinja template: few-shot examples go here."""
    file: NonEmptyText | None = None
    """File with the template of the user message, relative to the job file."""
    prefill: NonEmptyText | None = None
    """Jinja template of the text that the answer starts with. It is not repeated in the response."""
    chat_template: NonEmptyText = "auto"
    """auto: the model's own. none: plain text completion, for base models. Or the path of a .jinja file."""
    chat_template_kwargs: FreeMapping = Field(default_factory=dict)
    """Variables for the chat template, such as `{enable_thinking: false}`."""
    max_input_tokens: PositiveInt | None = None
    """Longest prompt, in tokens. Left out: the model's context less `max_new_tokens`."""
    on_overflow: Literal["error", "skip", "truncate_left", "truncate_right"] = "error"
    """What becomes of a longer prompt. Truncation cuts the row's text, at its start or end, never the template."""
    truncate: NonEmptyText | None = None
    """The column to cut. Left out: of the columns in the user message, the one that is longest in that row."""


class Batching(Section):
    """How rows are put together. None of this changes an answer."""

    max_rows: PositiveInt | Auto = "auto"
    """Most rows in a batch. auto: as many as memory holds and the machine uses well."""
    max_tokens: PositiveInt | Auto = "auto"
    """Most tokens in a batch: rows x (longest prompt + max_new_tokens). auto: from free memory."""
    sort: Literal["length", "none"] = "length"
    """length: within a part, longest prompts first, so that little is padded."""
    part_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 2048
    """Rows that are sorted, saved and resumed together. Fixed when a run starts."""
    memory_fraction: Annotated[float, Field(gt=0, le=1)] = 0.9
    """How much of the free memory may be planned for."""


class Output(Section):
    """Where the answers go, and with which columns."""

    path: NonEmptyText
    """Folder of the run, relative to the job file."""
    layout: Literal["file", "parts"] = "file"
    """file: responses.parquet. parts: responses/part-00000.parquet and so on."""
    publish: Literal["always", "gated"] = "always"
    """gated: new files replace the previous ones only if every gate of `evaluate` passed and few enough rows failed."""
    keep_columns: Literal["all", "none"] | NonEmptyTexts = "all"
    """Input columns that are written beside the answer."""
    store_prompt: bool = True
    """Write the column `messages`: what was asked."""
    reasoning: Literal["column", "drop", "inline"] = "column"
    """What becomes of text between think marks: the column `reasoning`, nothing, or part of the response."""
    compression: Literal["zstd", "snappy", "gzip", "none"] = "zstd"
    """Compression of the Parquet files."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    """Put before the name of every column that batchgen adds, should one clash: letters, digits, dot, dash, underscore."""
    file_mode: Annotated[str, Field(pattern=r"^0?[0-7]{3}$")] = "0600"
    """Permissions of the files that are published, in octal."""


class RunSection(Section):
    """How the run behaves."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Every random choice follows from this number, the row's id and the sample."""
    workers: PositiveInt | Auto = "auto"
    """Processes that compute side by side. auto: on a CPU one a core, at most 8; else one a GPU. Changes no answer."""
    max_errors: Annotated[float, Field(ge=0)] = 0.01
    """Answers that may fail: below 1 a share, from 1 on a count. More, and the run ends with exit code 3."""
    max_runtime: Annotated[str, Field(pattern=DURATION_PATTERN)] | None = None
    """Longest time of one start, such as `5h30m` (d, h, m, s). Then it stops with exit code 75; the same command goes on."""


class Job(Section):
    """A batchgen job."""

    version: Annotated[Literal[1], BeforeValidator(_exactly_one)]
    """Version of this format."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Name of the job: letters, digits, dot, dash, underscore."""
    description: str | None = None
    """For people."""
    input: Input
    prompt: PromptSpec = PromptSpec()
    model: ModelOrPath
    decoding: Decoding = Decoding()
    batching: Batching = Batching()
    output: Output
    redact: Redact | None = None
    evaluate: Evaluate = Evaluate()
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        prompt, columns = self.prompt, self.input.columns
        given = {
            "prompt.user": prompt.user,
            "prompt.messages": prompt.messages,
            "prompt.file": prompt.file,
            "input.columns.prompt": columns.prompt,
            "input.columns.messages": columns.messages,
        }
        named = [key for key, value in given.items() if value is not None]
        if not named:
            raise ValueError(f"nothing says what to ask the model: give one of {', '.join(given)}")
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} both say what to ask the model: keep one")
        if prompt.system is not None and named[0] in ("prompt.messages", "input.columns.messages"):
            raise ValueError(
                f"prompt.system has no effect beside {named[0]}: put it there as the first message"
            )
        if prompt.truncate is not None and not prompt.on_overflow.startswith("truncate"):
            raise ValueError(
                "prompt.truncate has no effect without on_overflow: truncate_left or truncate_right"
            )
        if prompt.chat_template == "none":
            self._plain_completion(named[0])
        return self

    @model_validator(mode="after")
    def _others_are_elsewhere(self) -> Self:
        for number, judge in enumerate(self.evaluate.judges):
            if judge.against is not None and Path(judge.against) == Path(self.output.path):
                raise ValueError(
                    f"evaluate.judges[{number}].against is the folder that this run writes to; "
                    "give that of another run"
                )
        return self

    def _plain_completion(self, source: str) -> None:
        if self.prompt.system is not None or source in (
            "prompt.messages",
            "input.columns.messages",
        ):
            raise ValueError(
                "prompt.chat_template: none sends plain text: it knows no system text and no messages"
            )
        if self.prompt.chat_template_kwargs:
            raise ValueError(
                "prompt.chat_template_kwargs have no effect with prompt.chat_template: none"
            )
