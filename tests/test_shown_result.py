"""Results in Python look as on the command line: by `print`, and as HTML in a notebook."""

import re
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

import pytest

import batchgen
from batchgen.__main__ import call

MakeJob = Callable[..., Path]
ROWS = [{"id": "<b>甲</b>", "q": "茶", "gold": "茶"}, {"id": "乙", "q": "水", "gold": "茶"}]
EVALUATE = {"reference": "gold", "metrics": [{"type": "exact"}]}
TAG = re.compile(r"<(?!/?pre\b)")


@pytest.fixture
def job(make_job: MakeJob) -> Path:
    return make_job(ROWS, evaluate=EVALUATE)


def test_a_plan_is_shown_as_the_command_prints_it(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = repr(batchgen.plan(job))
    assert call(["plan", str(job), "--prompts", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert shown.splitlines() == lines[: lines.index("─" * 72)]


def test_a_result_is_shown_as_the_command_prints_it(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = batchgen.run(job)
    assert call(["run", str(job), "--fresh"]) == 0
    out, err = capsys.readouterr()

    def comparable(text: str) -> str:
        return re.sub(r"in [\d.]+ s · [\d,]+ tok/s", "", text)

    for line in str(result).splitlines():
        assert comparable(line) in comparable(out + err)
    assert str(result).startswith("done   2 rows in ")
    assert "exact" in str(result)


def test_a_comparison_is_shown_as_the_command_prints_it(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / name for name in ("base", "new")]
    for number, folder in enumerate(folders):
        assert call(["run", str(job), "-q", "-o", str(folder), "-s", f"run.seed={number}"]) == 0
    capsys.readouterr()
    shown = repr(batchgen.compare(*folders))
    assert call(["compare", *map(str, folders)]) == 0
    assert capsys.readouterr().out.strip() in shown


def test_the_text_is_escaped_in_html_and_has_no_colour_of_its_own(job: Path) -> None:
    for result in (batchgen.plan(job, prompts=0), batchgen.run(job)):
        page = result._repr_html_()  # what a notebook calls
        assert not TAG.search(page)
        assert "color: inherit" in page
        assert "background: none" in page


def test_a_result_whose_folder_is_gone_is_shown(job: Path) -> None:
    result = batchgen.run(job)
    rmtree(result.folder.path)
    assert "is gone" in repr(result)
