"""The keys of a job file: type, default, meaning, and by `Role` what each decides.

The texts under the fields are the reference in `jobs/README.md` and in `batchgen schema`. A `Job` holds what the
user wrote: "auto" stays "auto"; `Plan` holds what it was resolved to.

To add a key: a field with its text, and its `Role` unless it decides answers (`Role.GENERATION` is the default: a resumed
run rejects a changed value). A key of `decoding` is also declared by each engine that supports it (`engines/`).
"""

import unicodedata
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from batchgen.job.cross_section import Cross
from batchgen.job.decoding import OVERRIDABLE as OVERRIDABLE
from batchgen.job.decoding import Decoding as Decoding
from batchgen.job.evaluate import Evaluate as Evaluate
from batchgen.job.model_section import ModelOrPath
from batchgen.job.model_section import ModelSpec as ModelSpec
from batchgen.job.redact_section import Redact as Redact
from batchgen.job.turn_columns import PerTurn, Replay, turn_problem
from batchgen.section import (
    DURATION_PATTERN,
    AsTuple,
    Auto,
    FreeMapping,
    NonEmptyText,
    NonEmptyTexts,
    PositiveInt,
    Role,
    Section,
)


def _exactly_one(value: object) -> object:
    if isinstance(value, bool | float):  # both equal 1 in Python
        raise ValueError(f"expected 1; found {str(value).lower()}")  # noqa: TRY004 - pydantic reports only ValueError
    return value


def _usable_name(name: str) -> str:
    """The name in composed form, so that equal names are equal folders."""
    text = unicodedata.normalize("NFC", name)
    usable = all(c in "._-" or c.isalnum() or unicodedata.category(c)[0] == "M" for c in text)
    if not (usable and text[:1].isalnum() and len(text.encode()) <= _NAME_BYTES):
        raise ValueError(
            "name: expected letters, digits, dot, dash and underscore, of which the first is a letter or a digit; "
            f"found the text {text[:40]!r}"
        )
    return text


_NAME_BYTES = 200
"""File systems allow 255 bytes in a name of a folder, which may have a date added to it."""

_NAME_IN_SCHEMA = r"^[0-9A-Za-z\u00aa-\uffff][-.0-9A-Z_a-z\u00aa-\uffff]*$"
"""The same for editors, whose patterns have no classes for letters of all scripts."""


