"""Resolved settings: precedence, origins, errors, and overrides by single rows."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchgen.decoding.resolve_decoding import end_tokens, override_decoding, resolve_decoding
from batchgen.errors import ModelError, UsageError
from batchgen.job.spec import OVERRIDABLE, Decoding
from batchgen.records import Failure, ResolvedDecoding

CHATTY = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}


def resolved(
    spec: dict[str, Any], config: dict[str, object] | None = None
) -> tuple[ResolvedDecoding, dict[str, str]]:
    found = resolve_decoding(
        Decoding(**spec), generation_config=config or {}, end_token_ids=frozenset({2})
    )
    return found.decoding, dict(found.origins)


MODEL = {"preset": "model"}


@pytest.mark.parametrize(
    ("spec", "config", "expected"),
    [
        pytest.param({}, CHATTY, {}, id="a model's own values never apply unasked"),
        pytest.param(MODEL, CHATTY, {"temperature": 0.6, "top_p": 0.95, "top_k": 20}, id="requested"),
        pytest.param({**MODEL, "top_p": 0.5}, CHATTY, {"temperature": 0.6, "top_p": 0.5, "top_k": 20}, id="the job wins"),
        pytest.param({**MODEL, "top_k": 0}, CHATTY, {"temperature": 0.6, "top_p": 0.95}, id="and may switch off"),
        pytest.param({**MODEL, "temperature": 0}, CHATTY, {}, id="greedy takes no filters along"),
        pytest.param(MODEL, {}, {}, id="an empty file is greedy"),
        pytest.param(MODEL, {"do_sample": True}, {"temperature": 1.0}, id="sampling without a temperature is 1"),
        pytest.param(MODEL, {**CHATTY, "do_sample": False}, {}, id="do_sample false is greedy"),
        pytest.param(MODEL, {"temperature": 0.6, "top_p": 0.9}, {}, id="do_sample absent is greedy"),
        pytest.param(MODEL, {**CHATTY, "do_sample": None}, {}, id="do_sample null is greedy"),
        pytest.param({**MODEL, "temperature": 0.7}, {"top_p": 0.9}, {"temperature": 0.7, "top_p": 0.9}, id="the job samples, the file filters"),
        pytest.param(MODEL, {"repetition_penalty": 1.1, "max_new_tokens": 99}, {"repetition_penalty": 1.1, "max_new_tokens": 99}, id="greedy keeps the rest"),
        pytest.param({**MODEL, "max_new_tokens": 256}, {"max_new_tokens": 99}, {}, id="a default written out is given"),
        pytest.param(MODEL, {"num_beams": 4, "length_penalty": 2}, {"num_beams": 4, "length_penalty": 2.0}, id="beams"),
        pytest.param(MODEL, {"length_penalty": 2.0}, {}, id="length_penalty idles without beams"),
        pytest.param(MODEL, {"stop_strings": "###"}, {"stop_strings": ("###",)}, id="one stop string"),
        pytest.param(MODEL, {"stop_strings": ["a", "b"]}, {"stop_strings": ("a", "b")}, id="stop strings"),
        pytest.param(MODEL, {"top_p": None, "max_length": 20, "num_return_sequences": 3}, {}, id="nulls and totals"),
        pytest.param(MODEL, {"suppress_tokens": [5], "typical_p": 0.9, "epsilon_cutoff": 0.0}, {"generation_kwargs": (("suppress_tokens", [5]),)}, id="further fields, not idle ones"),
        pytest.param(MODEL, {**CHATTY, "typical_p": 0.9}, {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "generation_kwargs": (("typical_p", 0.9),)}, id="further warpers"),
        pytest.param({**MODEL, "generation_kwargs": {"suppress_tokens": [7]}}, {"suppress_tokens": [5]}, {"generation_kwargs": (("suppress_tokens", [7]),)}, id="the job wins there too"),
        pytest.param({"columns": {"temperature": "t"}, "top_p": 0.9}, {}, {"top_p": 0.9}, id="filters stay for rows that sample"),
        pytest.param({**MODEL, "columns": {"temperature": "t"}}, {"top_p": 0.9}, {"top_p": 0.9}, id="those of the file as well"),
        pytest.param({"logprobs": True, "stop_strings": "x", "min_new_tokens": 3}, {}, {"logprobs": True, "stop_strings": ("x",), "min_new_tokens": 3}, id="plain values"),
    ],
)  # fmt: skip
def test_job_before_model_before_default(
    spec: dict[str, Any], config: dict[str, object], expected: dict[str, Any]
) -> None:
    decoding, _ = resolved(spec, config)
    assert decoding == ResolvedDecoding(**expected, end_token_ids=frozenset({2}))


def test_origins_of_each_value() -> None:
    spec = {**MODEL, "top_p": 0.5, "generation_kwargs": {"suppress_tokens": [7]}}
    _, origins = resolved(spec, {**CHATTY, "renormalize_logits": True})
    given_by = {
        "top_p": "job",
        "generation_kwargs.suppress_tokens": "job",
        "temperature": "generation_config",
        "top_k": "generation_config",
        "generation_kwargs.renormalize_logits": "generation_config",
    }
    assert origins == {**dict.fromkeys(origins, "default"), **given_by}
    assert {"max_new_tokens", "num_beams", "stop_strings", "logprobs"} <= origins.keys()


def test_ignored_values_have_the_origin_default() -> None:
    _, origins = resolved(MODEL, {"top_p": 0.9, "typical_p": 0.5, "length_penalty": 2.0})
    assert set(origins.values()) == {"default"}
    assert "generation_kwargs.typical_p" not in origins


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"do_sample": "yes"}, ["do_sample", "'yes'", "true or false"]),
        ({"do_sample": 1}, ["do_sample", "1"]),
        ({**CHATTY, "temperature": "0.6"}, ["temperature", "'0.6'", "a number from 0 to 10"]),
        ({**CHATTY, "temperature": -1}, ["temperature", "-1"]),
        ({"top_p": 1.5}, ["top_p", "1.5", "a number above 0, up to 1"]),
        ({"top_k": 20.5}, ["top_k", "20.5", "a whole number from 0 on"]),
        ({"top_k": True}, ["top_k", "True"]),
        ({"top_k": 2**40}, ["top_k"]),
        ({"min_p": float("nan")}, ["min_p", "nan"]),
        ({"repetition_penalty": 0}, ["repetition_penalty"]),
        ({"max_new_tokens": 0}, ["max_new_tokens", "from 1 on"]),
        ({"num_beams": 1000}, ["num_beams", "from 1 to 64"]),
        ({"stop_strings": [1]}, ["stop_strings", "texts"]),
        ({"min_length": 10}, ["min_length", "is not supported"]),
        ({"penalty_alpha": 0.6}, ["penalty_alpha", "is not supported"]),
        ({"num_beam_groups": 2}, ["num_beam_groups", "is not supported"]),
    ],
)
def test_the_error_names_a_model_file_that_cannot_be_applied(
    config: dict[str, object], message: list[str]
) -> None:
    with pytest.raises(ModelError) as caught:
        resolved(MODEL, config)
    for words in ["generation_config.json", *message]:
        assert words in str(caught.value)
    assert caught.value.hint
    assert resolved({}, config)[0] == ResolvedDecoding(end_token_ids=frozenset({2}))


@pytest.mark.parametrize(
    ("spec", "config", "message"),
    [
        ({**MODEL, "top_p": 0.5}, {}, "decoding.top_p has no effect"),
        ({**MODEL, "temperature": 0, "min_p": 0.1}, CHATTY, "decoding.min_p has no effect"),
        ({**MODEL, "columns": {"top_k": "k"}}, {}, "decoding.columns.top_k has no effect"),
        ({**MODEL, "generation_kwargs": {"typical_p": 0.5}}, {}, "typical_p has no effect"),
        ({**MODEL, "generation_kwargs": {"early_stopping": True}}, {}, "early_stopping has no effect"),
        ({**MODEL, "num_return_sequences": 3}, {}, "num_return_sequences"),
        (MODEL, {**CHATTY, "num_beams": 2}, "num_beams: 2 cannot be used with a temperature"),
        ({**MODEL, "columns": {"temperature": "t"}}, {"num_beams": 2}, "num_beams: 2"),
        ({**MODEL, "max_new_tokens": 5}, {"min_new_tokens": 9}, "min_new_tokens: 9 is more than"),
        ({"temperature": 1.0, "top_k": 2**31}, {}, "decoding.top_k: 2147483648 is too large"),
        ({"generation_kwargs": {"suppress_token": [1]}}, {}, "Did you mean suppress_tokens?"),
    ],
)  # fmt: skip
def test_settings_without_effect_are_refused(
    spec: dict[str, Any], config: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolved(spec, config)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([], set()),
        ([None, None], set()),
        ([2], {2}),
        ([2, [2, 7], None, (9,)], {2, 7, 9}),
        ([0], {0}),
        ([[None, 3]], {3}),
        ([True, "2"], set()),
    ],
)
def test_end_tokens_of_all_sources_are_used(sources: list[object], expected: set[int]) -> None:
    assert end_tokens(*sources) == expected


# Rows.

BASE = ResolvedDecoding(temperature=0.5, top_p=0.9, max_new_tokens=64)


def by_row(setting: str, cell: object, base: ResolvedDecoding = BASE) -> ResolvedDecoding | Failure:
    return override_decoding(base, {setting: "cell"}, {"cell": cell, "other": object()})


@pytest.mark.parametrize(
    ("setting", "cell", "value"),
    [
        ("temperature", 0.7, 0.7),
        ("temperature", 1, 1.0),
        ("temperature", "0.7", 0.7),
        ("temperature", " 7e-1 ", 0.7),
        ("temperature", "０.７", 0.7),
        ("temperature", Decimal("0.7"), 0.7),
        ("top_k", 5, 5),
        ("top_k", "5", 5),
        ("top_k", "5.0", 5),
        ("top_k", 5.0, 5),
        ("max_new_tokens", Decimal(1), 1),
    ],
    ids=repr,
)
def test_a_cell_may_contain_a_number_as_text(setting: str, cell: object, value: float) -> None:
    changed = by_row(setting, cell)
    assert isinstance(changed, ResolvedDecoding)
    assert getattr(changed, setting) == value
    assert type(getattr(changed, setting)) is type(value)


@pytest.mark.parametrize("setting", OVERRIDABLE)
def test_a_null_cell_keeps_the_setting_of_the_job(setting: str) -> None:
    assert by_row(setting, None) is BASE


SECRET = "patient 4711"


@pytest.mark.parametrize("setting", OVERRIDABLE)
@pytest.mark.parametrize(
    "cell",
    [
        *("", " ", SECRET, "0,7", "1_0", "nan", "inf", "-1", "1e999", "0x1", "٣٫٥"),
        *(-1, 10**40, float("nan"), float("inf"), True, False, [1], {"a": 1}, b"1"),
    ],
    ids=repr,
)
def test_any_other_cell_fails_the_row_and_is_not_repeated(setting: str, cell: object) -> None:
    failure = by_row(setting, cell)
    assert isinstance(failure, Failure)
    assert failure.code == "invalid_override"
    assert "'cell'" in failure.message
    assert f"decoding.{setting}" in failure.message
    assert SECRET not in failure.message


@pytest.mark.parametrize(
    ("setting", "cell", "range_"),
    [
        ("temperature", 10.5, "a number from 0 to 10"),
        ("top_p", 0, "a number above 0, up to 1"),
        ("top_p", "1.01", "a number above 0, up to 1"),
        ("top_k", 2.5, "a whole number from 0 on"),
        ("top_k", 2**31, "a whole number from 0 on"),
        ("max_new_tokens", 0, "a whole number from 1 on"),
    ],
)
def test_the_message_for_a_value_out_of_range_contains_the_range(
    setting: str, cell: object, range_: str
) -> None:
    failure = by_row(setting, cell)
    assert isinstance(failure, Failure)
    assert range_ in failure.message


def test_several_columns_change_a_row_together() -> None:
    columns = {"temperature": "t", "top_k": "k", "min_p": "m"}
    changed = override_decoding(BASE, columns, {"t": "2", "k": None, "m": 0.1})
    assert changed == ResolvedDecoding(temperature=2.0, top_p=0.9, min_p=0.1, max_new_tokens=64)


def test_a_greedy_override_drops_the_filters() -> None:
    assert by_row("temperature", "0") == ResolvedDecoding(max_new_tokens=64)


def test_greedy_rows_have_equal_settings() -> None:
    base = ResolvedDecoding(top_p=0.9)
    assert by_row("temperature", None, base) == ResolvedDecoding()
    assert by_row("temperature", "0.5", base) == ResolvedDecoding(temperature=0.5, top_p=0.9)


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        ({"min_new_tokens": "least"}, {"least": 65}),
        ({"max_new_tokens": "most", "min_new_tokens": "least"}, {"most": "4", "least": "5"}),
    ],
)
def test_more_tokens_at_least_than_at_most_fails_the_row(
    columns: dict[str, str], fields: dict[str, object]
) -> None:
    failure = override_decoding(BASE, columns, fields)
    assert isinstance(failure, Failure)
    assert failure.code == "invalid_override"
    assert all(repr(column) in failure.message for column in columns.values())


NUMBERS = st.integers() | st.floats() | st.decimals()
CELLS = st.none() | st.booleans() | st.text() | NUMBERS | NUMBERS.map(str)


@settings(max_examples=60, deadline=None)
@example({"top_k": Decimal("sNaN")})
@given(st.dictionaries(st.sampled_from(OVERRIDABLE), CELLS))
def test_no_cell_ends_a_run(cells: dict[str, object]) -> None:
    changed = override_decoding(BASE, {setting: setting for setting in cells}, cells)
    if isinstance(changed, ResolvedDecoding):
        given_values = {name: getattr(changed, name) for name in OVERRIDABLE}
        filters = {} if changed.temperature else dict.fromkeys(("top_p", "top_k", "min_p"))
        Decoding(**{k: v for k, v in given_values.items() if k not in filters})
