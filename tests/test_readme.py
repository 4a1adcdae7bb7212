"""The README is correct: its commands, its job, its output and its map of the code."""

import re
import subprocess
import sys
from pathlib import Path

import click
import polars as pl
import pytest
import yaml

from batchgen.cli import cli
from batchgen.errors import ExitCode
from batchgen.jobfile.load import load_job
from batchgen.output.schema import ANSWER_COLUMNS
from batchgen.run.run import run

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
QUICKSTART = ROOT / "jobs" / "quickstart.yaml"


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 145


def test_there_are_exactly_two_set_up_commands() -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert [line for line in lines if "pip install" in line] == [
        "pip install -e '.[demo]' && batchgen run jobs/quickstart.yaml",
        "pip install -e '.[demo,test]' && pytest",
    ]


def test_ci_finds_the_test_command() -> None:
    found = subprocess.run(
        [sys.executable, ".ci/test_command.py", "README.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "pip install -e '.[demo,test]' && pytest\n"


def test_the_readme_installs_only_packages_of_the_project() -> None:
    texts = [p.read_text("utf-8") for p in [*ROOT.glob("batchgen/**/*.py"), ROOT / "README.md"]]
    assert not any(re.search(r"pip install ['\"]?batchgen\b(?!-llm)", text) for text in texts)


def test_the_job_in_the_readme_is_valid(tmp_path: Path) -> None:
    (shown,) = blocks("yaml")
    assert len(shown.splitlines()) <= 15
    path = tmp_path / "job.yaml"
    path.write_text(shown, "utf-8")
    assert load_job(path).job.name == yaml.safe_load(shown)["name"]


@pytest.mark.slow
def test_the_output_in_the_readme_is_that_of_the_quickstart(
    demo_folder: Path, tmp_path: Path
) -> None:
    assert demo_folder.is_dir()
    frame = run(load_job(QUICKSTART, overrides=[f"output.path={tmp_path}"])).frame()
    (shown,) = [block for block in blocks("text") if "answer:" in block]
    for row in frame.head(1).to_dicts():
        assert f"user:      {row['messages'][-1]['content']}" in shown
        assert f"answer:    {row['response']}" in shown
        assert f"({row['finish_reason']}, {row['output_tokens']} tokens)" in shown
    assert frame.height == 12
    assert "12 rows" in shown


def commands_of(page: str) -> list[list[str]]:
    """The words of each command of batchgen in code blocks and in inline code, without `batchgen`."""
    shown = [line for block in blocks("bash", page) for line in block.splitlines()]
    printed = re.findall(r"`(batchgen [a-z][^`]*)`", page)
    return [
        command.split()
        for text in (*shown, *printed)
        for command in re.findall(r"\bbatchgen ([a-z][^&]*)", text)
    ]


def path_and_options(words: list[str]) -> tuple[str, set[str], set[str]]:
    """The name of a command, the long options that it is given, and those of them that do not exist.

    Raises:
        KeyError: there is no such command.
    """
    found: click.Command = cli
    names, rest = ["batchgen"], list(words)
    while isinstance(found, click.Group) and rest and not rest[0].startswith("-"):
        names.append(rest.pop(0))
        command = found.get_command(click.Context(found), names[-1])
        if command is None:
            raise KeyError(" ".join(words))
        found = command
    known = {option for parameter in found.params for option in parameter.opts} | {"--help"}
    given = {word for word in rest if re.match(r"--?[a-z]", word)}
    return " ".join(names), given, given - known


def test_the_commands_in_the_readme_exist_with_their_options() -> None:
    for words in commands_of(README):
        assert not path_and_options(words)[2], words


def test_the_columns_in_the_readme_are_those_of_the_output() -> None:
    table = README.split("## Output", 1)[1].split("\n## ", 1)[0]
    named = [
        name
        for cell in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    ]
    assert named == list(ANSWER_COLUMNS)


def test_the_exit_codes_in_the_readme_exist() -> None:
    paragraph = README.split("Exit codes:", 1)[1].split("\n\n", 1)[0]
    named = {int(code) for code in re.findall(r"`(\d+)`", paragraph)}
    assert named == {int(code) for code in ExitCode}


def test_the_map_of_the_code_in_the_readme_is_complete() -> None:
    (tree,) = [block for block in blocks("text") if "batchgen/" in block and "records.py" in block]
    named = set(re.findall(r"(?:^  |(?<=\.py) |(?<=/) )(\w+(?:/|\.py))", tree, re.MULTILINE))
    package = ROOT / "batchgen"
    folders = {f"{p.name}/" for p in package.iterdir() if p.is_dir() and p.name != "__pycache__"}
    files = {p.name for p in package.glob("*.py") if p.name not in ("__init__.py", "__main__.py")}
    assert named == folders | files
    for file in re.findall(r"`(\w+\.py)`", tree):
        assert list(package.rglob(file)), file


def test_polars_reads_the_example_of_the_readme(tmp_path: Path) -> None:
    """The only line of Python in the README reads the answers."""
    assert 'pl.read_parquet("jobs/out/quickstart/responses.parquet")' in README
    sets = [f"output.path={tmp_path}", "model={engine: echo}"]
    run(load_job(QUICKSTART, overrides=sets))
    assert pl.read_parquet(tmp_path / "responses.parquet").height == 12