class CsvOptions(Section):
    """How CSV text is read. Every column is read as text: `001` stays `001`, `NA` stays `NA`."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | Auto = "auto"
    """One character. auto: comma, semicolon, tab or bar, by the first lines."""
    encoding: NonEmptyText = "auto"
    """auto: utf-8 (with or without BOM), utf-16 with BOM, then gb18030. Or the name of a codec, such as `latin-1`."""
    quote: Annotated[str, Field(min_length=1, max_length=1)] = '"'
    """The character around values that contain delimiters or line breaks."""
    null_values: Annotated[tuple[str, ...], AsTuple] = ()
    """Texts that mean "no value". An empty field without quotes is always null."""


class ExcelOptions(Section):
    """How Excel workbooks are read. Every column is read as text, as Excel saves it in CSV."""

    sheet: NonEmptyText | None = None
    """Name of the sheet. Left out: the first one that is not hidden."""


class Columns(Section):
    """Columns of the input with a special meaning."""

    id: NonEmptyText | None = None
    """Column with the key of each row: unique, never null. Left out: the column `id` if there is one, else the row number, from 0."""
    prompt: NonEmptyText | None = None
    """Column with the complete prompt text, instead of `prompt.user`; `body.prompt` is the field `prompt` of the column `body`."""
    messages: NonEmptyText | None = None
    """Column with chat messages: a list of {role, content} or {from, value}, or JSON text of one. Also a path such as `body.messages`."""
    turns: NonEmptyText | None = None
    """Column with the user's messages of a conversation: a list of texts, or JSON text of one. Each is asked after the model's own answers to those before it ([details](#conversations))."""
    per_turn: PerTurn | None = None
    """New columns by name, each from a column whose list has a value for each turn: `{gold: references}`."""


class Input(Section):
    """Where the rows come from."""

    path: Annotated[NonEmptyText | Annotated[NonEmptyTexts, Field(min_length=1)], Role.CONTENT]
    """File, folder, glob, or a list of them; relative to the job file. Hive folders (`lang=zh/`) become columns. Also objects: `s3://BUCKET/KEY`, `gs://` or `az://`, with a key, a prefix or a glob (extra `objects`)."""
    format: Annotated[Literal["auto", "parquet", "csv", "jsonl", "json", "excel"], Role.CONTENT] = (
        "auto"
    )
    """auto: by the file names. Text files may also end in `.gz` or `.zst` (with windows up to `zstd --long=31`, 2 GiB). json: an array of objects, or objects one after another. excel: `.xlsx`, with the extra `excel`."""
    columns: Columns = Columns()
    filter: NonEmptyText | None = None
    """SQL condition over the input columns, such as `lang = 'zh' AND length(question) > 5`. Columns of CSV are text."""
    limit: PositiveInt | None = None
    """Use only this many rows, the first ones after `filter` and `sample`."""
    sample: PositiveInt | None = None
    """Use this many rows, drawn at random by `run.seed`, in input order."""
    cross: Cross | None = None
    """New columns by name. A list of values multiplies the rows: `{lang: [en, zh]}` makes two of each, with the ids `17/en` and `17/zh`. `{sample: [a, b], weights: [3, 1]}` draws one value for each row, by `run.seed` and the row's id. Applied after `filter`, `sample` and `limit` ([details](#crossed-rows))."""
    on_empty_prompt: Literal["error", "skip"] = "error"
    """A row whose prompt is empty or only white space fails (error) or is skipped (skip)."""
    csv: CsvOptions = CsvOptions()
    excel: ExcelOptions = ExcelOptions()
    role: Annotated[Literal["data", "evaluation"], Role.OPERATIONAL] = "data"
    """evaluation: the prompts measure models, so that `batchgen feedback export` makes no training data of them."""


class PromptMessage(Section):
    """One turn of `prompt.messages`."""

    role: Literal["system", "user", "assistant"]
    """system, user or assistant."""
    content: NonEmptyText
    """Jinja template of the text."""


class PromptSpec(Section):
    """What is sent to the model. Give exactly one of user, messages, turns, file, or a prompt, messages or turns column."""

    system: NonEmptyText | None = None
    """Jinja template of the system message."""
    user: NonEmptyText | None = None
    """Jinja template of the user message; every input column is a variable: `{{ question }}`."""
    messages: Annotated[tuple[PromptMessage, ...], AsTuple, Field(min_length=1)] | None = None
    """Several turns, each a Jinja template, for example few-shot examples."""
    turns: Annotated[tuple[NonEmptyText, ...], AsTuple, Field(min_length=1)] | None = None
    """Jinja templates of the user's messages of a conversation. Each is asked after the model's own answers to those before it ([details](#conversations))."""
    replay: Replay | None = None
    """recorded: of a messages column, each message of the user is asked after the recorded messages before it."""
    file: Annotated[NonEmptyText | None, Role.CONTENT] = None
    """File with the template of the user message, relative to the job file."""
    prefill: NonEmptyText | None = None
    """Jinja template of the text that the answer starts with. The response does not repeat it."""
    chat_template: Annotated[NonEmptyText, Role.CONTENT] = "auto"
    """auto: the model's own. none: plain text completion, for base models. Otherwise the path of a .jinja file."""
    chat_template_kwargs: FreeMapping = Field(default_factory=dict)
    """Variables for the chat template, such as `{enable_thinking: false}`."""
    max_input_tokens: PositiveInt | None = None
    """Longest prompt, in tokens. Left out: the model's context length minus `max_new_tokens`."""
    on_overflow: Literal["error", "skip", "truncate_left", "truncate_right"] = "error"
    """A longer prompt fails (error), is skipped (skip), or loses text at its start or end (truncate_left, truncate_right). Only the row's text is cut, never the template."""
    truncate_column: NonEmptyText | None = None
    """The column to cut. Left out: of the columns in the user message, the one that is longest in that row."""


class Batching(Section):
    """How rows are batched. None of these keys changes an answer."""

    max_rows: PositiveInt | Auto = "auto"
    """Maximum rows in a batch. auto: by free memory and by what the machine computes efficiently."""
    max_tokens: PositiveInt | Auto = "auto"
    """Maximum tokens in a batch: rows x (longest prompt + max_new_tokens). auto: by free memory."""
    sort: Literal["length", "none"] = "length"
    """length: within a part, longest prompts first, which reduces padding. none: input order."""
    part_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 2048
    """Rows that are sorted and saved together. Fixed when a run first starts."""
    memory_fraction: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the free memory that a batch may use."""


class Output(Section):
    """Where the answers are written, and with which columns. If layout, keep_columns, store_prompt, parse, choice_probabilities, compression, prefix or file_mode changes, `run` publishes the saved answers again and generates none."""

    path: Annotated[NonEmptyText, Role.OPERATIONAL]
    """Folder of the run, relative to the job file."""
    upload: Annotated[NonEmptyText | None, Role.OPERATIONAL] = None
    """Address to which a published run is copied: `s3://BUCKET/PREFIX`, `gs://` or `az://` (extra `objects`). Its `manifest.json` is written last and names the files of the newest run, which are in a folder of their own. `--limit` uploads nothing."""
    upload_parts: Annotated[bool, Role.OPERATIONAL] = False
    """Also save each part at `upload` when it is sealed, so that another machine, with an empty disk, resumes the run. Deleted when the run is published."""
    layout: Annotated[Literal["file", "parts"], Role.PUBLICATION] = "file"
    """file: responses.parquet. parts: responses/part-00000.parquet and so on."""
    publish: Annotated[Literal["always", "gated"], Role.OPERATIONAL] = "always"
    """gated: new files replace the previous ones only if every gate of `evaluate` passes and no limit of failed rows is exceeded."""
    report: Annotated[bool, Role.OPERATIONAL] = False
    """Write report.html at the end of the run, as `batchgen report` does. Needs metrics or judges in `evaluate`, and the extra `report`."""
    keep_columns: Annotated[Literal["all", "none"] | NonEmptyTexts, Role.PUBLICATION] = "all"
    """Input columns to copy to the output."""
    store_prompt: Annotated[bool, Role.PUBLICATION] = True
    """Write the column `messages`: the rendered prompt."""
    parse: Annotated[bool, Role.PUBLICATION] = False
    """Write the column `parsed`: answers by `decoding.response_format.json_schema` as a struct with the types of the schema, null for unfinished ones. Metrics (`field`), slices and `where` may name `parsed.FIELD`. A part whose type the schema leaves open, such as a union, is JSON text; so are objects beyond 2,000 fields."""
    choice_probabilities: Annotated[bool | Auto, Role.PUBLICATION] = "auto"
    """Write the column `choice_probabilities`: for each label of `decoding.response_format.choice` its log-probability (that of its tokens after the prompt up to the first one with which no other label begins, without penalties and temperature, and without the part of a longer label that begins with it) and its share among the labels. auto: if the answers are chosen by these numbers, so that they cost nothing more: a local model, at most 32 labels, no `after`, `repetition_penalty` and `logprobs: N`. true: also otherwise, by another pass of the model over the prompts after all answers."""
    reasoning: Literal["column", "drop", "inline"] = "column"
    """Where text between think marks is written: to the column `reasoning`, nowhere (drop), or to the response (inline)."""
    compression: Annotated[Literal["zstd", "snappy", "gzip", "none"], Role.PUBLICATION] = "zstd"
    """Compression of the Parquet files."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$"), Role.PUBLICATION] = ""
    """Prefix of every column that batchgen adds, for use when a name clashes: letters, digits, dot, dash, underscore."""
    file_mode: Annotated[str, Field(pattern=r"^0?[0-7]{3}$"), Role.PUBLICATION] = "0600"
    """Permissions of the published files, in octal."""


