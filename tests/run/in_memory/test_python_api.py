"""`batchgen.generate`, `batchgen.run` with a frame, and a job as a mapping: in this process, in a script, in a notebook."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import batchgen
from batchgen.errors import BatchgenError, JobFileError, StateError, UsageError
from tests.conftest import ROOT

ECHO = {"engine": "echo"}
PROMPTS = ["Hello {{ x }}", "你好", "a\nb"]


def test_prompts_are_answered_as_they_are() -> None:
    table = batchgen.generate(PROMPTS, model=ECHO, progress=False)
    assert table["response"].to_list() == PROMPTS
    assert table["prompt"].to_list() == PROMPTS
    series = batchgen.generate(pl.Series(PROMPTS), model=ECHO, progress=False)
    assert series["response"].to_list() == PROMPTS


def test_conversations_are_answered() -> None:
    chats = [[{"role": "user", "content": "one"}], [{"role": "user", "content": "two"}]]
    table = batchgen.generate(chats, model=ECHO, progress=False)
    assert table["response"].to_list() == ["one", "two"]


def test_decoding_is_that_of_the_call() -> None:
    table = batchgen.generate(["a b c d e f"], model=ECHO, max_new_tokens=2, progress=False)
    assert table["finish_reason"].to_list() == ["length"]
    with pytest.raises(JobFileError, match="max_new_tokens"):
        batchgen.generate(["a"], model=ECHO, max_new_token=2, progress=False)


def test_a_named_folder_is_resumed(tmp_path: Path) -> None:
    output = tmp_path / "out" / "mine"
    first = batchgen.generate(PROMPTS, model=ECHO, output=output, progress=False)
    files = {path: path.stat().st_mtime_ns for path in output.parent.rglob("*.parquet")}
    again = batchgen.generate(PROMPTS, model=ECHO, output=output, progress=False)
    assert again.equals(first)
    assert {path: path.stat().st_mtime_ns for path in output.parent.rglob("*.parquet")} == files
    with pytest.raises(StateError):
        batchgen.generate(["other"], model=ECHO, output=output, progress=False)


FRAME = pl.DataFrame({"id": ["x", "y"], "topic": ["tea", "茶"], "gold": ["On tea", "no"]})


def test_a_frame_with_metrics(tmp_path: Path) -> None:
    result = batchgen.run(
        FRAME,
        prompt="On {{ topic }}",
        output=tmp_path / "out",
        model=ECHO,
        settings={"evaluate": {"reference": "gold", "metrics": ["exact"]}},
    )
    assert result.frame()["response"].to_list() == ["On tea", "On 茶"]
    assert result.frame()["id"].to_list() == ["x", "y"]
    assert {row.metric: row.value for row in result.metrics}["exact"] == 0.5
    assert batchgen.run(tmp_path / "out" / "job.yaml").outcome == "already complete"


def test_a_mapping_is_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    FRAME.write_csv("rows.csv")
    job: dict[str, Any] = {
        "version": 1,
        "name": "mapping",
        "input": {"path": Path("rows.csv")},
        "prompt": {"user": "{{ topic }}"},
        "model": ECHO,
        "output": {"path": "out"},
    }
    assert batchgen.load_job(job).job.input.path == str(tmp_path / "rows.csv")
    assert batchgen.run(job).folder.path == tmp_path / "out"
    with pytest.raises(JobFileError, match="job:2:1: nam: unknown key"):
        batchgen.load_job({"version": 1, "nam": "x"})
    with pytest.raises(JobFileError, match="a value that a job cannot contain"):
        batchgen.load_job({**job, "name": object()})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batchgen.generate([], model=ECHO), "no rows"),
        (lambda: batchgen.generate("text", model=ECHO), "a list of them"),
        (lambda: batchgen.run(FRAME, prompt="x"), "needs prompt and output"),
        (lambda: batchgen.run("job.yaml", prompt="x"), "belong to a frame"),
    ],
)
def test_a_call_that_cannot_be_meant(call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert batchgen.__version__ == version("batchgen-llm")
    assert issubclass(UsageError, BatchgenError)


SCRIPT = """
import batchgen
table = batchgen.generate(["What is tea?", "Count to three."], model={model!r}, max_new_tokens=4)
print(table["finish_reason"].to_list())
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard(tmp_path: Path, demo_folder: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(model=str(demo_folder)))
    done = subprocess.run(
        [sys.executable, str(script)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(Path.home())},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['length', 'length']\n"


@pytest.mark.slow
def test_a_notebook(tmp_path: Path, demo_folder: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook()
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + SCRIPT.format(
        model=str(demo_folder)
    )
    job = {
        "version": 1,
        "name": "notebook",
        "input": {"path": "rows.jsonl"},
        "prompt": {"user": "{{ 问题 }}"},
        "model": {"engine": "echo"},
        "output": {"path": "out"},
    }
    (tmp_path / "rows.jsonl").write_text('{"问题": "茶是什么？"}\n', "utf-8")
    plan = f"job = batchgen.load_job({job!r})\nbatchgen.plan(job)"
    cells = [code, "table", plan, "batchgen.run(job)"]
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed, shown, planned, ran = (
        "".join(str(one) for one in cell.outputs) for cell in notebook.cells
    )
    assert "['length', 'length']" in printed
    assert "2/2" in printed  # the bar
    assert "text/html" in shown
    assert "<pre style=" in planned
    assert "Prompt    no model" in planned
    assert "done   1 row in" in ran
