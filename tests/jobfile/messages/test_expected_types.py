import pytest

from batchgen.jobfile.messages.expected_types import all_keys, expected_at
from batchgen.jobfile.tree import parse_key


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("description", "text"),
        ("version", "1"),
        ("input", "a mapping"),
        ("input.path", "text, or a list of one or more texts"),
        ("input.path[0]", "text"),
        ("input.csv.quote", "one character"),
        ("input.csv.delimiter", "one character, or auto"),
        ("input.limit", "a whole number of at least 1"),
        ("prompt.messages", "a list of one or more mappings"),
        ("prompt.messages[3].role", "system, user or assistant"),
        ("prompt.chat_template_kwargs", "a mapping"),
        ("prompt.chat_template_kwargs.a.b[0]", "any value"),
        ("decoding.columns.top_k", "text"),
        ("decoding.top_p", "a number above 0 and at most 1"),
        ("decoding.temperature", "a number from 0 to 10"),
        ("output.store_prompt", "true or false"),
        ("decoding.logprobs", "true or false, or a whole number from 0 to 20"),
        ("batching.max_rows", "a whole number of at least 1, or auto"),
        ("run.seed", "a whole number from 0 to 2^63 - 1"),
        ("output.keep_columns", "all or none, or a list of texts"),
    ],
)
def test_expected_types_are_described_in_words(key: str, words: str) -> None:
    assert str(expected_at(parse_key(key))) == words


@pytest.mark.parametrize("key", ["nothing", "input.nothing", "name.x", "name[0]", "prompt.user[0]"])
def test_a_key_that_does_not_exist_expects_nothing(key: str) -> None:
    assert expected_at(parse_key(key)) is None


def test_every_key_has_an_explanation() -> None:
    for path in all_keys():
        expected = expected_at(path)
        assert expected is not None
        assert expected.description or expected.section is not None, path
