"""What a job may say about metrics of the response itself, of all answers to a prompt, and of a whole set."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from batchgen.job.instructions import INSTRUCTIONS
from batchgen.job.metric_section import MetricOptions
from batchgen.privacy.entities import PiiKind
from batchgen.section import AsTuple, NonEmptyText, PositiveInt


class JsonOptions(MetricOptions):
    """The response is valid JSON and nothing else; `NaN` and repeated keys are not."""

    type: Literal["json"] = "json"
    fenced: Literal["refuse", "allow"] = "refuse"
    """allow: a Markdown fence around it does not count."""


class JsonSchemaOptions(MetricOptions):
    """The response is JSON that fits a schema; the rule is the keyword that it breaks. Needs the extra `structured`."""

    type: Literal["json_schema"] = "json_schema"
    schema_: Annotated[NonEmptyText, Field(alias="schema")]
    """File with the JSON Schema, relative to the job file. It may not point to others."""
    fenced: Literal["refuse", "allow"] = "refuse"
    """allow: a Markdown fence around it does not count."""


class RepetitionOptions(MetricOptions):
    """The response runs in circles: a loop at its end, or more repeated lines or word groups than text has."""

    type: Literal["repetition"] = "repetition"


class LanguageOptions(MetricOptions):
    """The response is in the expected language. A response without letters is not scored."""

    type: Literal["language"] = "language"
    expect: NonEmptyText | None = None
    """Code of the language, such as `zh` or `en`."""
    column: NonEmptyText | None = None
    """Column with the code of each row, instead of `expect`."""
    detector: Literal["script", "py3langid"] = "script"
    """script tells Chinese from English, not French from English. py3langid does; it needs the extra `metrics`."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.expect is None) == (self.column is None):
            raise ValueError("give expect or column: which language is right")
        return self


class RefusalOptions(MetricOptions):
    """The response declines to answer, in English or Chinese, by how it begins."""

    type: Literal["refusal"] = "refusal"
    wanted: Literal["answer", "refusal"] = "answer"
    """Which of the two is better: for comparisons alone. The value is 1 for a refusal in either case."""


class PiiOptions(MetricOptions):
    """The response holds personal data that the prompt does not."""

    type: Literal["pii"] = "pii"
    kinds: Literal["all"] | Annotated[tuple[PiiKind, ...], AsTuple, Field(min_length=1)] = "all"
    """Kinds of personal data, as under `redact`: email, phone, credit_card, cn_resident_id and so on."""


