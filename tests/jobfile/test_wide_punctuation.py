import pytest

from batchgen.jobfile.yaml_reader import read_yaml

PROBLEMS = [
    ("version: 1\nprompt：\n  user: x\n", 2, 7, "： instead of :"),
    ("version：1\nname: a\n", 1, 8, "： instead of :"),
    ("version：1\n", 1, 8, "： instead of :"),
    ("version: 1\ninput: {path：x.csv}\n", 2, 13, "： instead of :"),
    ("decoding:\n  max_new_tokens：16\n", 2, 17, "： instead of :"),
    ("decoding:\n  max_new_tokens: 16\n  temperature：0\n  top_k: 3\n", 3, 14, "： instead of :"),
    ("profiles:\n  smoke:\n    input：\n      limit: 3\n", 3, 10, "： instead of :"),
    ("model： demo:smollm2-135m\nname: x\n", 1, 6, "： instead of :"),
    ("input: ｛path: x.csv｝\n", 1, 8, "｛ instead of {"),
    ("evaluate:\n  metrics: [exact，contains\n", 2, 18, "， instead of ,"),
    ("＃ comment\nname: x\n", 1, 1, "＃ instead of #"),
    ("prompt:\n  user: “{{ q }}: {{ a }}”\n", 2, 9, "“ instead of"),
    ("evaluate:\n  metrics:\n  － exact\n  － contains\n", 4, 3, "－ instead of -"),
    ("prompt:\n\tuser: x\n", 2, 1, "a tab in the indentation"),
    ("prompt:\n  system: x\n\u00a0\u00a0user: y\n", 3, 1, "a no-break space in the indentation"),
    ("name: x\n\u3000prompt: y\n", 2, 1, "a full-width space in the indentation"),
    ("name: x\ninput:\n  path:x.csv\n", 3, 7, "a colon without a space"),
    ("evaluate:\n  metrics:【exact】\nname: x\n", 2, 10, "a colon without a space"),
    ('prompt:\n  user: "{{ row["题目 1"] }}"\n', 2, 18, "a double quote inside double quotes"),
]

TEXTS = [
    "prompt:\n  user: 问题：{{ q }}\n",
    "prompt:\n  user: |\n    问题：{{ q }}，〔a〕、“b”\n    user：x\n",
    'prompt: {user: "｛x｝", system: 、}\n',
    "prompt: {user: a，b}\n",
    "prompt: {user: user：x}\n",
    "description: name：x\n",
    "vars: {x: a：b}\n",
]


@pytest.mark.parametrize(("text", "line", "column", "words"), PROBLEMS)
def test_the_character_is_named_at_its_own_place(
    text: str, line: int, column: int, words: str
) -> None:
    problem = read_yaml(text, file="job.yaml", origin="job").problems[0]
    assert (problem.line, problem.column) == (line, column)
    assert words in problem.message
    assert problem.hint


@pytest.mark.parametrize("text", TEXTS)
def test_texts_may_contain_any_punctuation(text: str) -> None:
    assert read_yaml(text, file="job.yaml", origin="job").problems == ()