class RunSection(Section):
    """Seed, workers and limits of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Random choices depend on this number, the row's id and the sample number only."""
    workers: Annotated[PositiveInt | Auto, Role.OPERATIONAL] = "auto"
    """Number of worker processes. auto: on a CPU one per core, at most 8; otherwise one per GPU. Does not change answers. On a CPU, the workers share a step if each gets enough tokens (24; 96 for bfloat16 with AMX), else one process computes it with all threads; steps of decoding are timed, and computed the faster way."""
    max_error_rate: Annotated[float, Field(ge=0, le=1), Role.OPERATIONAL] = 0.01
    """Largest share of answers that may fail. If it is exceeded, the run ends with exit code 3. A run stops early once 50 answers have failed and more than this share of all, or the first 50 with the same error; it can be resumed. 1: it never stops."""
    max_error_count: Annotated[Annotated[int, Field(ge=0)] | None, Role.OPERATIONAL] = None
    """Largest number of answers that may fail, in addition to `max_error_rate`: the run ends with exit code 3, and stops early, if either is exceeded."""
    max_runtime: Annotated[
        Annotated[str, Field(pattern=DURATION_PATTERN)] | None, Role.OPERATIONAL
    ] = None
    """Time limit for one invocation, such as `5h30m` (d, h, m, s). The run then stops with exit code 75 and can be resumed by the same command."""
    max_total_tokens: Annotated[PositiveInt | None, Role.OPERATIONAL] = None
    """Budget of the run over all of its starts, in tokens of prompts and answers. A request reserves its prompt (without a tokenizer: one token per byte) and `max_new_tokens`; its answer replaces that by the tokens that the engine or server counted. A request that does not fit into what is neither used nor reserved is not sent: the run then stops with exit code 75, and continues with a higher value. Not counted: answers that were lost and generated again, judges, and metrics that query a model."""


