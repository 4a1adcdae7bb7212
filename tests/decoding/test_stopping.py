"""The end and the text of an answer; the oracle decodes the whole answer at every step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchgen.decoding.stopping import Stopper
from batchgen.records import FinishReason, ResolvedDecoding
from tests.plain_decoder import PlainDecoder

Decode = Callable[[Sequence[int]], str]
END, MARK = 0, 98


class ByteLevel:
    """Decodes like byte-level BPE: each token is a run of bytes, which may end inside a character."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = [b"", *pieces]
        self.decoded = 0

    def __call__(self, token_ids: Sequence[int]) -> str:
        self.decoded += len(token_ids)
        return b"".join(self.pieces[t] for t in token_ids).decode("utf-8", "replace")


class WordLevel:
    """Decodes like sentencepiece: words joined by spaces, the first one without, punctuation attached."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = ["", *words]

    def __call__(self, token_ids: Sequence[int]) -> str:
        text = "".join(" " + self.words[t] for t in token_ids if self.words[t])
        return text.removeprefix(" ").replace(" .", ".")


@dataclass(frozen=True)
class Ended:
    """Number of tokens, finish reason, text."""

    tokens: int
    reason: FinishReason | None
    text: str


def followed(decoding: ResolvedDecoding, decode: Decode, tokens: Sequence[int]) -> Ended:
    stopper = Stopper(decoding, PlainDecoder(decode, {MARK: "<mark>"}))
    for count, token in enumerate(tokens, start=1):
        if reason := stopper.push(token):
            return Ended(count, reason, stopper.finish())
    return Ended(len(tokens), None, stopper.finish())


def brute_force(decoding: ResolvedDecoding, decode: Decode, tokens: Sequence[int]) -> Ended:
    taken: list[int] = []
    early = ""
    for token in tokens:
        reason: FinishReason | None = None
        if token in decoding.end_token_ids:
            reason = "stop"
        else:
            taken.append(token)
            if len(taken) == decoding.max_new_tokens:
                reason = "length"
        text = decode(taken)
        # An incomplete character becomes text only when no token can complete it.
        certain = text if reason else text.rstrip("\N{REPLACEMENT CHARACTER}")
        if len(taken) == decoding.min_new_tokens:
            early = text.rstrip("\N{REPLACEMENT CHARACTER}")
        places = [
            place
            for s in decoding.stop_strings
            for place in range(len(certain))
            if certain.startswith(s, place) and place + len(s) > len(early)
            if len(taken) > decoding.min_new_tokens
        ]
        count = len(taken) + (reason == "stop")
        if places:
            return Ended(count, "stop_string", certain[: min(places)])
        if reason:
            return Ended(count, reason, text)
    return Ended(len(taken), None, decode(taken))


def settings_with(*stop: str, most: int = 1000, least: int = 0) -> ResolvedDecoding:
    return ResolvedDecoding(
        max_new_tokens=most,
        min_new_tokens=least,
        stop_strings=stop,
        end_token_ids=frozenset({END, 99}),
    )


WORDS = ByteLevel([b"Hello", b" world", b"ST", b"OP", b"\n", b"\n\n", b"a", b"b", b"###", b" "])
HANZI = ByteLevel(
    ["停".encode()[:1], "停".encode()[1:], "止".encode()[:2], "止".encode()[2:], b"x"]
)


@pytest.mark.parametrize(
    ("decode", "decoding", "tokens", "expected"),
    [
        pytest.param(WORDS, settings_with(), [1, 2, END, 3], Ended(3, "stop", "Hello world"), id="end"),
        pytest.param(WORDS, settings_with(), [1, 99], Ended(2, "stop", "Hello"), id="any end token"),
        pytest.param(WORDS, settings_with(), [END], Ended(1, "stop", ""), id="nothing but an end token"),
        pytest.param(WORDS, settings_with(most=2), [1, 2, 3], Ended(2, "length", "Hello world"), id="length"),
        pytest.param(WORDS, settings_with(most=1), [END], Ended(1, "stop", ""), id="end at the length"),
        pytest.param(WORDS, settings_with(), [1, 2], Ended(2, None, "Hello world"), id="not ended"),
        pytest.param(WORDS, settings_with("STOP"), [1, 3, 4, 2], Ended(3, "stop_string", "Hello"), id="over tokens"),
        pytest.param(WORDS, settings_with("lo wo"), [1, 2, 2], Ended(2, "stop_string", "Hel"), id="inside tokens"),
        pytest.param(WORDS, settings_with("b", "a"), [7, 8], Ended(1, "stop_string", ""), id="at the start"),
        pytest.param(WORDS, settings_with("orl", "wor"), [1, 2], Ended(2, "stop_string", "Hello "), id="the earliest of two"),
        pytest.param(WORDS, settings_with("\n\n\n"), [5, 7, 6, 5, 1], Ended(4, "stop_string", "\na"), id="newlines"),
        pytest.param(WORDS, settings_with("aab"), [7, 7, 7, 8], Ended(4, "stop_string", "a"), id="after a false start"),
        pytest.param(WORDS, settings_with("STOP", most=2), [3, 4], Ended(2, "stop_string", ""), id="stop string at the length"),
        pytest.param(WORDS, settings_with("STOP"), [3, END], Ended(2, "stop", "ST"), id="half a stop string"),
        pytest.param(HANZI, settings_with("停"), [5, 1, 2, 3], Ended(3, "stop_string", "x"), id="character over tokens"),
        pytest.param(HANZI, settings_with("停止"), [5, 1, 2, 3, 4, 5], Ended(5, "stop_string", "x"), id="two of them"),
        pytest.param(HANZI, settings_with("止"), [5, 1, END], Ended(3, "stop", "x\N{REPLACEMENT CHARACTER}"), id="ends inside a character"),
        pytest.param(WORDS, settings_with("\n", least=3), [1, 5, 7, 2, END], Ended(5, "stop", "Hello\na world"), id="within the minimum"),
        pytest.param(WORDS, settings_with("\n", least=2), [1, 5, 5, 2], Ended(3, "stop_string", "Hello\n"), id="after the minimum"),
        pytest.param(WORDS, settings_with("STOP", least=2), [1, 3, 4, 2], Ended(3, "stop_string", "Hello"), id="ends after the minimum"),
        pytest.param(WORDS, settings_with("STOP", least=3), [1, 3, 4, 2, 3, 4], Ended(6, "stop_string", "HelloSTOP world"), id="the second one, after the minimum"),
        pytest.param(WORDS, settings_with("a", "STOP", least=2), [1, 7, 3, 2, END], Ended(5, "stop", "HelloaST world"), id="one of two within the minimum"),
        pytest.param(WORDS, settings_with("a", least=2, most=2), [1, 7, 3], Ended(2, "length", "Helloa"), id="minimum and maximum"),
    ],
)  # fmt: skip
def test_answers_end(
    decode: Decode, decoding: ResolvedDecoding, tokens: list[int], expected: Ended
) -> None:
    assert followed(decoding, decode, tokens) == expected
    assert brute_force(decoding, decode, tokens) == expected


@pytest.mark.parametrize(
    ("stop", "least", "tokens", "expected"),
    [
        pytest.param("<mark>", 0, [1, MARK, 2], Ended(2, "stop_string", "Hello"), id="alone"),
        pytest.param("<mark>", 0, [MARK, 2], Ended(1, "stop_string", ""), id="first"),
        pytest.param("lo<mark>", 0, [1, MARK, 2], Ended(2, "stop_string", "Hel"), id="after text"),
        pytest.param("o<mark> w", 0, [1, MARK, 2], Ended(3, "stop_string", "Hell"), id="in text"),
        pytest.param("<mark><mark>", 0, [1, MARK, MARK], Ended(3, "stop_string", "Hello"), id="two"),
        pytest.param("<mark>\n", 0, [1, MARK, 2, MARK, 5], Ended(5, "stop_string", "Hello world"), id="later"),
        pytest.param("<mark>", 0, [*[1, 2] * 40, MARK, 2], Ended(81, "stop_string", "Hello world" * 40), id="long"),
        pytest.param("<mark>", 0, [1, 2, END], Ended(3, "stop", "Hello world"), id="absent"),
        pytest.param("<mark>", 2, [1, MARK, 2, MARK], Ended(4, "stop_string", "Hello world"), id="minimum"),
        pytest.param(" wo", 0, [1, MARK, 2], Ended(3, "stop_string", "Hello"), id="text behind a mark"),
    ],
)  # fmt: skip
def test_a_special_token_is_matched_by_its_name(
    stop: str, least: int, tokens: list[int], expected: Ended
) -> None:
    decoding = settings_with(stop, least=least, most=200)
    assert followed(decoding, WORDS, tokens) == expected
    assert (
        followed(settings_with("x", stop, least=least, most=len(tokens)), WORDS, tokens) == expected
    )


BYTES = ByteLevel(
    [*(bytes([b]) for b in "aé停😀".encode()), "é停".encode(), b"ab", b"b\xf0\x9f", b"a"]
)
SENTENCES = WordLevel(["a", "ab", "b", "ba", ".", "é"])
TOKENS = st.lists(st.integers(1, 14), max_size=120)
STOPS = st.lists(st.text("aé停😀b", min_size=1, max_size=5), max_size=3).map(tuple)


@settings(max_examples=150, deadline=None)
@given(TOKENS, STOPS, st.integers(1, 120), st.booleans(), st.integers(0, 90))
@example(list(range(1, 11)) * 6, ("😀a停",), 100, False, 0)
def test_byte_level_answers_equal_brute_force(
    tokens: list[int], stop: tuple[str, ...], most: int, ends: bool, least: int
) -> None:
    tokens = [*tokens, END] if ends else tokens
    decoding = settings_with(*stop, most=most, least=min(least, most))
    assert followed(decoding, BYTES, tokens) == brute_force(decoding, BYTES, tokens)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 6), max_size=120).map(lambda t: [x or 1 for x in t]),
    st.lists(st.text("ab. é", min_size=1, max_size=6), max_size=3).map(tuple),
)
def test_word_level_answers_equal_brute_force(tokens: list[int], stop: tuple[str, ...]) -> None:
    decoding = settings_with(*stop)
    assert followed(decoding, SENTENCES, tokens) == brute_force(decoding, SENTENCES, tokens)


def test_without_stop_strings_only_the_end_decodes() -> None:
    decode = ByteLevel([b"a"])
    stopper = Stopper(settings_with(most=500), PlainDecoder(decode))
    for _ in range(499):
        assert stopper.push(1) is None
    assert decode.decoded == 0
    assert stopper.push(1) == "length"
    assert stopper.finish() == "a" * 500
    assert decode.decoded == 500


def test_the_cost_of_stop_strings_is_linear_in_the_answer() -> None:
    decode = ByteLevel([b"abc "])
    followed(settings_with("STOP", most=5000), decode, [1] * 5000)
    assert decode.decoded < 5000 * 32


@pytest.mark.parametrize("stop", ["nS", "Nn", "nnS", "Snnn", "N"])
def test_a_decoder_whose_text_depends_on_the_start_is_followed(
    stop: str,
) -> None:
    def decode(token_ids: Sequence[int]) -> str:
        return "".join("_nS"[t] for t in token_ids).capitalize().replace("s", "S")

    tokens = [1] * 60 + [2] + [1] * 60
    assert followed(settings_with(stop), decode, tokens) == brute_force(
        settings_with(stop), decode, tokens
    )
