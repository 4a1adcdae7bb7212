"""Resolves the decoding settings of a job, and of single rows, to complete values.

job file  >  generation_config.json (only with preset: model)  >  greedy defaults
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any, Literal

from batchgen.decoding.generation_kwargs import (
    ACCEPTED_KWARGS,
    BEAMS,
    SAMPLING,
    check_generation_kwargs,
    is_neutral,
)
from batchgen.decoding.ranges import range_of
from batchgen.decoding_settings import AnswerGrammar
from batchgen.errors import ModelError, UsageError
from batchgen.job.spec import Decoding
from batchgen.records import Failure, ResolvedDecoding

Origin = Literal["job", "generation_config", "default"]

_FILE = "generation_config.json"
_WARPERS = ("top_p", "top_k", "min_p")
_SETTINGS = tuple(
    f.name
    for f in fields(ResolvedDecoding)
    if f.name not in ("end_token_ids", "generation_kwargs", "grammar", "logprobs", "top_logprobs")
)
_DEFAULTS = ResolvedDecoding()


@dataclass(frozen=True, slots=True)
class Resolution:
    """Complete settings and their origins.

    Attributes:
        origins: for each field of `decoding` except `end_token_ids`; fields of `generation_kwargs` as
            `generation_kwargs.<name>`.
    """

    decoding: ResolvedDecoding
    origins: Mapping[str, Origin]

    def with_grammar(self, grammar: AnswerGrammar | None) -> "Resolution":
        """The same settings with the grammar of rows that have none of their own."""
        return replace(self, decoding=replace(self.decoding, grammar=grammar))


@dataclass(slots=True)
class _Draft:
    """Values and origins while they are being collected."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    kwargs: dict[str, object] = field(default_factory=dict)

    def put(self, name: str, value: object, origin: Origin) -> None:
        self.values[name], self.origins[name] = value, origin

    def neutral(self, name: str) -> None:
        self.put(name, getattr(_DEFAULTS, name), "default")

    def add_kwarg(self, name: str, value: object, origin: Origin) -> None:
        self.kwargs[name] = value
        self.origins[f"generation_kwargs.{name}"] = origin


def resolve_decoding(
    spec: Decoding,
    *,
    generation_config: Mapping[str, object],
    end_token_ids: frozenset[int],
) -> Resolution:
    """Resolve every decoding setting. The model's file may be empty; for `end_token_ids` see `end_tokens`.

    With `preset: model`, a setting that is not in the job comes from generation_config.json. A setting that is in
    neither has its greedy default, not the default of `generate` (such as top_k 50): only written settings decide
    an answer. `do_sample: true` without a temperature is temperature 1; without `do_sample: true` the file's
    temperature, top_p, top_k and min_p do not apply, unless the job sets a temperature. The file's max_length and
    num_return_sequences never apply.

    Raises:
        UsageError: settings that contradict each other, or would have no effect.
        ModelError: generation_config.json has a value of the wrong type or size, or one that is not supported.
    """
    if problems := check_generation_kwargs(spec):
        raise UsageError("\n".join(f"{p.key} {p.message}; {p.hint}" for p in problems))
    draft = _Draft()
    for name in _SETTINGS:
        draft.neutral(name)
    if spec.preset == "model":
        _from_model(draft, generation_config)
    _from_job(draft, spec)
    _without_effect(draft, spec)
    decoding = ResolvedDecoding(
        **draft.values,
        logprobs=spec.logprobs is not False,
        top_logprobs=None if isinstance(spec.logprobs, bool) else spec.logprobs,
        end_token_ids=end_token_ids,
        generation_kwargs=tuple(sorted(draft.kwargs.items())),
    )
    draft.origins["logprobs"] = "job" if "logprobs" in spec.model_fields_set else "default"
    _check_contradictions(decoding, spec)
    return Resolution(decoding, draft.origins)


def end_tokens(*sources: object) -> frozenset[int]:
    """The union of end tokens from tokenizer, config and generation_config: ints, lists of ints, or None."""
    lists = [source if isinstance(source, Iterable) else (source,) for source in sources]
    return frozenset(one for one in chain(*lists) if type(one) is int)


def override_decoding(
    decoding: ResolvedDecoding, columns: Mapping[str, str], fields: Mapping[str, object]
) -> ResolvedDecoding | Failure:
    """The settings of one row: `decoding` itself if the row changes nothing.

    `columns` maps settings to input columns, `fields` columns to values. Null keeps the job's setting; numeric text is
    converted. A failure contains the column and the setting, but not the row's value.
    """
    changes: dict[str, Any] = {}
    for setting, column in columns.items():
        value = fields[column]
        if value is None:
            continue
        number = range_of(setting).read(value)
        if number is None:
            return Failure(
                "invalid_override",
                f"column {column!r}: invalid value for decoding.{setting}; "
                f"expected {range_of(setting).words}, or null for the job's setting",
            )
        changes[setting] = number
    changed = replace(decoding, **changes) if changes else decoding
    if changed.min_new_tokens > changed.max_new_tokens:
        named = ", ".join(f"{columns[s]!r} ({s})" for s in changes if s.endswith("_new_tokens"))
        return Failure(
            "invalid_override",
            f"column {named}: min_new_tokens is more than max_new_tokens in this row",
        )
    if changed.greedy and "temperature" in columns:
        # The filters have no effect in a greedy row: equal rows must have equal settings.
        changed = replace(changed, **{name: getattr(_DEFAULTS, name) for name in _WARPERS})
    return decoding if changed == decoding else changed


