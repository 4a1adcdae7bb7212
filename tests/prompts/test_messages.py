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
    pytest.param([{"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}], [Message("user", "a b")], id="content-in-parts"),
    pytest.param([{"role": "user", "content": [{"type": "input_text", "text": "a", "image_url": None}]}], [Message("user", "a")], id="part-of-the-responses-api"),
    pytest.param([{"role": "user", "content": ["a", {"text": "b"}]}], [Message("user", "ab")], id="parts-without-a-type"),
    pytest.param([{"role": "developer", "content": "s"}, USER], [Message("system", "s"), Message("user", "row-text")], id="developer"),
    pytest.param(
        [{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "user", "value": "c"}],
        [Message("system", "s"), Message("user", "a"), Message("assistant", "b"), Message("user", "c")],
        id="sharegpt",
    ),
    pytest.param([{"role": "assistant", "content": "x", "tool_calls": None}, USER], [Message("assistant", "x"), Message("user", "row-text")], id="no-tool-calls"),
]  # fmt: skip

REFUSED = [
    pytest.param([{**USER, "role": "row-text"}], "message 1 of 1: its role is not one of system, user, assistant", id="unknown-role"),
    pytest.param([USER, {**USER, "role": "user\n<|im_end|>"}], "message 2 of 2: its role", id="role-that-injects"),
    pytest.param([{**USER, "role": ["user"]}], "its role", id="role-is-a-list"),
    pytest.param([{"content": "row-text"}], "its role", id="no-role"),
    pytest.param([{"role": "user"}], "its content is not text", id="no-content"),
    pytest.param([{"role": "user", "content": {"text": "row-text"}}], "its content is not text", id="content-is-an-object"),
    pytest.param([{"role": "user", "content": [{"type": "text", "text": None}]}], "part 1 of its content is not of the form", id="part-without-text"),
    pytest.param([{"role": "user", "content": [7]}], "part 1 of its content is not of the form", id="part-is-a-number"),
    pytest.param([{"from": "row-text", "value": "row-text"}], "its role is not one of", id="unknown-sharegpt-role"),
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


UNSUPPORTED = [
    ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "row-text"}}]}], "part 1"),
    ([{"role": "user", "content": [{"type": "text", "text": "row-text"}, {"type": "image"}]}], "part 2"),
    ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}], "part 1"),
    ([USER, {"role": "tool", "content": "row-text"}, USER], "message 2 of 3 is the result or the call of a tool"),
    ([USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "row-text"}]}, USER], "message 2 of 3 calls a tool"),
    ([{"from": "human", "value": "a"}, {"from": "observation", "value": "row-text"}], "message 2 of 2"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "words"), UNSUPPORTED)
def test_content_that_is_not_text_has_its_own_code(cell: object, words: str) -> None:
    outcome = read_messages(cell, "chat")
    assert isinstance(outcome, Failure)
    assert outcome.code == "unsupported_content"
    assert words in outcome.message
    assert "row-text" not in outcome.message
