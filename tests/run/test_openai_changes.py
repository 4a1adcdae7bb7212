"""Servers that are away at the start, come back, or change in the middle of a run with `engine: openai`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.__main__ import call
from tests.conftest import MakeJob
from tests.engines.openai.fake_server import FakeServer, Seen, Sent, answer, serving

ROWS = [{"q": f"row {n}"} for n in range(30)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("batchgen.engines.openai.identify_served.START_SECONDS", 0.2)
    monkeypatch.setattr("batchgen.engines.openai.served_model._PAUSE", 0.05)


def model(*servers: FakeServer) -> dict[str, Any]:
    return {"engine": "openai", "base_url": [server.url for server in servers]}


def answers(folder: Path) -> list[str]:
    table = pl.read_parquet(folder / "responses.parquet")
    assert table["q"].to_list() == [row["q"] for row in ROWS], "every row once"
    return table["response"].to_list()


def test_a_server_that_is_away_at_the_start_is_named(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as dead, serving() as server:
        dead.stop()
        assert call(["run", str(make_job(ROWS, model=model(dead, server)))]) == 0
    assert answers(tmp_path / "out") == [f"re: row {n}" for n in range(30)]
    assert f"{dead.url} does not answer: connection refused" in capsys.readouterr().err


def test_only_servers_that_are_all_away_end_with_75(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as first, serving() as second:
        job = str(make_job(ROWS, model=model(first, second)))
        first.stop()
        assert call(["run", job]) == 0
        second.stop()
        assert call(["run", job, "--output", str(Path(job).parent / "other")]) == 75
    shown = capsys.readouterr().err
    assert f"{first.url} does not answer: connection refused; {second.url}" in shown


def test_the_models_are_listed_once_per_start(make_job: MakeJob) -> None:
    with serving() as server:
        assert call(["run", str(make_job(ROWS, model=model(server)))]) == 0
        assert server.listed == 1


def restarted(server: FakeServer, **state: Any) -> None:
    """Restart a server, upgraded or with another model."""
    server.stop()
    for name, value in state.items():
        setattr(server, name, value)
    server.start()


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "version": ({"version": "2.0"}, "served_by was"),
    "model": ({"models": {"data": [{"id": "m", "root": "n"}]}}, "served_model was 'm' and is"),
    "name": ({"models": {"data": [{"id": "other"}]}}, "has no model 'm'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_server_that_is_restarted_with_another_model_stops_the_run(
    name: str, make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, words = CHANGES[name]
    with serving() as server:
        former = {key: getattr(server, key) for key in state}

        def act(seen: Seen) -> Sent:
            if seen.prompt == "row 9" and seen.number == 1:
                restarted(server, **state)
            return answer(
                "same" if all(getattr(server, k) == v for k, v in former.items()) else "changed"
            )

        server.act = act
        job = str(make_job(ROWS, model=model(server), batching={"max_rows": 1, "sort": "none"}))
        assert call(["run", job]) == 5
        shown = capsys.readouterr().err
        assert words in shown
        assert server.seen["row 10"] == 0
        for key, value in former.items():
            setattr(server, key, value)
        server.act = lambda _: answer("same")
        assert call(["run", job]) == 0
    assert answers(tmp_path / "out") == ["same"] * 30


NAMES: dict[str, tuple[Callable[[int], dict[str, Any]], int]] = {
    "the same": (lambda _: {"model": "m", "system_fingerprint": "f"}, 0),
    "another model": (lambda n: {"model": "m" if n < 9 else "n"}, 5),
    "many fingerprints": (lambda n: {"model": "m", "system_fingerprint": f"f{n % 3}"}, 0),
    "no names": (lambda n: {"model": None, "system_fingerprint": n}, 0),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_model_that_answers_name_is_compared(
    name: str, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    names, code = NAMES[name]

    def act(seen: Seen) -> Sent:
        return answer("x", **names(int(seen.prompt.split()[1])))

    with serving(act) as server:
        job = make_job(ROWS, model=model(server), batching={"max_rows": 1, "sort": "none"})
        assert call(["run", str(job)]) == code
    if code:
        assert "answers came from 'm', now from 'n'" in capsys.readouterr().err


def test_a_new_fingerprint_has_the_server_looked_at_again(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:

        def act(seen: Seen) -> Sent:
            late = int(seen.prompt.split()[1]) >= 9
            server.version = "2.0" if late else "1.0"  # behind a gateway, whose connections stay
            return answer("x", system_fingerprint="b" if late else "a")

        server.act = act
        job = make_job(ROWS, model=model(server), batching={"max_rows": 1, "sort": "none"})
        assert call(["run", str(job)]) == 5
        assert server.seen["row 9"] == 1
        assert server.seen["row 10"] == 0
    assert "served_by was" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / ".batchgen" / "run.json").read_text())
