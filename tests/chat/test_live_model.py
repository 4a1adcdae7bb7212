"""Answers of the demo model as they grow, in this process and on a real terminal."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

import batchgen
from batchgen.__main__ import call
from batchgen.chat.live_model import LiveModel, open_live_model
from batchgen.chat.try_rows import TriedSample, rows_to_try
from batchgen.jobfile.load import load_job
from batchgen.records import Message
from tests.conftest import ROOT

MakeJob = Callable[..., Path]
pytestmark = pytest.mark.slow
ROWS = [{"q": "Count from one to twenty."}, {"q": "Write a sentence about 茶."}]


@pytest.fixture
def job(make_job: MakeJob, demo_folder: Path) -> Path:
    model = {"engine": "transformers", "path": str(demo_folder)}
    return make_job(ROWS, model=model, decoding={"max_new_tokens": 40})


@pytest.fixture
def model(job: Path) -> Iterator[LiveModel]:
    with open_live_model(load_job(job)) as opened:
        yield opened


def test_an_answer_grows_to_that_of_a_run(job: Path, model: LiveModel) -> None:
    answers = batchgen.run(job).frame()["response"].to_list()
    for row, answer in zip(rows_to_try(model, id_=None, count=9), answers, strict=True):
        pieces: list[str] = []
        sample = TriedSample(model, row, 0)
        (turn,) = sample
        live = sample.answer(turn, pieces.append)
        assert (live.text, "".join(pieces)) == (answer, answer)
        assert len(pieces) > 2


def test_an_interrupt_ends_the_answer_and_nothing_else(model: LiveModel) -> None:
    request = model.encode([Message("user", ROWS[0]["q"])])
    assert not isinstance(request, batchgen.Failure)
    whole = model.answer(request, lambda _: None)

    def interrupt(text: str) -> None:
        if text:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = model.answer(request, interrupt)
    assert stopped.finish_reason is None
    assert 0 < stopped.tokens < whole.tokens
    assert whole.text.startswith(stopped.text)
    assert model.answer(request, lambda _: None) == whole


def test_a_conversation_that_is_too_long_is_not_sent(model: LiveModel) -> None:
    failure = model.encode([Message("user", "word " * 9000)])
    assert isinstance(failure, batchgen.Failure)
    assert failure.code == "prompt_too_long"


def test_try_writes_no_file(
    job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(job.parent)
    before = sorted(job.parent.rglob("*"))
    options = ["--set", "decoding.max_new_tokens=4"]
    assert call(["try", str(job), "-n", "1", "--prompt", *options]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("── 0\n<|im_start|>")
    assert "── length · 4 tokens" in printed.err
    assert call(["try", str(job), "--row", "9", *options]) == 5
    assert "no row has the id '9'" in capsys.readouterr().err
    assert sorted(job.parent.rglob("*")) == before


def test_a_terminal_edits_lines_and_stops_an_answer(demo_folder: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm",
        "PROMPT_TOOLKIT_NO_CPR": "1",
    }
    long = ["--set", "decoding.max_new_tokens=2000", "--set", "decoding.min_new_tokens=1900"]
    command = ["-m", "batchgen", "chat", str(demo_folder), *long]
    child = pexpect.spawn(
        sys.executable, command, env=environment, encoding="utf-8", timeout=240, cwd=str(tmp_path)
    )
    child.expect("/quit ends")
    child.expect(">")
    child.send("Story?\r")
    child.expect(r"(\w+ ){7}")  # of the answer
    child.sendcontrol("c")
    child.expect("stopped after")
    child.send("/help\r")
    child.expect("show what the model received")
    child.send("/quit\r")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert list(tmp_path.iterdir()) == []
