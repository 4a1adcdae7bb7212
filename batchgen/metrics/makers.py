"""From what a job says about a metric to the metric: one function per type. `catalog.py` lists them."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import regex

from batchgen.job import metric_options as options
from batchgen.metrics import (
    diversity,
    language,
    length,
    likelihood,
    overlap,
    samples,
    structure,
    texts,
)
from batchgen.metrics.base import Metric, Spec
from batchgen.metrics.bleu import Bleu
from batchgen.metrics.choice import Choice
from batchgen.metrics.choice_rules import LabelFinder
from batchgen.metrics.chrf import SIGNATURE as CHRF_SIGNATURE
from batchgen.metrics.chrf import ChrF
from batchgen.metrics.constraints import (
    Constraints,
    Instruction,
    InstructionLevel,
    PromptLevel,
    Strictness,
    instruction_checks,
)
from batchgen.metrics.contains import Contains, RegexMatch
from batchgen.metrics.edits import CharacterErrorRate, EditDistance, levenshtein
from batchgen.metrics.match import Match
from batchgen.metrics.multiple_choice import MultipleChoice
from batchgen.metrics.number.metric import NumberMatch
from batchgen.metrics.pii import PiiLeak
from batchgen.metrics.python import user_function
from batchgen.metrics.refusal import Refusal
from batchgen.metrics.repetition import Repetition
from batchgen.privacy.entities import PII_KINDS


def _variant(spec: Spec, name: str) -> Spec:
    return replace(spec, name=f"{spec.name}_{name}")


def exact(spec: Spec, _asked: options.ExactOptions) -> tuple[Metric, ...]:
    """Letter by letter."""
    return (Match(spec, str.strip),)


def normalized_match(spec: Spec, asked: options.NormalizedMatchOptions) -> tuple[Metric, ...]:
    """But for case, width, punctuation."""
    keeps = asked.articles == "keep"
    return (Match(spec, texts.normalize if keeps else texts.normalize_without_articles),)


def contains(spec: Spec, asked: options.ContainsOptions) -> tuple[Metric, ...]:
    """Certain texts."""
    return (Contains(spec, asked.texts or (), asked.mode, asked.boundaries),)


def regex_(spec: Spec, asked: options.RegexOptions) -> tuple[Metric, ...]:
    """A pattern."""
    return (RegexMatch(spec, regex.compile(asked.pattern), asked.expect, asked.timeout),)


def choice(spec: Spec, asked: options.ChoiceOptions) -> tuple[Metric, ...]:
    """The letter of a multiple choice."""
    return (Choice(spec, LabelFinder(asked.labels), asked.options or ""),)


def number(spec: Spec, asked: options.NumberOptions) -> tuple[Metric, ...]:
    """The number that answers."""
    # Through its decimal form: 0.1 is meant as a tenth.
    return (NumberMatch(spec, Fraction(str(asked.tolerance)), asked.pick, asked.mark),)


def token_f1(spec: Spec, asked: options.TokenF1Options) -> tuple[Metric, ...]:
    """Shared tokens."""
    keeps = asked.articles == "keep"
    tokenize = texts.split_tokens if keeps else overlap.tokens_without_articles
    return (overlap.Overlap(spec, overlap.unigram_f1, tokenize),)


_ROUGE = {"1": overlap.unigram_f1, "2": overlap.bigram_f1, "L": overlap.lcs_f1}


def rouge(spec: Spec, asked: options.RougeOptions) -> tuple[Metric, ...]:
    """Each variant of ROUGE."""
    return tuple(overlap.Overlap(_variant(spec, v), _ROUGE[v]) for v in asked.variants)


_COUNTS = {
    "characters": length.count_characters,
    "words": length.count_words,
    "sentences": length.count_sentences,
}


def chrf(spec: Spec, _asked: options.ChrFOptions) -> tuple[Metric, ...]:
    """Groups of characters."""
    return (ChrF(replace(spec, signature=CHRF_SIGNATURE)),)


def bleu(spec: Spec, asked: options.BleuOptions) -> tuple[Metric, ...]:
    """BLEU of sacrebleu."""
    return (Bleu(spec, asked.tokenize),)


def edit_distance(spec: Spec, _asked: options.EditDistanceOptions) -> tuple[Metric, ...]:
    """Characters to change."""
    return (EditDistance(spec, levenshtein()),)


def cer(spec: Spec, _asked: options.CerOptions) -> tuple[Metric, ...]:
    """Characters to change, by length."""
    return (CharacterErrorRate(spec, levenshtein()),)


def json(spec: Spec, asked: options.JsonOptions) -> tuple[Metric, ...]:
    """Valid JSON."""
    return (structure.JsonValid(spec, asked.fenced, structure.accept_anything),)


def json_schema(spec: Spec, asked: options.JsonSchemaOptions) -> tuple[Metric, ...]:
    """JSON that fits a schema."""
    schema = structure.read_schema(Path(asked.schema_))
    signed = replace(spec, signature=f"sha256:{schema.sha256}")
    return (structure.JsonValid(signed, asked.fenced, schema.misfit),)


def repetition(spec: Spec, _asked: options.RepetitionOptions) -> tuple[Metric, ...]:
    """Running in circles."""
    return (Repetition(spec),)


def language_(spec: Spec, asked: options.LanguageOptions) -> tuple[Metric, ...]:
    """The expected language."""
    detect, form = (
        (language.main_script, language.script_of)
        if asked.detector == "script"
        else (language.trained_detector(), language.primary_code)
    )
    return (language.LanguageMatch(spec, asked.expect, asked.column or "", detect, form),)


def refusal(spec: Spec, asked: options.RefusalOptions) -> tuple[Metric, ...]:
    """Declining to answer."""
    return (Refusal(replace(spec, higher_is_better=asked.wanted == "refusal")),)


def pii(spec: Spec, asked: options.PiiOptions) -> tuple[Metric, ...]:
    """Personal data."""
    return (
        PiiLeak(spec, frozenset(PII_KINDS) if asked.kinds == "all" else frozenset(asked.kinds)),
    )


def constraints(spec: Spec, asked: options.ConstraintsOptions) -> tuple[Metric, ...]:
    """Each variant of instruction following."""
    fixed = tuple(
        Instruction(check["id"], {k: v for k, v in check.items() if k != "id"})
        for check in asked.checks
    )
    columns = (asked.instructions, asked.keywords) if asked.instructions and asked.keywords else ()
    checks = instruction_checks()
    made: list[Metric] = []
    for name in asked.variants:
        one = _variant(spec, name)
        mode: Strictness = "loose" if name.endswith("loose") else "strict"
        constraints = Constraints(one, mode, fixed, columns, checks)
        level = PromptLevel if name.startswith("prompt") else InstructionLevel
        made.append(level(one, constraints))
    return tuple(made)


def distinct(spec: Spec, asked: options.DistinctOptions) -> tuple[Metric, ...]:
    """Variety, for each n."""
    return tuple(diversity.Distinct(_variant(spec, str(n)), n, asked.window) for n in asked.n)


def duplicates(spec: Spec, asked: options.DuplicatesOptions) -> tuple[Metric, ...]:
    """Repeated answers, exact and near."""
    return tuple(
        diversity.ExactDuplicates(_variant(spec, name))
        if name == "exact"
        else diversity.NearDuplicates(_variant(spec, name), asked.similarity)
        for name in asked.variants
    )


def sample_diversity(spec: Spec, _asked: options.SampleDiversityOptions) -> tuple[Metric, ...]:
    """Variety of one prompt's answers."""
    return (diversity.SampleDiversity(spec),)


