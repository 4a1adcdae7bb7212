"""What `run` says when it ends."""

import re
from pathlib import Path
from typing import Any

import pytest

from batchgen.__main__ import call
from batchgen.state.run_folder import read_json
from tests.conftest import MakeJob

SHARES = ("mfu", "useful_token_share")


def test_a_run_says_how_well_it_used_the_machine_and_keeps_it(
    make_job: MakeJob, starter_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"engine": "transformers", "path": str(starter_folder)}
    job = make_job(
        [{"q": "Hello."}, {"q": "Name a colour."}], model=model, decoding={"max_new_tokens": 2}
    )
    assert call(["run", str(job)]) == 0
    said = re.search(
        r"^tier   slots, own forward · \d+ workers? \(auto: one a core, at most 8\)\nused   (\d+)% of the machine's peak \(MFU\) · (\d+)% of computed tokens useful$",
        capsys.readouterr().err,
        re.MULTILINE,
    )
    assert said is not None
    kept: Any = read_json(job.parent / "out" / "manifest.json")["engine"]
    assert [f"{kept[share]:.0%}" for share in SHARES] == [f"{n}%" for n in said.groups()]
    assert 0 < kept["mfu"] < 1


def test_without_a_model_there_is_nothing_to_say(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    assert call(["run", str(job)]) == 0
    assert "MFU" not in capsys.readouterr().err
    assert not set(SHARES) & set(read_json(job.parent / "out" / "manifest.json")["engine"])