def _from_model(draft: _Draft, config: Mapping[str, object]) -> None:
    samples = config.get("do_sample")
    if not isinstance(samples, bool | None):
        raise _invalid_value("do_sample", samples, "true or false")
    settings = {name: config[name] for name in _SETTINGS if config.get(name) is not None}
    if not samples:
        settings.pop("temperature", None)
    elif "temperature" not in settings:
        settings["temperature"] = 1.0
    for name, value in settings.items():
        value = [value] if name == "stop_strings" and isinstance(value, str) else value
        accepted = range_of(name).accept(value)
        if accepted is None:
            raise _invalid_value(name, value, range_of(name).words)
        draft.put(name, accepted, "generation_config")
    for name in sorted(ACCEPTED_KWARGS & set(config)):
        if not is_neutral(name, config[name]):
            draft.add_kwarg(name, config[name], "generation_config")
    _check_supported(config)


def _check_supported(config: Mapping[str, object]) -> None:
    for name in _UNFAITHFUL:
        if not is_neutral(name, config.get(name)):
            raise ModelError(
                f"{_FILE}: {name} is not supported, so preset: model cannot be applied",
                hint=_WITHOUT_PRESET,
            )


_WITHOUT_PRESET = "Remove preset: model and write the settings under decoding."
_UNFAITHFUL = (
    "constraints",
    "diversity_penalty",
    "dola_layers",
    "force_words_ids",
    "forced_eos_token_id",
    "min_length",
    "num_beam_groups",
    "penalty_alpha",
    "token_healing",
)
"""Fields that would change the answers but are not supported: ignoring them would be a silent change."""


def _invalid_value(name: str, value: object, expected: str) -> ModelError:
    return ModelError(
        f"{_FILE}: {name}: found {value!r:.60}, expected {expected}",
        hint=f"Correct the file. Or: {_WITHOUT_PRESET}",
    )


def _from_job(draft: _Draft, spec: Decoding) -> None:
    for name in _SETTINGS:
        value = getattr(spec, name)
        if name in spec.model_fields_set and value is not None:
            if range_of(name).accept(value) is None:
                raise UsageError(f"decoding.{name}: {value} is too large")
            draft.put(name, value, "job")
    for name, value in spec.generation_kwargs.items():
        draft.add_kwarg(name, value, "job")


def _without_effect(draft: _Draft, spec: Decoding) -> None:
    """Remove settings of the model's file that have no effect in greedy or single-beam decoding.

    Raises UsageError if the job itself has such a setting. Possible only with preset: model; otherwise the job's schema
    has rejected it.
    """
    idle: list[str] = []
    if draft.values["temperature"] == 0 and "temperature" not in spec.columns:
        idle += [*_WARPERS, *(f"generation_kwargs.{name}" for name in SAMPLING)]
        idle += [f"columns.{name}" for name in _WARPERS if name in spec.columns]
    if draft.values["num_beams"] == 1:
        idle += ["length_penalty", *(f"generation_kwargs.{name}" for name in BEAMS)]
    for name in idle:
        if draft.origins.get(name) == "job" or name.startswith("columns."):
            raise UsageError(
                f"decoding.{name} has no effect: with this model's {_FILE}, preset: model is greedy "
                "without beams",
                hint=f"Set decoding.temperature above 0, or remove decoding.{name}.",
            )
        if name.startswith("generation_kwargs."):
            draft.kwargs.pop(name.removeprefix("generation_kwargs."), None)
            draft.origins.pop(name, None)
        else:
            draft.neutral(name)


def _check_contradictions(decoding: ResolvedDecoding, spec: Decoding) -> None:
    many = spec.num_return_sequences
    may_sample = not decoding.greedy or "temperature" in spec.columns
    if may_sample and decoding.num_beams > 1:
        raise UsageError(
            f"num_beams: {decoding.num_beams} cannot be used with a temperature: beam search is greedy",
            hint="Set decoding.num_beams: 1 or decoding.temperature: 0.",
        )
    if not may_sample and many > decoding.num_beams:
        raise UsageError(
            f"decoding.num_return_sequences: {many} would write the same text several times: with this "
            f"model's {_FILE}, preset: model is greedy with num_beams: {decoding.num_beams}",
            hint="Set decoding.temperature above 0.",
        )
    if decoding.min_new_tokens > decoding.max_new_tokens:
        raise UsageError(
            f"min_new_tokens: {decoding.min_new_tokens} is more than max_new_tokens: "
            f"{decoding.max_new_tokens}",
            hint="Set both under decoding.",
        )
