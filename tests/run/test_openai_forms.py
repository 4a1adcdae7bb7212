"""`decoding.response_format` with `engine: openai`: which field each server gets, what is refused, and answers of another form."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.run.run import run
from tests.conftest import MakeJob
from tests.engines.openai.fake_server import SETTINGS, FakeServer, Sent, answer, error, serving

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
ROWS = [{"q": f"row {n}", "labels": ["a", "b"]} for n in range(3)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path_factory.mktemp("cache")))


def model(server: FakeServer) -> dict[str, Any]:
    return {"engine": "openai", "base_url": server.url}


NAMED = {"name": "answer", "schema": SCHEMA, "strict": True}
LARK = {"grammar": '%llguidance {}\nstart: "a"'}
SENT: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "schema": (
        "response_format",
        {"json_schema": SCHEMA},
        ' {"n": 1}',
        {"response_format": {"type": "json_schema", "json_schema": NAMED}},
    ),
    "schema of vLLM": (
        "structured_outputs",
        {"json_schema": SCHEMA},
        '{"n":1}',
        {"structured_outputs": {"json": SCHEMA}},
    ),
    "schema of llama.cpp": (
        "json_schema",
        {"json_schema": SCHEMA},
        '{"n":1}',
        {"json_schema": SCHEMA},
    ),
    "object": (
        "response_format",
        {"json_object": True},
        '{"x": [1]}',
        {"response_format": {"type": "json_object"}},
    ),
    "regex of vLLM": (
        "structured_outputs",
        {"regex": "x+"},
        "xxx",
        {"structured_outputs": {"regex": "x+"}},
    ),
    "regex of SGLang": ("regex", {"regex": "x+"}, "x", {"regex": "x+"}),
    "choice of SGLang": ("regex", {"choice": ["a.b", "c"]}, "a.b", {"regex": r"(a\.b|c)"}),
    "grammar": ("grammar", {"grammar": 'start: "a"'}, "a", LARK),
    "column": (
        "structured_outputs",
        {"columns": {"choice": "labels"}},
        "b",
        {"structured_outputs": {"choice": ["a", "b"]}},
    ),
}


@pytest.mark.parametrize("name", SENT)
def test_a_form_is_sent_in_the_servers_words(name: str, make_job: MakeJob) -> None:
    field, form, text, fields = SENT[name]
    with serving(lambda _: answer(text)) as server:
        server.honors = SETTINGS | {field}
        result = run(make_job(ROWS, model=model(server), decoding={"response_format": form}))
        assert result.exit_code == 0
        (sent,) = {json.dumps({n: b[n] for n in fields}) for b in server.bodies}
    assert json.loads(sent) == fields
    assert pl.read_parquet(result.folder.responses)["response"].to_list() == [text] * 3
    dialect = json.loads(result.folder.manifest.read_text())["engine"]["dialect"]
    assert set(dialect) & {"json_schema", "json_object", "regex", "choice", "grammar"}


WITHOUT = {"schema", "object", "regex of vLLM", "grammar", "column"}


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_a_form_that_the_server_ignores_is_an_error_at_its_line(
    name: str, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    _, form, _, _ = SENT[name]
    with serving() as server:
        job = make_job(ROWS, model=model(server), decoding={"response_format": form})
        assert call(["plan", str(job)]) == 2
        assert server.bodies == []
    shown = capsys.readouterr().err
    assert "job.yaml:" in shown
    assert "decoding.response_format." in shown
    assert "has no effect" in shown


OBJECTIONS: dict[str, tuple[Sent, str]] = {
    "refused": (error(400), "is refused by the server (HTTP 400)"),
    "ignored": (answer("free text"), "is not enforced by the server"),
}


@pytest.mark.parametrize("name", OBJECTIONS)
def test_a_form_of_the_job_that_the_server_cannot_enforce(
    name: str, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    sent, words = OBJECTIONS[name]
    with serving(own_form=sent) as server:
        server.honors = SETTINGS | {"response_format"}
        form = {"response_format": {"json_schema": SCHEMA}}
        assert call(["run", str(make_job(ROWS, model=model(server), decoding=form))]) == 2
        assert server.bodies == []
    shown = capsys.readouterr().err
    assert words in shown
    assert "job.yaml:" in shown


def test_an_ended_answer_of_another_form_is_a_failed_row_and_an_unfinished_one_is_kept(
    make_job: MakeJob, tmp_path: Path
) -> None:
    texts = {"row 0": '{"n": 1}', "row 1": '{"n": "SECRET"}', "row 2": '{"n": '}

    def act(seen: Any) -> Sent:  # a request
        return answer(texts[seen.prompt], finish="length" if seen.prompt == "row 2" else "stop")

    with serving(act) as server:
        server.honors = SETTINGS | {"response_format"}
        form = {"response_format": {"json_schema": SCHEMA}}
        job = make_job(ROWS, model=model(server), decoding=form, run={"max_error_rate": 1})
        assert call(["run", str(job)]) == 0
    table = pl.read_parquet(tmp_path / "out" / "responses.parquet").sort("q")
    assert table["finish_reason"].to_list() == ["stop", "error", "length"]
    assert table["response"].to_list() == ['{"n": 1}', None, '{"n": ']
    assert [code for code in table["error_code"].to_list() if code] == ["grammar_violated"]


def test_reasoning_is_no_part_of_the_form(make_job: MakeJob, tmp_path: Path) -> None:
    message = {"content": '{"n": 1}', "reasoning_content": "I count."}
    choice = {"finish_reason": "stop", "message": message}
    with serving(lambda _: Sent(content={"choices": [choice]})) as server:
        server.honors = SETTINGS | {"response_format"}
        form = {"response_format": {"json_schema": SCHEMA}}
        assert call(["run", str(make_job(ROWS, model=model(server), decoding=form))]) == 0
    table = pl.read_parquet(tmp_path / "out" / "responses.parquet")
    assert table["response"].to_list() == ['{"n": 1}'] * 3
    assert table["reasoning"].to_list() == ["I count."] * 3


def test_a_form_after_a_text_is_refused(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    form = {"response_format": {"json_object": True, "after": "</think>"}}
    own = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1"}
    assert call(["validate", str(make_job(ROWS, model=own, decoding=form))]) == 2
    assert "decoding.response_format.after: is not supported" in capsys.readouterr().err
