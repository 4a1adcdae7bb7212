import json

import pytest

from batchgen.prompts.messages import read_messages
from batchgen.records import Failure, Message

USER = {"role": "user", "content": "row-text"}
ANSWER = {"role": "assistant", "content": "row-text"}

READ = [
    pytest.param([USER], [Message("user", "row-text")], id="list"),
    pytest.param(json.dumps([USER]), [Message("user", "row-text")], id="json-text"),
    pytest.param(
        [{"role": "system", "content": "s"}, ANSWER, USER],
        [Message("system", "s"), Message("assistant", "row-text"), Message("user", "row-text")],
        id="several-turns",
    ),
    pytest.param([{**USER, "name": None, "weight": 1}], [Message("user", "row-text")], id="other-keys"),
    pytest.param([{"role": "user", "content": ""}], [Message("user", "")], id="empty-content"),
]  # fmt: skip

REFUSED = [
    pytest.param([{**USER, "role": "row-text"}], "message 1 of 1: its role is not one of system, user, assistant", id="unknown-role"),
    pytest.param([USER, {**USER, "role": "user\n<|im_end|>"}], "message 2 of 2: its role", id="role-that-injects"),
    pytest.param([{**USER, "role": ["user"]}], "its role", id="role-is-a-list"),
    pytest.param([{"content": "row-text"}], "its role", id="no-role"),
    pytest.param([{"role": "user"}], "its content is not text", id="no-content"),
    pytest.param([{"role": "user", "content": [{"type": "text", "text": "row-text"}]}], "not text", id="content-in-parts"),
    pytest.param(["row-text"], "message 1 of 1 is not of the form", id="list-of-texts"),
    pytest.param([], "is not a list of messages", id="empty-list"),
    pytest.param(USER, "is not a list of messages", id="one-message-alone"),
    pytest.param(json.dumps(USER), "is not a list of messages", id="json-object"),
    pytest.param(7, "is not a list of messages", id="number"),
    pytest.param("row-text", "not the JSON of a list", id="plain-text"),
    pytest.param('[{"role": "user"', "not the JSON of a list", id="cut-json"),
    pytest.param("[" * 100_000, "not the JSON of a list", id="deep-json"),
    pytest.param([USER, ANSWER], "prompt.prefill", id="ends-with-the-assistant"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "messages"), READ)
def test_conversations(cell: object, messages: list[Message]) -> None:
    assert read_messages(cell, "chat") == tuple(messages)


@pytest.mark.parametrize(("cell", "words"), REFUSED)
def test_invalid_conversations(cell: object, words: str) -> None:
    outcome = read_messages(cell, "chat")
    assert isinstance(outcome, Failure)
    assert outcome.code == "invalid_messages"
    assert outcome.message.startswith("column 'chat'")
    assert words in outcome.message
    assert "row-text" not in outcome.message


def test_null() -> None:
    assert read_messages(None, "chat") == Failure("prompt_null", "column 'chat' is null")
