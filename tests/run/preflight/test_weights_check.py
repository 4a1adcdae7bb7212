"""Compressed weights are rejected before any row, by `validate` already."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.__main__ import call
from batchgen.errors import ExitCode
from tests.models.conftest import CONFIG

MakeJob = Callable[..., Path]
JUDGE: dict[str, Any] = {"name": "good", "rubric": "Is it good?"}


@pytest.fixture
def model(tmp_path: Path, write_model: Callable[..., Path]) -> Path:
    compressed = {**CONFIG, "quantization_config": {"quant_method": "gptq"}}
    return write_model(tmp_path / "model", {"config.json": compressed})


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
@pytest.mark.parametrize("of_judge", [False, True])
def test_compressed_weights(
    make_job: MakeJob,
    model: Path,
    command: str,
    of_judge: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = {"path": str(model), "engine": "transformers"}
    judge = {**JUDGE, "model": spec}
    sections = {"evaluate": {"judges": [judge]}} if of_judge else {"model": spec}
    job = make_job([{"q": "H"}], decoding={"max_new_tokens": 4}, **sections)

    assert call([command, str(job)]) == ExitCode.ENVIRONMENT
    output = capsys.readouterr().err
    assert f"{model}/config.json: the weights are compressed by gptq" in output
    assert "checkpoint before compression" in output


def test_an_engine_that_reads_no_weights(make_job: MakeJob, model: Path) -> None:
    spec = {"path": str(model), "engine": "echo"}
    job = make_job([{"q": "H"}], model=spec, decoding={"max_new_tokens": 4})
    assert call(["validate", str(job)]) == ExitCode.DONE


def test_a_model_that_does_not_exist_is_left_to_plan(make_job: MakeJob) -> None:
    job = make_job([{"q": "H"}], model={"path": "./nothing here", "engine": "transformers"})
    assert call(["validate", str(job)]) == ExitCode.DONE
