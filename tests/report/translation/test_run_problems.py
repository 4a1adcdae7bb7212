"""Why a run is left out, in Chinese: each damage is made for real, so that a changed message needs a changed pattern."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import BatchgenError
from batchgen.jobfile.load import load_job
from batchgen.report.history.build_history import build_history
from batchgen.report.history.job_history import HistoryOptions, open_history
from batchgen.report.history.read_history import read_run
from batchgen.report.translation.run_problems import PROBLEMS, chinese_problem
from batchgen.run.run import run


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _withhold(folder: Path) -> None:
    (folder / "manifest.json").rename(folder / "old")
    for name in ("responses", "metrics", "scores"):
        (folder / f"{name}.parquet").unlink()
    staged = folder / ".batchgen" / "staged"
    staged.mkdir(exist_ok=True)
    (staged / "withheld.json").write_text("{}")


def _add_part(folder: Path) -> None:
    (folder / "responses").mkdir()
    (folder / "responses" / "part-00009.parquet").write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "在发布后丢失": lambda folder: (folder / "metrics.parquet").unlink(),
    "字节，应为": lambda folder: os.truncate(folder / "metrics.parquet", 100),
    "不是文件": lambda folder: _replace_by_folder(folder / "metrics.parquet"),
    "metrics.parquet 已损坏": lambda folder: _flip(folder / "metrics.parquet", 40),
    "不是 JSON": lambda folder: (folder / "manifest.json").write_text("{"),
    "JSON 嵌套过深": lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
    "哈希不符": lambda folder: (folder / "manifest.json").write_text(
        json.dumps({**json.loads((folder / "manifest.json").read_text()), "job": "x"})
    ),
    "而该运行的其他文件还在": lambda folder: (folder / "manifest.json").unlink(),
    "不在该运行的清单中": _add_part,
    "发布被中断": lambda folder: (folder / ".batchgen" / "release.json").write_text("{}"),
    "未发布": _withhold,
}
"""What makes a run unreadable, by a part of the Chinese text about it."""


@pytest.fixture
def finished(make_job: Callable[..., Path], tmp_path: Path) -> Path:
    rows = [{"id": "a", "q": "one", "gold": "one"}]
    evaluate = {"reference": "gold", "metrics": ["exact"]}
    run(load_job(make_job(rows, output={"path": "runs/n"}, evaluate=evaluate)))
    return tmp_path / "runs" / "n"


@pytest.mark.parametrize("chinese", DAMAGES)
def test_each_damage_is_worded_in_chinese(chinese: str, finished: Path) -> None:
    DAMAGES[chinese](finished)
    with pytest.raises(BatchgenError) as caught:
        read_run(finished, finished.parent)
    text = chinese_problem(caught.value.message)
    assert chinese in text, (caught.value.message, text)
    assert str(finished) in text


def test_the_page_names_runs_that_are_left_out_in_both_languages(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, finished.parent / "copy")
    page = build_history(open_history([tmp_path / "runs"], HistoryOptions()))
    assert f'<span lang="en">is the same run as {finished.parent / "copy"}</span>' in page
    assert f'<span lang="zh">与 {finished.parent / "copy"} 是同一次运行</span>' in page


def test_all_texts_are_chinese_and_others_stay() -> None:
    assert all(any("\u4e00" <= c <= "\u9fff" for c in text) for text in PROBLEMS.values())
    assert chinese_problem("something else") == "something else"
