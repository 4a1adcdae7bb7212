from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.job.spec import Job
from batchgen.prompts.render import check_prompts

Ask = Callable[..., Job]
COLUMNS = ("question", "topic", "temp", "chat")
LAST = [{"role": "user", "content": "{{ question }}"}, {"role": "assistant", "content": "Well"}]

PROBLEMS = [
    pytest.param({"user": "{{ qestion }}"}, "prompt.user", "column 'qestion' is not in the input", "Did you mean 'question'?", id="typo"),
    pytest.param({"user": "{{ zzz }}"}, "prompt.user", "column 'zzz'", "The input has: question, topic, temp, chat", id="unknown-column"),
    pytest.param({"user": "{{ note | default('') }}"}, "prompt.user", "column 'note'", "The input has", id="default-is-for-nulls-only"),
    pytest.param({"user": "a\n{{ question }"}, "prompt.user", "line 2 of the template", "{{ name }}", id="syntax"),
    pytest.param({"user": "{{ question }}", "system": "{% if %}"}, "prompt.system", "line 1", "", id="syntax-of-system"),
    pytest.param({"user": "a", "prefill": "{{ x }}"}, "prompt.prefill", "column 'x'", "", id="prefill"),
    pytest.param({"messages": LAST}, "prompt.messages.1.role", "the last message is the assistant's", "prompt.prefill", id="ends-with-the-assistant"),
    pytest.param({"messages": [{"role": "user", "content": "{{ x }}"}]}, "prompt.messages.0.content", "column 'x'", "", id="in-a-message"),
    pytest.param({"input": {"columns": {"prompt": "promt"}}}, "input.columns.prompt", "'promt'", "", id="prompt-column"),
    pytest.param({"input": {"columns": {"messages": "chats"}}}, "input.columns.messages", "'chats'", "Did you mean 'chat'?", id="messages-column"),
    pytest.param({"user": "a", "decoding": {"columns": {"temperature": "tmp"}}}, "decoding.columns.temperature", "'tmp'", "'temp'", id="override-column"),
    pytest.param({"user": "{{ question }}", "on_overflow": "truncate_left", "truncate_column": "topic"}, "prompt.truncate_column", "'topic' is not part", "question", id="truncate-another-column"),
    pytest.param({"user": "Go.", "on_overflow": "truncate_left"}, "prompt.on_overflow", "no text can be cut", "error or skip", id="nothing-to-truncate"),
    pytest.param(
        {"input": {"columns": {"messages": "chat"}}, "on_overflow": "truncate_left", "truncate_column": "chat"},
        "prompt.truncate_column", "no effect with a messages column", "Remove", id="truncate-with-messages",
    ),
    pytest.param({"user": "a", "file": None, "chat_template": "none.jinja"}, "prompt.chat_template", "cannot read none.jinja", ".jinja", id="chat-template-file"),
    pytest.param({"user": "a", "chat_template_kwargs": {"tokenize": False}}, "prompt.chat_template_kwargs.tokenize", "set by batchgen", "Remove", id="reserved-variable"),
    pytest.param({"file": "none.txt"}, "prompt.file", "cannot read none.txt: No such file", "relative to the job file", id="no-file"),
]  # fmt: skip

ODD = (
    "user question",
    "题目 1",
    "order-no",
    "2nd",
    "q.1",
    "not",
    "班级（小组）",
    'say "x"',
    "range",
    "q",
)
HINTS = [
    ("{{ user question }}", '{{ row["user question"] }}'),
    ("{{ user qestion }}", '{{ row["user question"] }}'),
    ("{{ user_question }}", '{{ row["user question"] }}'),
    ("{{ userquestion | upper }}", '{{ row["user question"] }}'),
    ("{{ 题目 1 }}", '{{ row["题目 1"] }}'),
    ("{{ 题目1 }}", '{{ row["题目 1"] }}'),
    ("{% if 题目 1 %}x{% endif %}", '{{ row["题目 1"] }}'),
    ("{{ order-no }}", '{{ row["order-no"] }}'),
    ("a {{ order-no | upper }} b", '{{ row["order-no"] }}'),
    ("{{ order_no }}", '{{ row["order-no"] }}'),
    ("{{ 2nd }}", '{{ row["2nd"] }}'),
    ("{{ not }}", '{{ row["not"] }}'),
    ("{{ 班级（小组） }}", '{{ row["班级（小组）"] }}'),
    ('{{ say "x" }}', '{{ row["say \\"x\\""] }}'),
    ('{{ row["order no"] }}', '{{ row["order-no"] }}'),
    ("{{ rnge }}", "Did you mean 'range'?"),
    ("{{ row }}", '{{ row["name"] }}'),
    ("{{ row[q] }}", '{{ row["name"] }}'),
    ("{{ q | default(“x”) }}", "straight quotes"),
]


@pytest.mark.parametrize(("user", "hint"), HINTS)
def test_the_hint_is_the_text_that_reads_the_column(ask: Ask, user: str, hint: str) -> None:
    (problem,) = check_prompts(ask(user=user), ODD)
    assert hint in problem.hint


def test_a_dot_in_a_name(ask: Ask) -> None:
    (problem,) = check_prompts(ask(user="{{ q.1 }}"), ("q.1",))
    assert problem.hint == 'Write {{ row["q.1"] }}.'


@pytest.mark.parametrize(("prompt", "key", "words", "hint"), PROBLEMS)
def test_errors_that_affect_every_row(
    ask: Ask, prompt: dict[str, Any], key: str, words: str, hint: str
) -> None:
    (problem,) = check_prompts(ask(**prompt), COLUMNS)
    assert problem.key == key
    assert words in problem.message
    assert hint in problem.hint


def test_all_problems_at_once(ask: Ask) -> None:
    job = ask(user="{{ a }} {{ b }}", system="{{ c }}", decoding={"columns": {"temperature": "d"}})
    found = {problem.message for problem in check_prompts(job, COLUMNS)}
    assert found == {f"column '{name}' is not in the input" for name in "abcd"}


def test_a_file_that_is_not_text(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes("问题".encode("gb18030"))
    (problem,) = check_prompts(ask(file=str(path)), COLUMNS)
    assert "not UTF-8" in problem.message


@pytest.mark.parametrize(
    "prompt",
    [
        {"user": "{{ question }}", "on_overflow": "truncate_right", "truncate_column": "question"},
        {"input": {"columns": {"prompt": "question"}}, "on_overflow": "truncate_right"},
        {"input": {"columns": {"messages": "chat"}}, "on_overflow": "truncate_right"},
        {"messages": LAST[:1], "prefill": "A: ", "decoding": {"columns": {"temperature": "temp"}}},
        {"user": "{{ question }}", "chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_a_valid_job(ask: Ask, prompt: dict[str, Any]) -> None:
    assert check_prompts(ask(**prompt), COLUMNS) == []
