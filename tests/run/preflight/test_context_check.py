"""An answer that leaves no space for a prompt is an error before any row is answered."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from batchgen.__main__ import call
from batchgen.errors import ExitCode

MakeJob = Callable[..., Path]
LENGTHS = [
    pytest.param({"decoding.max_new_tokens": 64}, True, id="equal"),
    pytest.param({"decoding.max_new_tokens": 100_000}, True, id="above"),
    pytest.param({"decoding.max_new_tokens": 63}, False, id="below"),
    pytest.param({"decoding.max_new_tokens": 20, "model.max_model_len": 20}, True, id="max_model_len"),
    pytest.param({"decoding.preset": "model"}, True, id="generation_config"),
    pytest.param({"decoding.preset": "model", "decoding.max_new_tokens": 9}, False, id="the job's own"),
]  # fmt: skip


@pytest.fixture
def model(tmp_path: Path, write_model: Callable[..., Path]) -> Path:
    """A model with a context of 64 tokens; `engine: echo` loads no weights."""
    return write_model(tmp_path / "model", {"generation_config.json": {"max_new_tokens": 900}})


@pytest.mark.parametrize(("sets", "is_error"), LENGTHS)
def test_validate_plan_and_run_reject_an_answer_as_long_as_the_context(
    make_job: MakeJob,
    model: Path,
    sets: Mapping[str, Any],
    is_error: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = make_job([{"q": "H"}])
    options = {"model.path": str(model), "prompt.chat_template": "none", **sets}
    arguments = [f"--set={key}={value}" for key, value in options.items()]
    for command in ("validate", "plan", "run"):
        code = call([command, str(job), *arguments])
        output = capsys.readouterr().err
        if not is_error:
            assert code == ExitCode.DONE, output
            continue
        longest = sets.get("model.max_model_len", 64)
        answer = sets.get("decoding.max_new_tokens", 900)
        assert code == ExitCode.USAGE
        assert f"answer of {answer:,} tokens leaves no space for a prompt" in output
        assert f"is {longest:,} tokens" in output
        assert "Traceback" not in output


def test_validate_accepts_a_model_that_is_not_on_this_machine(make_job: MakeJob) -> None:
    job = make_job([{"q": "H"}])
    sets = ["--set=model.path=nobody/nothing", "--set=decoding.max_new_tokens=100000"]
    assert call(["validate", str(job), *sets]) == ExitCode.DONE
