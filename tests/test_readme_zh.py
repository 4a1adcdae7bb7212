"""The Chinese README is correct: its commands are those of the English one, and what it shows is what they print."""

import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.errors import ExitCode
from batchgen.jobfile.load import load_job
from batchgen.output.schema import ANSWER_COLUMNS
from tests.conftest import ROOT
from tests.test_readme import README, blocks, commands_of, path_and_options

CHINESE = (ROOT / "jobs" / "README.zh.md").read_text("utf-8")
HERE = "/home/you/batchgen/jobs/out/first"
FIRST_HOUR = {
    "batchgen export",
    "batchgen feedback export",
    "batchgen feedback import",
    "batchgen feedback join",
    "batchgen feedback stats",
    "batchgen metrics",
}
"""Commands of the first hour in Chinese; the English README leaves them to the reference."""
ONLY_ENGLISH = {"batchgen feedback"}


@pytest.fixture
def first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The folder of the first hour, with the job that `init` wrote; what it printed."""
    shutil.copy(ROOT / "jobs" / "messages.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert call(["init", "messages.csv"]) == ExitCode.DONE
    return capsys.readouterr().out


def test_both_readmes_have_the_same_commands() -> None:
    english, chinese = (
        {path_and_options(words)[0] for words in commands_of(page)} for page in (README, CHINESE)
    )
    assert chinese - english <= FIRST_HOUR
    assert english - chinese == ONLY_ENGLISH


def test_the_commands_in_the_chinese_readme_exist_with_their_options() -> None:
    for words in commands_of(CHINESE):
        assert not path_and_options(words)[2], words


def test_the_first_hour_has_each_step() -> None:
    hour = CHINESE.split("## 第一个小时")[1].split("\n## ")[0]
    named = {path_and_options(words)[0].removeprefix("batchgen ") for words in commands_of(hour)}
    assert named >= {"init", "doctor", "try", "run", "show", "report", "review", "feedback stats"}


def test_the_first_command_and_its_output_are_those_of_the_english_readme() -> None:
    for language in ("bash", "text"):
        assert blocks(language, CHINESE)[0] == blocks(language)[0]
    assert blocks("bash", CHINESE)[-1] == blocks("bash")[-1]


def test_init_prints_and_writes_what_the_chinese_readme_shows(first_job: str) -> None:
    assert not (ROOT / "jobs" / "messages.csv").read_bytes().isascii()
    with pytest.raises(UnicodeDecodeError):
        (ROOT / "jobs" / "messages.csv").read_text("utf-8")
    assert blocks("text", CHINESE)[1] == first_job.replace(str(Path.cwd()), HERE)
    assert blocks("yaml", CHINESE)[0] == Path("job.yaml").read_text("utf-8")


@pytest.mark.slow
def test_the_first_hour_prints_what_the_chinese_readme_shows(
    first_job: str, demo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert first_job
    assert demo_folder.is_dir()
    assert call(["run", "job.yaml", "--quiet"]) == ExitCode.DONE
    capsys.readouterr()
    assert call(["show", "out/messages", "-n", "2"]) == ExitCode.DONE
    assert blocks("text", CHINESE)[2].strip() == capsys.readouterr().out.strip()
    right = pl.read_parquet("out/messages/responses.parquet")["score_choice"].sum()
    assert f"12 条里只对了 {right:.0f} 条" in CHINESE


def test_the_second_job_in_the_chinese_readme_is_valid_and_that_of_the_english_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(blocks("yaml", CHINESE)[1], "utf-8")
    chinese = load_job(path).job
    path.write_text(blocks("yaml")[0], "utf-8")
    english = load_job(path).job
    assert chinese.model_copy(update={"prompt": english.prompt}) == english


def test_the_columns_and_exit_codes_in_the_chinese_readme_are_those_of_the_output() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", CHINESE, re.MULTILINE)
    named = [name for cell in rows for name in re.findall(r"`(\w+)`", cell)]
    assert named == list(ANSWER_COLUMNS)
    codes = CHINESE.split("退出码：", 1)[1].split("\n\n", 1)[0]
    assert {int(code) for code in re.findall(r"`(\d+)`", codes)} == {int(code) for code in ExitCode}


def test_the_readmes_link_to_each_other() -> None:
    assert "(jobs/README.zh.md)" in README
    for page, folder in ((README, ROOT), (CHINESE, ROOT / "jobs")):
        for target in re.findall(r"\]\(([^)#]+)", page):
            assert (folder / target).is_file(), target