def _check_kwargs(checks: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    for check in checks:
        keywords = INSTRUCTIONS.get(str(check.get("id")))
        if keywords is None:
            raise ValueError(
                f"no instruction is called {check.get('id')!r}; one is {next(iter(INSTRUCTIONS))}"
            )
        if keywords != check.keys() - {"id"}:
            expected = ", ".join(sorted(keywords)) or "nothing"
            raise ValueError(f"{check['id']} is told {expected} beside its id")
    return checks


class ConstraintsOptions(MetricOptions):
    """The response follows instructions that can be checked, as IFEval does (Zhou et al. 2023); in Chinese as well."""

    type: Literal["constraints"] = "constraints"
    variants: Annotated[
        tuple[
            Literal["prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose"], ...
        ],
        AsTuple,
        Field(min_length=1),
    ] = ("prompt_strict", "instruction_strict")
    """Each is a metric: all of a row's instructions or each, of the response as it is or without its frame."""
    instructions: NonEmptyText | None = None
    """Column with the ids of the row's instructions, such as `instruction_id_list`: a list, or JSON of one."""
    keywords: NonEmptyText | None = None
    """Column with a mapping for each of those, such as `kwargs`."""
    checks: Annotated[tuple[dict[str, Any], ...], AsTuple, AfterValidator(_check_kwargs)] = ()
    """Instructions of every row: `{id: "length_constraints:number_words", relation: at least, num_words: 100}`."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.instructions is None and not self.checks:
            raise ValueError("give instructions, a column of ids, or checks, a list")
        if (self.instructions is None) != (self.keywords is None):
            raise ValueError("instructions and keywords, both columns, go together")
        return self


class DistinctOptions(MetricOptions):
    """Distinct n-grams of tokens by all n-grams: how varied the answers are. Not comparable between window sizes."""

    type: Literal["distinct"] = "distinct"
    n: Annotated[tuple[Annotated[int, Field(ge=1, le=10)], ...], AsTuple, Field(min_length=1)] = (
        1,
        2,
    )
    """Each is a metric: `distinct_2`."""
    window: Annotated[int, Field(ge=10)] = 1000
    """Tokens over which n-grams are counted; the value is the mean of all whole windows, null if there is none."""


class DuplicatesOptions(MetricOptions):
    """Share of answers that say what an earlier answer said."""

    type: Literal["duplicates"] = "duplicates"
    variants: Annotated[tuple[Literal["exact", "near"], ...], AsTuple, Field(min_length=1)] = (
        "exact",
        "near",
    )
    """Each is a metric. exact: but for case, width, punctuation. near: most groups of 5 characters are the same."""
    similarity: Annotated[float, Field(ge=0.6, le=1)] = 0.8
    """From which Jaccard similarity two answers are near duplicates."""


class SampleDiversityOptions(MetricOptions):
    """How different the answers to one prompt are: 1 less the mean token F1 of its pairs. Needs several answers each."""

    type: Literal["sample_diversity"] = "sample_diversity"


class PassAtKOptions(MetricOptions):
    """Chance that at least one of k answers to a prompt is right, without bias (Chen et al. 2021)."""

    type: Literal["pass_at_k"] = "pass_at_k"
    of: NonEmptyText
    """Name of the metric that says what is right: 1 is."""
    k: Annotated[tuple[PositiveInt, ...], AsTuple, Field(min_length=1)] = (1,)
    """Each is a metric: `pass_at_k_4`. A prompt with fewer scored answers is not scored."""


class AllOfKOptions(MetricOptions):
    """Chance that all of k answers to a prompt are right: pass^k (Yao et al. 2024)."""

    type: Literal["all_of_k"] = "all_of_k"
    of: NonEmptyText
    """Name of the metric that says what is right: 1 is."""
    k: Annotated[tuple[PositiveInt, ...], AsTuple, Field(min_length=1)] = (1,)
    """Each is a metric: `all_of_k_4`."""


class MajorityOptions(MetricOptions):
    """The most frequent answer to a prompt is right (self-consistency); of equally frequent ones the earliest counts."""

    type: Literal["majority"] = "majority"
    of: NonEmptyText
    """Name of the metric that extracts the answers: number, choice, exact, normalized_match."""
    k: PositiveInt | None = None
    """How many answers vote. Left out: all."""


class PythonOptions(MetricOptions):
    """A function of yours: given an answer (`batchgen.metrics.base.Answer`), it returns a number, or None for "no score"."""

    type: Literal["python"] = "python"
    entry: NonEmptyText
    """`module:function`; with `file`, the function's name alone."""
    file: NonEmptyText | None = None
    """Python file with the function, relative to the job file."""
    unit: Literal["fraction", "count", "score"] = "score"
    """fraction: from 0 to 1."""
    better: Literal["higher", "lower", "neither"] = "higher"
    """Which way is better: for comparisons."""

    @model_validator(mode="after")
    def _place(self) -> Self:
        if self.file is None and not all(self.entry.partition(":")[::2]):
            raise ValueError("entry: expected module:function, or file and the function's name")
        return self


class LengthOptions(MetricOptions):
    """How long the response is."""

    type: Literal["length"] = "length"
    units: Annotated[
        tuple[Literal["characters", "words", "tokens", "sentences"], ...],
        AsTuple,
        Field(min_length=1),
    ] = ("characters",)
    """Each is a metric: `length_words`. A Chinese character is a word; tokens are the model's."""
