import datetime as dt
import hashlib
import math
from pathlib import Path

import pytest

from batchgen.fingerprint import ABSENT, KeyDifference, differences, fingerprint


def test_a_fingerprint_is_the_hash_of_canonical_json() -> None:
    expected = hashlib.sha256(b'{"a":[1,2.5,null,true],"b":{"c":"\\u8bed"}}').hexdigest()
    assert fingerprint({"b": {"c": "语"}, "a": (1, 2.5, None, True)}) == expected


def test_the_type_of_a_container_does_not_matter() -> None:
    held = {"a": [1], "s": ["x", "y"], "p": "/x", "d": "2026-03-09", "m": {"y": 1, "x": 2}}
    same = {
        "m": {"x": 2, "y": 1},
        "d": dt.date(2026, 3, 9),
        "p": Path("/x"),
        "s": frozenset({"y", "x"}),
        "a": (1,),
    }
    assert fingerprint(held) == fingerprint(same)
    assert differences(held, same) == []


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (1, True), ("1", 1), (None, "null"), ([1, 2], [2, 1]), ({}, None)]
)
def test_different_values_have_different_fingerprints(one: object, other: object) -> None:
    assert fingerprint({"a": one}) != fingerprint({"a": other})
    assert differences({"a": one}, {"a": other}) == [KeyDifference("a", one, other)]


def test_differences_name_nested_and_missing_keys() -> None:
    old = {"decoding": {"temperature": 0.0, "kwargs": {}}, "gone": {"x": 1}, "same": [1]}
    new = {"decoding": {"temperature": 0.7, "kwargs": {"k": 1}}, "new": None, "same": (1,)}
    assert differences(old, new) == [
        KeyDifference("decoding.kwargs", {}, ABSENT),
        KeyDifference("decoding.kwargs.k", ABSENT, 1),
        KeyDifference("decoding.temperature", 0.0, 0.7),
        KeyDifference("gone.x", 1, ABSENT),
        KeyDifference("new", ABSENT, None),
    ]


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (KeyDifference("a.b", 0.0, 0.7), "a.b was 0.0, is 0.7"),
        (KeyDifference("a", ABSENT, None), "a was not set, is null"),
        (KeyDifference("a", "语", True), 'a was "语", is true'),
        (KeyDifference("a", "x" * 99, 1), f'a was "{"x" * 58}…, is 1'),
        (
            KeyDifference("a", "x" * 99 + "old", "x" * 99 + "new"),
            f'a was …{"x" * 15}old", is …{"x" * 15}new"',
        ),
        (
            KeyDifference("a", "x" * 99 + "old" + "y" * 99, "x" * 99),
            f'a was …{"x" * 15}old{"y" * 41}…, is …{"x" * 15}"',
        ),
        (KeyDifference("k.api_key", "old secret", "new secret"), "k.api_key changed"),
        (KeyDifference("d.max_new_tokens", 256, 7), "d.max_new_tokens was 256, is 7"),
        (KeyDifference("p.max_input_tokens", 9, 7), "p.max_input_tokens was 9, is 7"),
    ],
)
def test_a_difference_as_text(difference: KeyDifference, words: str) -> None:
    assert str(difference) == words


@pytest.mark.parametrize(
    ("settings", "error"),
    [({"a": math.nan}, ValueError), ({"a": object()}, TypeError), ({"a": {1: 2}}, TypeError)],
)
def test_values_without_a_json_form_are_rejected(
    settings: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        fingerprint(settings)
