"""`batchgen init`: what it proposes for tables of many kinds, and that what it writes validates and runs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from batchgen.__main__ import call
from tests.conftest import ROOT

ECHO = ["--set", "model.path=null", "--set", "model.engine=echo", "--quiet"]
Init = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Init:
    """Run `init` in a new folder; the exit code and the object of --json."""
    monkeypatch.chdir(tmp_path)

    def begin(*arguments: object) -> tuple[int, dict[str, Any]]:
        code = call(["init", *map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return begin


def answers(*overrides: str) -> pl.DataFrame:
    """The answers of the engine echo to the written job."""
    assert call(["run", "job.yaml", *ECHO, *overrides]) == 0
    (folder,) = Path("out").iterdir()
    return pl.read_parquet(folder / "responses.parquet")


@pytest.mark.parametrize(
    ("data", "kind", "prompt", "reference"),
    [
        ("quickstart.csv", "content", ["question"], None),
        ("medical/notes.jsonl", "content", ["note"], None),
        ("customer_service/tickets.csv", "content", ["body"], None),
        ("creative_writing/ideas.jsonl", "content", ["idea"], None),
        ("education/questions.csv", "evaluation", ["question", "choices"], "answer"),
    ],
)
def test_the_data_of_every_worked_job_gets_a_job_that_runs(
    init: Init, data: str, kind: str, prompt: list[str], reference: str | None
) -> None:
    code, written = init(ROOT / "jobs" / data)
    assert code == 0
    assert (written["kind"], written["prompt"], written["reference"]) == (kind, prompt, reference)
    assert call(["validate", "job.yaml"]) == 0
    table = answers()
    assert len(table) > 10
    assert table["finish_reason"].is_in(["stop", "length"]).all()
    schema = json.loads(Path("job.schema.json").read_text())
    assert schema["$schema"].startswith("http://json-schema.org/draft-07")
    assert (
        Path("job.yaml").read_text().startswith("# yaml-language-server: $schema=job.schema.json\n")
    )


def test_labels_become_the_form_of_the_answer(init: Init) -> None:
    code, written = init(ROOT / "jobs" / "medical" / "notes.jsonl", "-t", "labels")
    job = yaml.safe_load(Path("job.yaml").read_text())
    assert (code, written["reference"]) == (0, "nurse_urgency")
    assert job["decoding"]["response_format"] == {"choice": ["emergency", "routine", "urgent"]}
    assert job["evaluate"]["metrics"][0]["labels"] == ["emergency", "routine", "urgent"]
    assert set(answers()["response"]) <= {"emergency", "routine", "urgent"}


def test_solutions_that_end_with_a_number_are_scored_by_it(init: Init, tmp_path: Path) -> None:
    """References as in GSM8K: an answer must not be asked to leave out what they contain."""
    rows = [{"question": f"{n} + 1?", "answer": f"One more.\n#### {n + 1:,}"} for n in range(4)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, written = init("sums.jsonl")
    assert (code, written["reference"], written["metrics"]) == (0, "answer", ["number"])
    assert "step by step" in Path("job.yaml").read_text()
    assert answers()["score_number"].to_list() == [0, 0, 0, 0]  # echo gives n, not n + 1


def test_a_column_of_answers_comes_before_one_of_classes(init: Init, tmp_path: Path) -> None:
    """As in BELLE, where some questions have no answer."""
    given = "It depends on the weather, the season, and how long you want to stay there."
    kinds = ["open", "closed", "open", "closed"]
    rows = [
        {"question": f"Where to, {n}?", "std_answer": given if n else None, "class": kind}
        for n, kind in enumerate(kinds)
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, written = init("q.jsonl")
    assert (code, written["kind"], written["reference"]) == (0, "evaluation", "std_answer")
    job = yaml.safe_load(Path("job.yaml").read_text())
    assert job["evaluate"]["slices"] == ["class"]
    assert "without explanation" not in job["prompt"]["system"]


def test_jobs_of_one_table_have_folders_of_their_own(init: Init, tmp_path: Path) -> None:
    """One of each kind, from a table in GB18030; each of them runs."""
    turns = json.dumps(["什么是茶？", "和咖啡有什么不同？"], ensure_ascii=False).replace('"', '""')
    lines = [f'{n},第{n}件事是什么？,"{turns}",答案{n}' for n in range(9)]
    table = "\n".join(["编号,问题,提问,参考答案", *lines])
    (tmp_path / "工单.csv").write_bytes(table.encode("gb18030"))
    folders = {"job": "工单", "evaluation": "evaluation", "conversation": "conversation"}
    for name, folder in folders.items():
        kind = ["-t", name if name != "job" else "content"]
        assert init("工单.csv", *kind, "-o", f"{name}.yaml")[0] == 0
        assert call(["run", f"{name}.yaml", *ECHO]) == 0
        assert (tmp_path / "out" / folder / "manifest.json").exists()


def test_a_table_in_gb18030_with_chinese_columns(init: Init, tmp_path: Path) -> None:
    lines = [
        "编号;用户 问题;标准答案",
        *(f"T{n};第{n}题：{n}加一等于几？;{n + 1}" for n in range(9)),
    ]
    (tmp_path / "题目 表.csv").write_bytes("\n".join(lines).encode("gb18030"))
    code, written = init("题目 表.csv")
    text = Path("job.yaml").read_text("utf-8")
    assert code == 0
    assert (written["id"], written["prompt"], written["reference"]) == (
        "编号",
        ["用户 问题"],
        "标准答案",
    )
    assert written["metrics"] == ["number"]
    assert '{{ row["用户 问题"] }}' in text
    assert "参考答案所在的列" in text
    assert "gb18030" in text
    table = answers()
    assert table["id"].to_list()[:2] == ["T0", "T1"]
    assert "第0题" in table["response"][0]


MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("as_text", [False, True])
def test_a_column_of_messages(init: Init, tmp_path: Path, as_text: bool) -> None:
    cell = json.dumps(MESSAGES) if as_text else MESSAGES
    (tmp_path / "chats.jsonl").write_text(json.dumps({"chat": cell, "n": 1}) + "\n")
    code, written = init("chats.jsonl")
    assert (code, written["kind"], written["prompt"]) == (0, "conversation", "chat")
    assert answers()["response"].to_list() == ["Hello"]


def test_messages_with_answers_are_answered_turn_by_turn(init: Init, tmp_path: Path) -> None:
    """As `/save` of `chat` writes them."""
    more = [{"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Bye"}]
    talk = [*MESSAGES, *more, {"role": "assistant", "content": "See you."}]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    assert init("chats.jsonl")[0] == 0
    assert answers().select("id", "response").rows() == [("0/1", "Hello"), ("0/2", "HelloHi.Bye")]


@pytest.mark.parametrize("as_text", [False, True])
def test_a_column_of_the_messages_of_a_user(init: Init, tmp_path: Path, as_text: bool) -> None:
    turns = ["Hello", "Again"]
    row = {"turns": json.dumps(turns) if as_text else turns, "tags": ["a"], "n": 1}
    (tmp_path / "talks.jsonl").write_text(json.dumps(row) + "\n")
    code, written = init("talks.jsonl")
    assert (code, written["kind"], written["prompt"]) == (0, "conversation", "turns")
    assert answers()["turn"].to_list() == [1, 2]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"q": ["a b c", "d"], "gold": ["7", "1,000"]}, ("evaluation", ["q"], ["number"])),
        (
            {"q": ["a", "b"] * 4, "label": ["no", "x y"] * 4},
            ("labels", ["q"], ['{type: choice, labels: ["no", "x y"]}']),
        ),
        (
            {"q": ["a", "b"] * 4, "answer": list("ABCD") * 2},
            ("evaluation", ["q"], ["{type: choice, labels: [A, B, C, D]}"]),
        ),
        (
            {"q": ["a", "b"], "reference": ["long text " * 9, "another " * 9]},
            ("evaluation", ["q"], ["token_f1", "rouge"]),
        ),
        ({"for": ["a", "b"], "n": [1, 2]}, ("content", ["for"], [])),
        ({"instruction": ["a"], "input": ["b"]}, ("content", ["instruction", "input"], [])),
        ({"n": [1, 2]}, ("content", ["n"], [])),
        ({"q": ["a", None], "n": [1, 2]}, ("content", ["q"], [])),
    ],
)  # fmt: skip
def test_the_roles_of_columns(
    init: Init, tmp_path: Path, columns: dict[str, Sequence[Any]], expected: tuple[Any, ...]
) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "table.parquet")
    code, written = init("table.parquet")
    assert code == 0
    assert (written["kind"], written["prompt"], written["metrics"]) == expected
    table = answers()
    assert (table["finish_reason"] == "stop").all()
    assert len(table) == sum(cell is not None for cell in next(iter(columns.values())))


def test_without_a_table_one_is_written(init: Init, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)
    code, written = init()
    assert (code, written["prompt"]) == (0, ["问题"])
    assert len(answers()) == 3


@pytest.mark.parametrize(
    ("content", "arguments", "code", "message"),
    [
        ("q\na\n", ["-t", "labels"], 2, "no column for a job of kind labels"),
        ("q\na\n", ["-t", "evaluation"], 2, "a column with the right answers"),
        ("q\na\n", ["-t", "conversation"], 2, "a column of lists of {role, content}"),
        ("q\n", [], 5, "contains no row"),
        (None, [], 5, "no such file"),
    ],
)
def test_a_table_that_does_not_fit(
    init: Init, tmp_path: Path, content: str | None, arguments: list[str], code: int, message: str
) -> None:
    if content is not None:
        (tmp_path / "table.csv").write_text(content)
    returned, printed = init("table.csv", *arguments)
    assert returned == code
    assert message in printed["error"]
    assert not Path("job.yaml").exists()


def test_nothing_is_overwritten(init: Init, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("mine")
    code, printed = init(ROOT / "jobs" / "quickstart.csv")
    assert (code, "overwrites nothing" in printed["error"]) == (2, True)
    assert (tmp_path / "job.yaml").read_text() == "mine"
    assert init(ROOT / "jobs" / "quickstart.csv", "-o", "sub/other.yaml")[0] == 0
    assert call(["validate", "sub/other.yaml"]) == 0
