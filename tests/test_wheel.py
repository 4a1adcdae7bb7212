"""A wheel has every file of the package, and runs without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files that git has, in a copy, so that no build folder of the checkout is used."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "batchgen", "pyproject.toml", "README.md"],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(out),
    ]
    subprocess.run([*command, str(copy)], check=True)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "batchgen"], check=True, capture_output=True, cwd=ROOT
    )
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("batchgen/")}
    assert packed == set(filter(None, listed.stdout.decode().split("\0")))


def test_the_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    packages, work = tmp_path / "packages", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(packages)
    environment = {**os.environ, "PYTHONPATH": str(packages)}

    def batchgen(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "batchgen", *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=work,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [sys.executable, "-c", "import batchgen; print(batchgen.__file__)"]
    found = subprocess.run(
        where, check=True, capture_output=True, text=True, env=environment, cwd=work
    )
    assert Path(found.stdout.strip()).is_relative_to(packages)
    batchgen("init")
    echo = ("--set", "model.path=null", "--set", "model.engine=echo")
    batchgen("run", "job.yaml", *echo, "--set", "evaluate.metrics=[length]")
    batchgen("report", "out/prompts")
    assert "<html" in (work / "out" / "prompts" / "report.html").read_text()[:500]
    batchgen("review", "out/prompts", "--export", "review.html")
    assert "<html" in (work / "review.html").read_text()[:500]
    assert "quickstart" not in batchgen("schema")
