"""`batchgen` without a command, and completion in a shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchgen.__main__ import call
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("files", "first"),
    [
        ({}, "batchgen init "),
        ({"notes.txt": "x", "other.yaml": "key: 1"}, "batchgen init "),
        ({"my data.csv": "q\na\n"}, "batchgen init 'my data.csv'"),
        ({"a.yaml": "input: {path: x}", "job.yaml": "input:\n  path: x"}, "batchgen try job.yaml"),
        ({"b.csv": "q", "a.yaml": "input: {path: x}"}, "batchgen try a.yaml"),
    ],
)
def test_batchgen_alone_prints_what_fits_the_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, str],
    first: str,
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert call([]) == 0
    assert capsys.readouterr().out.splitlines()[2].strip().startswith(first)


def _command(folder: Path) -> dict[str, str]:
    (folder / "bin").mkdir()
    script = folder / "bin" / "batchgen"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m batchgen "$@"\n')
    script.chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "completions"),
    [("do", ["doctor"]), ("run --ray-", ["--ray-workers"]), ("models ch", ["check"])],
)
def test_bash_completes(tmp_path: Path, typed: str, completions: list[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    words = ["batchgen", *typed.split()]
    script = (
        f'eval "$(batchgen completion bash)"; COMP_WORDS=({" ".join(words)}); '
        f'COMP_CWORD={len(words) - 1}; _batchgen_completion batchgen; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env=_command(tmp_path),
    )
    assert done.stdout.split() == completions


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_a_script_that_asks_for_completions(
    tmp_path: Path, shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["completion", shell]) == 0
    assert f"_BATCHGEN_COMPLETE={shell}_complete" in capsys.readouterr().out
    words = {"COMP_WORDS": "batchgen do", "COMP_CWORD": "1" if shell == "zsh" else "do"}
    done = subprocess.run(
        ["batchgen"],
        check=False,
        capture_output=True,
        text=True,
        env={**_command(tmp_path), "_BATCHGEN_COMPLETE": f"{shell}_complete", **words},
    )
    assert "doctor" in done.stdout
