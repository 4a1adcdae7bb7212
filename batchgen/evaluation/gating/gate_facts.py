"""Facts: what a gate requires and what it found, as a code and values, which each language words.

    Fact("measured", {"on": "value", "value": 0.61, "n": 200})  ->  "value 0.61, n 200"

The manifest contains the facts next to their English text; the report words them in the language of its reader.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = str | int | float | list[dict[str, Any]] | None


@dataclass(frozen=True, slots=True)
class Fact:
    """A statement: its code, and the values of its sentence by name."""

    code: str
    values: Mapping[str, Value] = field(default_factory=dict)

    def plain(self) -> dict[str, Value]:
        """As plain values, for JSON."""
        return {"code": self.code, **self.values}


def fact(code: str, **values: Value) -> Fact:
    """A fact with these values."""
    return Fact(code, values)


def read_facts(recorded: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """Facts as a manifest contains them."""
    return [
        Fact(str(one["code"]), {key: value for key, value in one.items() if key != "code"})
        for one in recorded
    ]


CONDITIONS: Mapping[str, str] = {
    "at_least": "{what} >= {min:g}",
    "at_most": "{what} <= {max:g}",
    "between": "{what} >= {min:g} and <= {max:g}",
    "max_drop": "{where}: no more than {max_drop:g} worse than {baseline}",
    "only_coverage": "{where}: coverage >= {min_coverage:g}",
    "min_coverage": "coverage >= {min_coverage:g}",
    "min_agreement": "agreement >= {min_agreement:g}",
    "drift": "drift of {kind} from {baseline}: p >= {max_p:g}",
    "drift_or_distance": "drift of {kind} from {baseline}: p >= {max_p:g} or distance < {min_distance:g}",
}
"""What a gate requires."""

FINDINGS: Mapping[str, str] = {
    "text": "{text}",
    "no_metric": "no such metric",
    "no_slice": "the scores have no slice {slice!r}",
    "no_rows": "there are no rows to score",
    "coverage": "coverage {coverage:.4g}",
    "coverage_low": "coverage {coverage:.4g}, below {least:g}: set the gate's min_coverage if fewer scores are enough",
    "no_value": "no {on}: {why}",
    "measured": "{on} {value:.4g}, n {n:,}",
    "only_value_passes": "value {value:.4g} would pass, {on} {bound:.4g} does not: {n:,} rows are too few to decide",
    "no_interval": "{why}",
    "no_interval_of_rows": "{n:,} rows are too few for an interval",
    "not_comparable": "{why}",
    "changed": "change {gain:+.4g}, interval {low:+.4g} to {high:+.4g}, n {n:,}",
    "too_few_rows": "too few rows to decide",
    "enough_rows": "about {rows:,} would be enough",
    "enough_pairs": "{pairs:,} such pairs would rule it out",
    "never_enough_pairs": "no number of such pairs rules it out",
    "no_previous": "no previous output to compare with",
    "drift_length": "median {before:,.4g} -> {now:,.4g} characters, distance {distance:.3g}, p {p:.2g}, n {base:,} and {new:,}",
    "drift_shares": "{changes}, distance {distance:.3g}, p {p:.2g}, n {base:,} and {new:,}",
    "too_few_prompts": "too few prompts for any p below {limit:g}; {prompts:,} in each run are the least",
    "no_new_answers": "the new run has no answer to measure",
    "no_base_answers": "the base run has no answer to measure",
    "no_answers": "neither run has an answer to measure",
    "agreement_unknown": "agreement of {metric} with people is not known: {why}",
    "agreement_no_scores": "agreement of {metric} with people is not known: {path} has no scores",
    "agreement_no_metric": "agreement of {metric} with people is not known: {path} has no scores of {missing}",
    "agreement_no_range": "agreement of {metric} with people is not known: {missing} has no range",
    "agreement_few": "agreement of {metric} with people is not known: {answers:,} answers have scores of both",
    "agreement_low": "{metric} does not count: its agreement with people is {alpha:.2f} over {answers:,} answers",
    "agreement_other": "{metric} is not the metric whose agreement {path} shows: its settings differ",
}
"""What a gate found: the first fact is the finding, the others follow from it."""
_NAMES = frozenset({"on", "kind", "baseline", "why"})
"""Values that a language words."""


@dataclass(frozen=True, slots=True)
class FactLanguage:
    """How facts are worded.

    Attributes:
        sentences: templates by code.
        name: words a value that is a name, such as a kind of drift, or a reason, which files contain in English.
        joints: between conditions, after the first finding, and between the others.
    """

    sentences: Mapping[str, str]
    name: Callable[[str], str] = str
    joints: tuple[str, str, str] = (", ", ": ", "; ")

    def word(self, one: Fact) -> str:
        """A fact in words."""
        values = {key: self._value(key, value) for key, value in one.values.items()}
        slice_name = one.values.get("slice")
        where = f"{one.values.get('metric')}{f' ({slice_name})' if slice_name else ''}"
        on = one.values.get("on", "value")
        what = where if on == "value" else f"{where} {values['on']}"
        return self.sentences[one.code].format(**{"where": where, "what": what, **values})

    def _value(self, key: str, value: Value) -> Value:
        if isinstance(value, list):
            changes = (
                f"{self.name(one['name'])} {percent(one['before'])} -> {percent(one['now'])}"
                for one in value
            )
            return self.joints[0].join(text.lstrip() for text in changes)
        return self.name(value) if key in _NAMES and isinstance(value, str) else value

    def condition(self, facts: Sequence[Fact]) -> str:
        """A condition in words, such as "exact >= 0.6, coverage >= 0.9"."""
        return self.joints[0].join(map(self.word, facts))

    def finding(self, facts: Sequence[Fact]) -> str:
        """A finding in words: "change -0.1, n 20: too few rows to decide; about 300 would be enough"."""
        first, *others = map(self.word, facts)
        return self.joints[1].join([first, self.joints[2].join(others)]) if others else first


ENGLISH = FactLanguage({**CONDITIONS, **FINDINGS})


def percent(share: float) -> str:
    """A share in percent, with two digits below one percent."""
    found = 100 * share
    return f"{found:.2f} %" if 0 < found < 1 else f"{found:.1f} %"