def pass_at_k(spec: Spec, asked: options.PassAtKOptions) -> tuple[Metric, ...]:
    """At least one of k."""
    return tuple(samples.PassAtK(_variant(spec, str(k)), asked.of, k) for k in asked.k)


def all_of_k(spec: Spec, asked: options.AllOfKOptions) -> tuple[Metric, ...]:
    """All of k."""
    return tuple(samples.AllOfK(_variant(spec, str(k)), asked.of, k) for k in asked.k)


def majority(spec: Spec, asked: options.MajorityOptions) -> tuple[Metric, ...]:
    """The most frequent answer."""
    return (samples.Majority(spec, asked.of, asked.k),)


def loglikelihood(spec: Spec, asked: options.LoglikelihoodOptions) -> tuple[Metric, ...]:
    """How likely a text is."""
    return (likelihood.Loglikelihood(spec, _subject(asked.column, asked.delimiter), asked.per),)


def perplexity(spec: Spec, asked: options.PerplexityOptions) -> tuple[Metric, ...]:
    """How surprised the model is, by token."""
    return (likelihood.perplexity(spec, _subject(asked.column, asked.delimiter)),)


def bits_per_byte(spec: Spec, asked: options.BitsPerByteOptions) -> tuple[Metric, ...]:
    """How surprised the model is, by byte."""
    return (likelihood.bits_per_byte(spec, _subject(asked.column, asked.delimiter)),)


def multiple_choice(spec: Spec, asked: options.MultipleChoiceOptions) -> tuple[Metric, ...]:
    """The likeliest option."""
    return (MultipleChoice(spec, asked.options, asked.delimiter, asked.normalize, asked.gold),)


def _subject(column: str | None, delimiter: str) -> likelihood.TextSelector:
    return likelihood.TextSelector(column or "", delimiter)


_BETTER = {"higher": True, "lower": False, "neither": None}


def python(spec: Spec, asked: options.PythonOptions) -> tuple[Metric, ...]:
    """The user's function."""
    known = replace(spec, unit=asked.unit, higher_is_better=_BETTER[asked.better])
    return (user_function(known, asked.entry, Path(asked.file) if asked.file else None),)


def length_(spec: Spec, asked: options.LengthOptions) -> tuple[Metric, ...]:
    """Length in each unit."""
    return tuple(
        length.TokenLength(_variant(spec, unit))
        if unit == "tokens"
        else length.Length(_variant(spec, unit), _COUNTS[unit])
        for unit in asked.units
    )
