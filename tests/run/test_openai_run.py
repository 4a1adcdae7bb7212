"""Whole runs with `engine: openai`: what the output contains, what is refused before the first row, and what is resumed."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from tests.conftest import MakeJob
from tests.engines.openai.fake_server import (
    SETTINGS,
    FakeServer,
    Seen,
    Sent,
    answer,
    error,
    say,
    serving,
    slowly,
)
from tests.models.conftest import CONFIG, WriteModel

KEY = "sk-VERYSECRET"
LONG_CONFIG = CONFIG | {"max_position_embeddings": 4096}
ROWS = [{"q": f"row {n}"} for n in range(6)]
Connect = Callable[..., socket.socket]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("batchgen.engines.openai.served_model.START_SECONDS", 0.2)
    monkeypatch.setattr("batchgen.engines.openai.identify_served.START_SECONDS", 0.2)
    monkeypatch.setattr("batchgen.engines.openai.served_model._PAUSE", 0.05)
    monkeypatch.setattr("batchgen.engines.openai.transport.retry_policy.FIRST_WAIT", 0.01)


def model(server: FakeServer, **more: Any) -> dict[str, Any]:
    return {"engine": "openai", "base_url": server.url, **more}


def test_messages_are_sent_and_the_answers_published(make_job: MakeJob) -> None:
    with serving() as server:
        job = make_job(ROWS, model=model(server), prompt={"system": "be brief"})
        result = run(job)
        assert result.exit_code == 0
    table = pl.read_parquet(result.folder.responses).sort("q")
    assert table["response"].to_list() == [f"re: row {n}" for n in range(6)]
    assert table["input_tokens"].to_list() == [5] * 6
    assert table["output_tokens"].to_list() == [3] * 6
    assert server.bodies[0]["messages"][0] == {"role": "system", "content": "be brief"}
    facts = json.loads(result.folder.manifest.read_text())["engine"]
    assert facts["base_url"] == [server.url]
    assert (facts["served_model"], facts["served_name"]) == ("m", "m")
    assert "1.0" in facts["served_by"]
    assert (facts["requests"], facts["prompt_tokens"]) == (6, 30)
    assert (facts["token_exact"], facts["batch_invariant"]) == (False, False)


def test_token_ids_are_sent_with_a_local_tokenizer(
    make_job: MakeJob, write_model: WriteModel, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "tok", {"model.safetensors": None})
    with serving() as server:
        own, brief = model(server, path=str(folder)), {"max_new_tokens": 4}
        job = make_job(ROWS[:1], model=own, decoding=brief)
        result = run(job)
        assert result.exit_code == 0
        (body,) = server.bodies
    assert all(isinstance(token, int) for token in body["prompt"])
    table = pl.read_parquet(result.folder.responses)
    assert table["response"].to_list() == ["re: " + ",".join(map(str, body["prompt"]))]


def listed(context: int) -> dict[str, Any]:
    """The models of llama.cpp's server."""
    return {"data": [{"id": "m", "meta": {"n_ctx": context, "n_ctx_train": 8192}}]}


