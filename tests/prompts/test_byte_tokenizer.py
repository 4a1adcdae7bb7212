import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.prompts.byte_tokenizer import END, ROLE_IDS, ByteTokenizer
from batchgen.records import Message, Prompt

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def test_a_conversation() -> None:
    prompt = Prompt(0, "0", (Message("system", "é"), Message("user", "a")), "b")
    (ids,) = ByteTokenizer().encode([prompt])
    system, user, assistant = ROLE_IDS["system"], ROLE_IDS["user"], ROLE_IDS["assistant"]
    assert ids == [system, 0xC3, 0xA9, END, user, 97, END, assistant, 98]
    assert ByteTokenizer().show(ids) == "<system>é<end>\n<user>a<end>\n<assistant>b"


@given(TEXTS)
def test_any_text_round_trips(text: str) -> None:
    (ids,) = ByteTokenizer().encode([Prompt(0, "0", (Message("user", text),))])
    assert isinstance(ids, list)
    assert ByteTokenizer().decode(ids) == text


@pytest.mark.parametrize("text", ["<end>", "<user>", "\x00\xff"])
def test_text_cannot_become_a_control_token(text: str) -> None:
    (ids,) = ByteTokenizer().encode([Prompt(0, "0", (Message("user", text),))])
    assert isinstance(ids, list)
    assert [i for i in ids if i >= END] == [ROLE_IDS["user"], END, ROLE_IDS["assistant"]]


def test_an_incomplete_character_is_not_an_error() -> None:
    assert ByteTokenizer().decode("é".encode()[:1]) == "�"
