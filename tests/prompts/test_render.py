import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import DataError
from batchgen.job.spec import Job
from batchgen.prompts.render import PromptRenderer
from batchgen.prompts.templates.environment import TEXT_LIMIT
from batchgen.records import Failure, Message, Prompt, Row

Ask = Callable[..., Job]
ROW = Row(
    4,
    "r4",
    {"q": "Hi?", "topic": "tea", "chat": [{"role": "user", "content": "Hey"}], "null": None},
)

SOURCES = [
    pytest.param({"user": "Q: {{ q }}"}, [("user", "Q: Hi?")], ("q",), ("q",), id="user"),
    pytest.param(
        {"user": "{{ q }}", "system": "On {{ topic }}."},
        [("system", "On tea."), ("user", "Hi?")], ("topic", "q"), ("q",), id="system-and-user",
    ),
    pytest.param(
        {
            "messages": [
                {"role": "user", "content": "1+1?"},
                {"role": "assistant", "content": "2"},
                {"role": "user", "content": "{{ q }}"},
            ]
        },
        [("user", "1+1?"), ("assistant", "2"), ("user", "Hi?")], ("q",), ("q",), id="few-shot",
    ),
    pytest.param({"input": {"columns": {"prompt": "q"}}}, [("user", "Hi?")], ("q",), ("q",), id="prompt-column"),
    pytest.param(
        {"input": {"columns": {"prompt": "q"}}, "system": "Be {{ topic }}"},
        [("system", "Be tea"), ("user", "Hi?")], ("topic", "q"), ("q",), id="prompt-column-and-system",
    ),
    pytest.param({"input": {"columns": {"messages": "chat"}}}, [("user", "Hey")], ("chat",), (), id="messages-column"),
    pytest.param(
        {"system": "On {{ topic }}", "user": "Go."},
        [("system", "On tea"), ("user", "Go.")], ("topic",), ("topic",), id="columns-in-the-system-text-only",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "messages", "columns", "user_columns"), SOURCES)
def test_prompt_sources(
    ask: Ask,
    prompt: dict[str, Any],
    messages: list[tuple[Any, str]],
    columns: tuple[str, ...],
    user_columns: tuple[str, ...],
) -> None:
    renderer = PromptRenderer(ask(**prompt))
    expected = tuple(Message(role, content) for role, content in messages)
    assert renderer.render(ROW) == Prompt(4, "r4", expected)
    assert (renderer.columns, renderer.user_columns) == (columns, user_columns)


def test_file(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("\ufeff问：{{ q }}\n", "utf-8")
    prompt = PromptRenderer(ask(file=str(path))).render(ROW)
    assert isinstance(prompt, Prompt)
    assert prompt.messages == (Message("user", "问：Hi?\n"),)
    with pytest.raises(DataError, match="job test"):
        PromptRenderer(ask(file=str(tmp_path / "none.txt")))


def test_prefill_is_a_template(ask: Ask) -> None:
    renderer = PromptRenderer(ask(user="{{ q }}", prefill="On {{ topic }}: "))
    prompt = renderer.render(ROW)
    assert isinstance(prompt, Prompt)
    assert prompt.prefill == "On tea: "
    assert renderer.columns == ("q", "topic")
    assert renderer.user_columns == ("q",)


@pytest.mark.parametrize(
    ("prompt", "code", "words"),
    [
        ({"user": "{{ null }}"}, "prompt_null", "prompt.user, line 1: column 'null' is null"),
        ({"user": "a", "system": "{{ null }}"}, "prompt_null", "prompt.system"),
        ({"user": "a", "prefill": "{{ null }}"}, "prompt_null", "prompt.prefill"),
        ({"messages": [{"role": "user", "content": "{{ 1/0 }}{{ q }}"}]}, "template_error", "prompt.messages.0.content"),
        ({"input": {"columns": {"prompt": "null"}}}, "prompt_null", "column 'null' is null"),
        ({"input": {"columns": {"messages": "null"}}}, "prompt_null", "column 'null' is null"),
        ({"input": {"columns": {"messages": "q"}}}, "invalid_messages", "column 'q'"),
    ],
)  # fmt: skip
def test_rows_without_a_valid_prompt(
    ask: Ask, prompt: dict[str, Any], code: str, words: str
) -> None:
    outcome = PromptRenderer(ask(**prompt)).render(ROW)
    assert isinstance(outcome, Failure)
    assert outcome.code == code
    assert words in outcome.message


@pytest.mark.parametrize("user", ["{{ q }}", "{{ q }}{{ q }}"])
def test_prompts_have_an_end(ask: Ask, user: str) -> None:
    outcome = PromptRenderer(ask(user=user)).render(Row(0, "0", {"q": "长" * (TEXT_LIMIT + 1)}))
    assert isinstance(outcome, Failure)
    assert f"{TEXT_LIMIT:,}" in outcome.message


def test_a_lone_surrogate_is_invalid_text(ask: Ask) -> None:
    cell = json.dumps([{"role": "user", "content": "\ud83d"}])
    outcome = PromptRenderer(ask(input={"columns": {"messages": "chat"}})).render(Row(0, "0", {"chat": cell}))  # fmt: skip
    assert isinstance(outcome, Failure)
    assert outcome.code == "invalid_unicode"
