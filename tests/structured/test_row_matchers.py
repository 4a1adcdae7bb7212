"""A matcher is that of the row's tokens, whatever became of them; a form after a mark begins with the mark."""

from typing import Any

import numpy as np
import pytest

from batchgen.decoding_settings import AnswerGrammar, ResolvedDecoding
from batchgen.structured.row_matchers import GrammarRow, Outcome, RowMatchers
from tests.structured.byte_matchers import END, WIDTH, ByteDecoder, encode


def row(text: str, grammar: AnswerGrammar, **settings: Any) -> GrammarRow:
    ends = frozenset({END})
    return GrammarRow(
        0, "key", ResolvedDecoding(grammar=grammar, end_token_ids=ends, **settings), encode(text)
    )


def allowed(matchers: RowMatchers, one: GrammarRow) -> str:
    """The characters that may come next; `.` for the end, `*` for any token but the end."""
    bits = np.unpackbits(matchers.masks([one], WIDTH).view(np.uint8), bitorder="little")[:WIDTH]
    tokens = np.flatnonzero(bits).tolist()
    if tokens == [token for token in range(WIDTH) if token != END]:
        return "*"
    letters = ByteDecoder()
    return "".join(sorted("." if token == END else letters([token]) for token in tokens))


IN_OR_INSIDE = AnswerGrammar("choice", '["in","inside","no"]')


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param(["", "i", "in"], ".s", id="token after token"),
        pytest.param(["insid"], "e", id="several at once"),
        pytest.param(["", "n", ""], "in", id="begins again"),
        pytest.param(["insi", "in"], ".s", id="fewer tokens"),
        pytest.param(["insi", "", "n"], "o", id="another beginning"),
        pytest.param(["x"], "", id="outside the form"),
    ],
)
def test_the_mask_is_that_of_the_tokens(texts: list[str], expected: str) -> None:
    matchers = RowMatchers(ByteDecoder())
    *_, found = [allowed(matchers, row(text, IN_OR_INSIDE)) for text in texts]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "token", "outcome"),
    [
        pytest.param("n", "o", "complete", id="last token"),
        pytest.param("i", "n", "open", id="may go further"),
        pytest.param("n", "x", "stuck", id="outside the form"),
    ],
)
def test_the_outcome_of_a_token(text: str, token: str, outcome: Outcome) -> None:
    matchers, one = RowMatchers(ByteDecoder()), row(text, IN_OR_INSIDE)
    matchers.masks([one], WIDTH)
    assert matchers.accept(one, encode(token)[0]) == outcome
    assert (one.key in matchers._rows) is (outcome == "open")


@pytest.mark.parametrize(("token", "limit"), [(END, 9), (0, 3)])
def test_the_matcher_of_an_ended_row_is_dropped(token: int, limit: int) -> None:
    matchers, one = RowMatchers(ByteDecoder()), row("in", IN_OR_INSIDE, max_new_tokens=limit)
    matchers.masks([one], WIDTH)
    matchers.accept(one, token or encode("s")[0])
    assert not matchers._rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("I think", "*", id="before the mark"),
        pytest.param("so </thin", "*", id="half a mark"),
        pytest.param("so</think>", "in", id="behind the mark"),
        pytest.param("</think>ins", "i", id="within the form"),
    ],
)
def test_a_form_begins_after_its_mark(text: str, expected: str) -> None:
    after = AnswerGrammar("choice", IN_OR_INSIDE.text, "</think>")
    assert allowed(RowMatchers(ByteDecoder()), row(text, after)) == expected