class Job(Section):
    """A batchgen job."""

    version: Annotated[Literal[1], BeforeValidator(_exactly_one), Role.OPERATIONAL]
    """Version of the job format."""
    name: Annotated[
        str,
        Field(min_length=1, max_length=64, json_schema_extra={"pattern": _NAME_IN_SCHEMA}),
        AfterValidator(_usable_name),
        Role.OPERATIONAL,
    ]
    """Name of the job: letters of any script, digits, dot, dash, underscore; at most 64 characters."""
    description: Annotated[str | None, Role.OPERATIONAL] = None
    """Free text; not used."""
    input: Input
    prompt: PromptSpec = PromptSpec()
    model: ModelOrPath
    decoding: Decoding = Decoding()
    batching: Annotated[Batching, Role.OPERATIONAL] = Batching()
    output: Output
    redact: Redact | None = None
    evaluate: Annotated[Evaluate, Role.EVALUATION] = Evaluate()
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        prompt, columns = self.prompt, self.input.columns
        given = {
            "prompt.user": prompt.user,
            "prompt.messages": prompt.messages,
            "prompt.turns": prompt.turns,
            "prompt.file": prompt.file,
            "input.columns.prompt": columns.prompt,
            "input.columns.messages": columns.messages,
            "input.columns.turns": columns.turns,
        }
        named = [key for key, value in given.items() if value is not None]
        if not named:
            raise ValueError(f"no prompt given; give one of {', '.join(given)}")
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} both define the prompt; use one")
        if prompt.system is not None and named[0].endswith(".messages"):
            advice = "put it there as the first message"
            raise ValueError(f"prompt.system has no effect with {named[0]}; {advice}")
        if prompt.truncate_column is not None and not prompt.on_overflow.startswith("truncate"):
            raise ValueError(
                "prompt.truncate_column has no effect without on_overflow: truncate_left or truncate_right"
            )
        overflow, per_turn = prompt.on_overflow, columns.per_turn
        if problem := turn_problem(
            source=named[0], replay=prompt.replay, per_turn=per_turn, on_overflow=overflow
        ):
            raise ValueError(problem)
        if prompt.chat_template == "none":
            self._plain_completion(named[0])
        return self

    @model_validator(mode="after")
    def _report_has_scores(self) -> Self:
        if self.output.report and not (self.evaluate.metrics or self.evaluate.judges):
            raise ValueError(
                "output.report has no effect without scores; give evaluate.metrics or evaluate.judges"
            )
        return self

    @model_validator(mode="after")
    def _parts_have_an_address(self) -> Self:
        if self.output.upload_parts and self.output.upload is None:
            raise ValueError("output.upload_parts has no effect without output.upload")
        return self

    @model_validator(mode="after")
    def _baselines_are_other_runs(self) -> Self:
        for number, judge in enumerate(self.evaluate.judges):
            if judge.baseline is not None and Path(judge.baseline) == Path(self.output.path):
                raise ValueError(
                    f"evaluate.judges[{number}].baseline is the output folder of this run; "
                    "give the folder of another run"
                )
        return self

    def _plain_completion(self, source: str) -> None:
        if self.prompt.system is not None or source.endswith((".messages", ".turns")):
            raise ValueError(
                "prompt.chat_template: none sends plain text and supports neither system prompts nor messages nor turns"
            )
        if self.prompt.chat_template_kwargs:
            raise ValueError(
                "prompt.chat_template_kwargs have no effect with prompt.chat_template: none"
            )
