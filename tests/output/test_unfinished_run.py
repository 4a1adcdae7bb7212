"""Why a folder is not a finished run, and the next step."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.output.unfinished_run import why_unfinished
from batchgen.state.identity import Identity
from batchgen.state.run_folder import RunFolder

UNFINISHED = Path(__file__).parent.parent / "run_folder_0_1" / "unfinished"


def old_format(folder: RunFolder) -> None:
    shutil.copytree(UNFINISHED, folder.path)


def current_format(folder: RunFolder) -> None:
    settings = {"output": {"prefix": ""}}
    folder.create()
    identity = Identity("id", "2026-11-29", "2026-11-29", settings, [], 1, 1)
    folder.write_json(folder.run, identity.content(), stage="run")


def withheld(folder: RunFolder) -> None:
    current_format(folder)
    folder.staged.mkdir()
    folder.withheld.touch()


def other_folder(folder: RunFolder) -> None:
    folder.path.mkdir()


@pytest.mark.parametrize(
    ("make", "problem", "hint"),
    [
        (
            old_format,
            "is not complete yet",
            "Finish it with version 0.1 of batchgen, or start over",
        ),
        (current_format, "is not complete yet", "Repeat the same `batchgen run` to complete it."),
        (withheld, "were withheld: a gate failed", "Read them in "),
        (other_folder, "is not the output folder of a run", "Give the folder of output.path"),
        (lambda _: None, "does not exist", "Give the folder of output.path"),
    ],
)
def test_each_state_has_its_next_step(
    tmp_path: Path, make: Callable[[RunFolder], None], problem: str, hint: str
) -> None:
    folder = RunFolder(tmp_path / "run")
    make(folder)
    why = why_unfinished(folder)
    assert problem in why.problem
    assert why.hint.startswith(hint)
