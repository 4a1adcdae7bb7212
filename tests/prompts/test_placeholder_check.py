from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.job.spec import Job
from batchgen.prompts.placeholder_check import prompt_warnings
from batchgen.prompts.prompt_check import check_prompts

Ask = Callable[..., Job]
COLUMNS = ("q", "题目", "user question")

ERRORS = [
    ({"user": "{{ q }} in ${vars.lang}"}, "prompt.user", "${vars.lang}", "{{ '${' }}"),
    ({"user": "{{ q }}", "system": "${vars.lang}"}, "prompt.system", "${vars.lang}", "column"),
    ({"user": "{{ q }} ${env:USER}"}, "prompt.user", "${env:USER}", "column"),
    ({"user": "{{ q }} ${date:%Y}"}, "prompt.user", "${date:%Y}", "column"),
    ({"user": "{{ q }}", "prefill": "${vars.x}"}, "prompt.prefill", "${vars.x}", "column"),
    ({"messages": [{"role": "user", "content": "${vars.x} {{ q }}"}]}, "prompt.messages.0.content", "${vars.x}", ""),
    ({"user": "｛｛ q ｝｝ {{ 题目 }}"}, "prompt.user", "｛｛ q ｝｝ has full-width braces", "Write {{ q }}."),
    ({"user": "{｛题目｝｝"}, "prompt.user", "full-width braces", "Write {{ 题目 }}."),
    ({"user": "｛｛user question｝｝"}, "prompt.user", "full-width", '{{ row["user question"] }}'),
    ({"user": "Answer: {q}"}, "prompt.user", "{q} is not a placeholder", "Write {{ q }}"),
    ({"user": "Answer: { 题目 }"}, "prompt.user", "{ 题目 } is not a placeholder", "Write {{ 题目 }}"),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "key", "words", "hint"), ERRORS)
def test_what_cannot_be_meant_is_an_error(
    ask: Ask, prompt: dict[str, Any], key: str, words: str, hint: str
) -> None:
    (problem,) = check_prompts(ask(**prompt), COLUMNS)
    assert problem.key == key
    assert words in problem.message
    assert hint in problem.hint


WARNINGS = [
    ({"user": "{{ q }} on ${date}"}, ["${date} is not replaced"]),
    ({"user": "{{ q }} {题目}"}, ["{题目} is not a placeholder"]),
    ({"user": "{{ q }} ｛｛ other words ｝｝"}, ["full-width braces"]),
    ({"user": "“{{ q }}”"}, ["curly quotes"]),
    ({"user": "Write a poem."}, ["contains no column"]),
    ({"user": "Write $q"}, ["$q is not a placeholder", "contains no column"]),
    ({"user": "Write <q>"}, ["<q> is not a placeholder", "contains no column"]),
    ({"user": "Write [[q]]"}, ["[[q]] is not", "contains no column"]),
    ({"user": "Write %(q)s"}, ["%(q)s is not a placeholder", "contains no column"]),
    ({"messages": [{"role": "user", "content": "Hi"}]}, ["contains no column"]),
    # What is right:
    ({"user": "{{ q }}"}, []),
    ({"user": "Write.", "system": "{{ q }}"}, []),
    ({"user": "{% if q %}yes{% endif %}"}, []),
    ({"user": "{{ row['user question'] }}"}, []),
    ({"user": '{{ q }} as {"answer": 1} and `${HOME}` <b> $x [a] {x}'}, []),
    ({"user": "{{ q }} {{ '${vars.lang}' }} “a” <q> [q]"}, []),
    ({"user": "{% raw %}{{ q }}{% endraw %}{{ q }}"}, []),
    ({"input": {"columns": {"prompt": "q"}}}, []),
    ({"input": {"columns": {"messages": "q"}}}, []),
]


@pytest.mark.parametrize(("prompt", "words"), WARNINGS)
def test_what_is_rarely_meant_is_a_warning(
    ask: Ask, prompt: dict[str, Any], words: list[str]
) -> None:
    job = ask(**prompt)
    assert check_prompts(job, COLUMNS) == []
    found = [problem.message for problem in prompt_warnings(job, COLUMNS)]
    assert len(found) == len(words)
    assert all(word in message for word, message in zip(words, found, strict=True))


def test_a_template_file(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("Translate ${vars.text}", "utf-8")
    (problem,) = check_prompts(ask(file=str(path)), COLUMNS)
    assert problem.key == "prompt.file"