def test_rows_beyond_the_context_of_the_server_fail_alone_and_are_not_sent(
    make_job: MakeJob,
    write_model: WriteModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_model(tmp_path / "tok", {"model.safetensors": None, "config.json": LONG_CONFIG})
    rows = [{"q": "short"}, {"q": "long " * 60}, {"q": "brief"}]
    with serving(models=listed(80)) as server:
        own = model(server, path=str(folder))
        job = str(
            make_job(rows, model=own, decoding={"max_new_tokens": 9}, run={"max_error_rate": 1})
        )
        assert call(["plan", job]) == 0
        assert f"m of {server.url} · context 80 tokens" in capsys.readouterr().out
        assert call(["run", job]) == 0
        assert len(server.bodies) == 2
        failed = pl.read_parquet(tmp_path / "out" / "responses.parquet")["error_code"].to_list()
        assert failed == [None, "prompt_too_long", None]
        server.models = listed(60)
        other = ["--output", str(tmp_path / "other"), "--set", "decoding.max_new_tokens=60"]
        assert call(["run", job, *other]) == 2
        assert "the server's context is 60 tokens" in capsys.readouterr().err
    assert call(["run", job]) == 0  # complete: the server is not needed


def test_a_run_keeps_the_context_that_it_began_with_where_there_is_room(
    make_job: MakeJob,
    write_model: WriteModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_model(tmp_path / "tok", {"model.safetensors": None, "config.json": LONG_CONFIG})
    with serving(lambda _: error(403), models=listed(80)) as server:
        brief = {"max_new_tokens": 9}
        job = str(make_job(ROWS, model=model(server, path=str(folder)), decoding=brief))
        assert call(["run", job]) == 5
        server.act = say
        server.models = listed(70)
        assert call(["run", job]) == 6
        assert "served_context" in capsys.readouterr().err
        server.models = listed(90)
        assert call(["run", job]) == 0
    settings = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]
    assert settings["model"]["context_length"] == 80


def test_a_server_judges_the_answers_of_another_engine(
    make_job: MakeJob, write_model: WriteModel, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "tok", {"model.safetensors": None, "config.json": LONG_CONFIG})
    top = [{"id": token, "logprob": -1.0 - token / 100} for token in range(258)]
    choice = {
        "text": "x",
        "finish_reason": "length",
        "logprobs": {"content": [{"top_logprobs": top}]},
    }
    with serving(lambda _: Sent(content={"choices": [choice]})) as server:
        judge = {"name": "good", "model": model(server, path=str(folder))}
        job = make_job(ROWS, evaluate={"judges": [judge]}, decoding={"max_new_tokens": 4})
        assert run(job).exit_code == 0
        assert server.bodies
    scores = pl.read_parquet(tmp_path / "out" / "scores.parquet")
    assert set(scores.filter(pl.col("metric") == "good")["status"]) == {"ok"}


def test_plan_names_the_host(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        job = make_job(ROWS, model=model(server, served_name="m"))
        assert call(["plan", str(job)]) == 0
    shown = capsys.readouterr().out
    assert f"m of {server.url}" in shown
    assert "the server's chat template" in shown
    assert "from 16 to 256" in shown
    assert server.bodies == []


def test_a_run_is_resumed_only_with_the_same_model(make_job: MakeJob) -> None:
    def broken(seen: Seen) -> Sent:
        return error(401) if seen.prompt == "row 5" else say(seen)

    with serving(broken) as server:
        job = str(make_job(ROWS, model=model(server), batching={"max_rows": 1}))
        assert call(["run", job]) == 5
        asked = sum(server.seen.values())
        server.act = say
        server.models = {"data": [{"id": "m", "root": "another"}]}
        assert call(["run", job]) == 6
        server.models = {"data": [{"id": "m"}]}
        server.version = "2.0"
        assert call(["run", job]) == 6
        server.version = "1.0"
        assert sum(server.seen.values()) == asked
        assert call(["run", job]) == 0
        assert sum(server.seen.values()) == asked + 1
    assert call(["run", job]) == 0  # complete: the server is not needed


def test_a_server_upgrade_is_named(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda _: error(403)) as server:
        job = str(make_job(ROWS, model=model(server)))
        assert call(["run", job]) == 5
        server.version = "2.0"
        assert call(["run", job]) == 6
        assert "model.served_by was" in capsys.readouterr().err


def test_the_hosts_are_no_part_of_the_run(make_job: MakeJob) -> None:
    with serving() as first, serving() as second:

        def fail(seen: Seen) -> Sent:
            return error(401) if seen.prompt == "row 5" else say(seen)

        first.act = fail
        job = make_job(ROWS, model=model(first), batching={"max_rows": 1})
        assert call(["run", str(job)]) == 5
        other = f"model.base_url=[{first.url}, {second.url}]"
        first.act = say
        assert run(load_job(job, overrides=(other,))).exit_code == 0


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every address to which a connection is opened."""
    opened: list[tuple[str, int]] = []
    real: Connect = socket.create_connection

    def recorded(address: tuple[str, int], *args: Any, **more: Any) -> socket.socket:
        opened.append(address)
        return real(address, *args, **more)

    monkeypatch.setattr(socket, "create_connection", recorded)
    return opened


def test_nothing_is_sent_anywhere_else_and_the_key_stays_secret(
    make_job: MakeJob,
    connections: list[tuple[str, int]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    with serving() as proxy, serving() as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("TEST_KEY", KEY)
        job = str(make_job(ROWS, model=model(server, api_key_env="TEST_KEY")))
        for command in (["validate", "--show", job], ["plan", job], ["plan", "--json", job]):
            assert call(command) == 0
        assert call(["run", job]) == 0
        assert call(["show", str(tmp_path / "out")]) == 0
        assert {one["authorization"] for one in server.headers} == {f"Bearer {KEY}"}
    assert set(connections) == {("127.0.0.1", server.port)}
    shown = capfd.readouterr()
    assert KEY not in shown.out + shown.err
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files
    assert [p for p in files if KEY.encode() in p.read_bytes()] == []


BAD_KEYS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no url": ({"base_url": None}, {}, "model.base_url is required"),
    "no scheme": ({"base_url": "localhost:8000"}, {}, "starts with http"),
    "another scheme": ({"base_url": "ftp://host/v1"}, {}, "starts with http"),
    "a password": ({"base_url": "https://me:SECRETPW@host/v1"}, {}, "a user name or a password"),
    "a query": ({"base_url": "https://host/v1?k=1"}, {}, "contains a ?"),
    "a whole path": ({"base_url": "https://host/v1/chat/completions"}, {}, "ends in /chat"),
    "twice": ({"base_url": ["http://a/v1", "http://a/v1/"]}, {}, "twice"),
    "public http": ({"base_url": "http://8.8.8.8/v1"}, {}, "unencrypted"),
    "public name": ({"base_url": "http://api.example.com/v1"}, {}, "unencrypted"),
    "no such variable": ({"api_key_env": "NO_SUCH_KEY"}, {}, "NO_SUCH_KEY is not set"),
    "unknown argument": ({"engine_args": {"giveup": "1m"}}, {}, "unknown option"),
    "bad time": ({"engine_args": {"give_up": 10}}, {}, "expected a length of time"),
    "no time": ({"engine_args": {"timeout": "0s"}}, {}, "expected a length of time"),
    "bad flag": ({"engine_args": {"insecure": "yes"}}, {}, "expected true or false"),
    "a dtype": ({"dtype": "bfloat16"}, {}, "model.dtype is not supported by engine openai"),
    "a length": ({"max_model_len": 99}, {}, "max_model_len has no effect"),
    "workers": ({}, {"run": {"workers": 2}}, "run.workers is not supported"),
    "beams": ({}, {"decoding": {"num_beams": 2}}, "num_beams is not supported"),
    "ngrams": ({}, {"decoding": {"no_repeat_ngram_size": 2}}, "is not supported"),
    "prefill": ({}, {"prompt": {"prefill": "Yes"}}, "prompt.prefill needs the model's tokenizer"),
    "template": ({}, {"prompt": {"chat_template": "none"}}, "prompt.chat_template needs"),
    "cutting": ({}, {"prompt": {"on_overflow": "skip"}}, "prompt.on_overflow needs"),
    "perplexity": (
        {},
        {"evaluate": {"metrics": ["perplexity"]}},
        "needs the tokenizer of the model",
    ),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_key_without_effect_is_an_error_of_the_job(
    name: str, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    own, sections, expected = BAD_KEYS[name]
    given = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1", **own}
    assert call(["validate", str(make_job(model=given, **sections))]) == 2
    shown = capsys.readouterr().err
    message = shown.replace(": has", " has").replace(": needs", " needs").replace(": is", " is")
    assert expected in message
    if name != "no url":
        assert "job.yaml:" in shown


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("http://localhost:9/v1", {}),
        ("http://10.1.2.3/v1", {}),
        ("http://[::1]:8000/v1", {}),
        ("http://vllm:8000/v1", {}),
        ("https://api.example.com/v1", {}),
        ("http://8.8.8.8/v1", {"engine_args": {"insecure": True}}),
    ],
)
def test_addresses_that_are_allowed(make_job: MakeJob, url: str, more: dict[str, Any]) -> None:
    job = make_job(model={"engine": "openai", "base_url": url, **more})
    assert call(["validate", str(job)]) == 0


MODELS = {"data": [{"id": "a"}, {"id": "b"}]}
BAD_SERVERS: dict[str, tuple[dict[str, Any], dict[str, Any], int, str]] = {
    "wrong key": ({"models_status": 401}, {}, 5, "the key was refused"),
    "forbidden": ({"models_status": 403}, {}, 5, "may not use"),
    "wrong path": ({"models_status": 404}, {}, 5, "the path or the model does not exist"),
    "wrong name": ({}, {"served_name": "x"}, 5, "no model 'x'; it serves m"),
    "many models": ({"models": MODELS}, {}, 5, "serves 2 models: a, b"),
    "no models": ({"models": {"data": []}}, {}, 5, "lists no models"),
    "other JSON": ({"models": [1]}, {}, 5, "lists no models"),
    "busy": ({"models_status": 503}, {"engine_args": {"give_up": "1s"}}, 75, "HTTP 503"),
    "silent": (
        {"probe_seconds": 3.0, "version": "silent"},
        {"engine_args": {"give_up": "1s"}},
        75,
        "gives no answer: timeout",
    ),
}


@pytest.mark.parametrize("name", BAD_SERVERS)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_server_that_cannot_serve_the_job_is_reported_before_the_first_row(
    name: str, command: str, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    state, own, code, expected = BAD_SERVERS[name]
    if code == 75 and command == "plan":
        return
    with serving(**state) as server:
        assert call([command, str(make_job(ROWS, model=model(server, **own)))]) == code
        assert server.bodies == []
    assert expected in capsys.readouterr().err


PAGE = b"<html>SECRET</html>"
PAGES: dict[str, tuple[dict[str, Any], str, tuple[str, str]]] = {
    "no path": ({"models": PAGE}, "", ("a page instead of JSON (HTTP 200)", "ends in /v1")),
    "another program": ({"models": PAGE}, "/v1", ("a page instead of JSON (HTTP 200)", "its host")),
    "https port": (
        {"models": PAGE, "models_status": 400},
        "/v1",
        ("a page instead of JSON (HTTP 400)", "must start with https://"),
    ),
    "redirect": (
        {"models": b"", "models_status": 308},
        "/v1",
        ("it redirects to another address", "must start with https://"),
    ),
    "wrong key": (
        {"models": PAGE, "models_status": 401},
        "/v1",
        ("the key was refused (HTTP 401)", "Set api_key_env"),
    ),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_reported(
    name: str, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    state, path, words = PAGES[name]
    with serving(**state) as server:
        base_url = server.url.removesuffix("/v1") + path
        assert call(["plan", str(make_job(model=model(server) | {"base_url": base_url}))]) == 5
    shown = capsys.readouterr().err
    assert all(one in shown for one in words)
    assert "SECRET" not in shown


def test_tls_on_a_plain_port_and_a_name_that_does_not_exist(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        tls = server.url.replace("http://", "https://")
        assert call(["plan", str(make_job(model=model(server) | {"base_url": tls}))]) == 5
    assert "does not speak TLS" in capsys.readouterr().err
    nowhere = {"engine": "openai", "base_url": "http://no-such-host.invalid/v1"}
    nowhere["engine_args"] = {"insecure": True}  # type: ignore[assignment]
    assert call(["plan", str(make_job(model=nowhere))]) in (5, 75)


def test_a_server_that_closes_connections_may_expect_https(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close_each() -> None:
            with suppress(OSError):  # the listener is closed at the end
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=close_each, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        job = make_job(model={"engine": "openai", "base_url": url})
        assert call(["plan", str(job)]) == 75
    assert "whether base_url must start with https://" in capsys.readouterr().err


def test_nobody_listens(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        pass
    assert call(["run", str(make_job(model=model(server)))]) == 75
    shown = capsys.readouterr().err
    assert f"{server.url} does not answer: connection refused" in shown
    assert "waiting for" in shown


def test_a_server_that_states_its_slots_gets_twice_as_many_requests_at_once(
    make_job: MakeJob,
) -> None:
    with serving(slowly(say), slots=3) as server, serving(slowly(say)) as other:
        rows = [{"q": f"row {n}"} for n in range(60)]
        result = run(make_job(rows, model=model(server)))
        both = model(server) | {"base_url": [server.url, other.url]}
        shared = run(make_job(rows, model=both, output={"path": "both"}))
    assert (result.exit_code, shared.exit_code) == (0, 0)
    facts, both_facts = (
        json.loads(one.folder.manifest.read_text())["engine"] for one in (result, shared)
    )
    assert facts["requests_at_once"] == 6
    assert both_facts["requests_at_once"] >= 6 + 16
    assert server.most_in_flight <= 6


def test_two_servers_of_different_models(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as first, serving(models={"data": [{"id": "m", "root": "n"}]}) as second:
        job = make_job(model=model(first) | {"base_url": [first.url, second.url]})
        assert call(["run", str(job)]) == 5
    assert f"{second.url} serves n as m" in capsys.readouterr().err


def test_a_server_that_goes_away_ends_with_75_and_the_run_is_resumed(make_job: MakeJob) -> None:
    gone: list[bool] = []

    def act(seen: Seen) -> Sent:
        return error(503) if gone and seen.prompt == "row 5" else say(seen)

    with serving(act) as server:
        gone.append(True)
        own = model(server, engine_args={"give_up": "1s"})
        job = make_job(ROWS, model=own, batching={"max_rows": 1, "sort": "none"})
        assert call(["run", str(job)]) == 75
        gone.clear()
        assert call(["run", str(job)]) == 0
        assert all(count == 1 for prompt, count in server.seen.items() if prompt != "row 5")


def test_a_failed_row_quotes_nothing(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def act(seen: Seen) -> Sent:
        return error(400) if seen.prompt == "row 3" else say(seen)

    with serving(act) as server:
        job = make_job(ROWS, model=model(server), run={"max_error_rate": 1.0})
        assert call(["run", str(job)]) == 0
    table = pl.read_parquet(tmp_path / "out" / "responses.parquet").filter(q="row 3")
    assert table["error_code"].to_list() == ["request_refused"]
    assert "SECRET" not in capsys.readouterr().err
    assert "SECRET" not in table["error"].item()


def test_many_answers_of_a_row_have_seeds_of_their_own(make_job: MakeJob) -> None:
    decoding = {"temperature": 0.8, "num_return_sequences": 3}
    with serving(lambda _: answer("x")) as server:
        assert run(make_job(ROWS[:1], model=model(server), decoding=decoding)).exit_code == 0
        assert len({body["seed"] for body in server.bodies}) == 3


HONORED: dict[str, tuple[dict[str, Any], str]] = {
    "top_p": ({"temperature": 1.0, "top_p": 0.5}, "decoding.top_p"),
    "top_k": ({"temperature": 1.0, "top_k": 5}, "decoding.top_k"),
    "min_p": ({"temperature": 1.0, "min_p": 0.1}, "decoding.min_p"),
    "temperature": ({"temperature": 1.0}, "decoding.temperature"),
    "repetition_penalty": ({"repetition_penalty": 1.2}, "decoding.repetition_penalty"),
    "stop": ({"stop": ["x"]}, "decoding.stop_strings"),
    "min_tokens": ({"min_new_tokens": 3}, "decoding.min_new_tokens"),
    "logprobs": ({"logprobs": True}, "decoding.logprobs"),
}


@pytest.mark.parametrize("name", HONORED)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_setting_that_the_server_ignores_is_an_error_at_its_line(
    name: str, command: str, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    decoding, key = HONORED[name]
    with serving(lambda _: answer("x", logprobs=1)) as server:
        job = make_job(ROWS, model=model(server), decoding=decoding)
        server.honors = SETTINGS - {name}
        assert call([command, str(job)]) == 2
        assert server.bodies == []
    shown = capsys.readouterr().err
    assert f"{key}: has no effect on {server.url}" in shown
    assert "job.yaml:" in shown


def test_settings_are_sent_in_the_servers_words_and_neutral_values_too(make_job: MakeJob) -> None:
    decoding = {"temperature": 0.5, "max_new_tokens": 9}
    with serving(lambda _: answer("x")) as server:
        job = make_job(ROWS[:1], model=model(server), decoding=decoding)
        result = run(job)
        (body,) = server.bodies
        probes = server.probes
        assert run(load_job(job, overrides=("output.path=again",))).exit_code == 0
        assert server.probes == probes  # kept for a day
    assert body | {"messages": 0, "seed": 0} == {
        "model": "m",
        "messages": 0,
        "seed": 0,
        "stream": False,
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }
    dialect = json.loads(result.folder.manifest.read_text())["engine"]["dialect"]
    assert dialect["repetition_penalty"] == "repetition_penalty"
    assert dialect["seed"] == "seed"


def test_another_name_of_a_setting(make_job: MakeJob) -> None:
    with serving() as server:
        server.honors = SETTINGS - {"repetition_penalty"} | {"repeat_penalty"}
        job = make_job(ROWS[:1], model=model(server), decoding={"repetition_penalty": 1.3})
        assert run(job).exit_code == 0
        assert server.bodies[0]["repeat_penalty"] == 1.3
        assert "repetition_penalty" not in server.bodies[0]


def test_a_server_without_seeds(make_job: MakeJob, tmp_path: Path) -> None:
    sampled = {"temperature": 0.5}
    with serving() as server:
        server.honors = SETTINGS - {"seed"}
        job = make_job(ROWS[:1], model=model(server), decoding=sampled, run={"seed": 3})
        assert call(["run", str(job)]) == 2
        assert call(["run", str(job), "--set", "run.seed=null"]) == 0
    assert pl.read_parquet(tmp_path / "out" / "responses.parquet")["seed"].to_list() == [None]


def test_logprobs_are_those_of_the_server(make_job: MakeJob, tmp_path: Path) -> None:
    listed = [{"logprob": -0.5}, {"logprob": -1.5}]
    choice = {
        "finish_reason": "stop",
        "message": {"content": "a b"},
        "logprobs": {"content": listed},
    }
    with serving(lambda _: Sent(content={"choices": [choice]})) as server:
        job = make_job(ROWS[:1], model=model(server), decoding={"logprobs": True})
        assert call(["run", str(job)]) == 0
        assert server.bodies[0]["logprobs"] is True
    table = pl.read_parquet(tmp_path / "out" / "responses.parquet")
    assert table["logprob_mean"].to_list() == [-1.0]


def test_a_budget_is_never_exceeded_and_the_run_continues_with_a_higher_one(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    price = {"input": 1000.0, "output": 2000.0}
    with serving() as server:
        job = str(
            make_job(
                [{"q": f"row {n}"} for n in range(40)],
                model=model(server, price=price),
                decoding={"max_new_tokens": 4},
                run={"max_total_tokens": 200},
            )
        )
        assert call(["plan", job]) == 0
        shown = capsys.readouterr().out
        assert "40 requests · about " in shown
        assert "at most 160 new tokens · cost at most about 0.4" in shown
        assert "stops before 200 tokens" in shown
        assert call(["run", job]) == 75
        assert "run.max_total_tokens (200) is reached: " in capsys.readouterr().err
        answered = len(server.bodies)
        assert 0 < answered * 8 <= 200
        assert call(["run", job, "--set", "run.max_total_tokens=9999"]) == 0
        assert len(server.bodies) == 40
        shown = capsys.readouterr().err
    assert "200 prompt and 120 new tokens · cost 0.44" in shown


def test_a_budget_holds_for_every_engine(make_job: MakeJob) -> None:
    job = make_job(ROWS, run={"max_total_tokens": 60}, decoding={"max_new_tokens": 8})
    result = run(job)
    assert (result.outcome, result.exit_code) == ("stopped", 75)
    assert 0 < result.counts.input_tokens + result.counts.output_tokens <= 60


def test_a_field_that_breaks_the_server_has_no_effect(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(own_form=error(500)) as server:
        server.honors = SETTINGS | {"grammar"}  # one that cannot read the grammar of the probe
        form = {"response_format": {"grammar": 'start: "x"'}}
        assert call(["run", str(make_job(ROWS, model=model(server), decoding=form))]) == 2
    assert "is refused by the server (HTTP 500)" in capsys.readouterr().err
