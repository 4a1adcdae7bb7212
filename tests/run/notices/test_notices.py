"""What a real server receives when a run ends, and what the file for Prometheus contains."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from batchgen.__main__ import call
from batchgen.cli.run import run
from batchgen.errors import DataError, ExitCode
from batchgen.run.notices.notification import FORMATS, Notification
from batchgen.run.notices.run_notice import RunNotice

MakeJob = Callable[..., Path]
NOTICE = RunNotice("nightly", ExitCode.GATE_FAILED, "done", expected_rows=3, rows={"ok": 3})
LINE = "batchgen nightly: done, exit code 4 · 3 of 3 rows (3 ok)"
SECRET = "a-secret-of-the-address"


@dataclass
class Watcher:
    """A server that receives notices; it responds with `status` and `answer` after `seconds`."""

    port: int = 0
    status: int = 200
    answer: bytes = b"ok"
    seconds: float = 0.0
    bodies: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key={SECRET}"


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    found = Watcher()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            found.bodies.append(json.loads(self.rfile.read(length)))
            time.sleep(found.seconds)
            self.send_response(found.status)
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):  # the client reads only the start
                self.wfile.write(found.answer)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("slack", {"text": LINE}),
        ("feishu", {"msg_type": "text", "content": {"text": LINE}}),
        ("dingtalk", {"msgtype": "text", "text": {"content": LINE}}),
        ("wecom", {"msgtype": "text", "text": {"content": LINE}}),
    ],
)
def test_the_body_of_each_chat_service(
    watcher: Watcher, name: Any, body: dict[str, object]
) -> None:
    assert name in FORMATS
    assert Notification(watcher.url, name).send(NOTICE) == ""
    assert watcher.bodies == [body]


def test_the_option_offers_every_format() -> None:
    (option,) = (one for one in run.params if one.name == "notify_format")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == FORMATS


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://hooks.slack.com/services/x", "text"),
        ("https://open.feishu.cn/open-apis/bot/v2/hook/x", "msg_type"),
        ("https://open.larksuite.com/open-apis/bot/v2/hook/x", "msg_type"),
        ("https://oapi.dingtalk.com/robot/send?access_token=x", "msgtype"),
        ("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=x", "msgtype"),
        ("https://example.org/hook", "event"),
    ],
)
def test_the_format_follows_the_host(url: str, key: str) -> None:
    assert key in Notification(url).body(NOTICE)


@pytest.mark.parametrize(
    ("status", "answer", "failure"),
    [
        (200, b"ok", ""),
        (204, b"", ""),
        (200, b'{"code": 0, "msg": "success"}', ""),
        (200, b'{"code": 19001, "msg": "bad token"}', "127.0.0.1: code 19001"),
        (200, b'{"errcode": 310000}', "127.0.0.1: errcode 310000"),
        (404, b"<html>", "127.0.0.1: HTTP status 404"),
        (302, b"", "127.0.0.1: HTTP status 302"),
        (200, b"x" * 1_000_000, ""),
    ],
)
def test_what_the_server_responds(
    watcher: Watcher, status: int, answer: bytes, failure: str
) -> None:
    watcher.status, watcher.answer = status, answer
    assert Notification(watcher.url).send(NOTICE) == failure


def test_a_server_that_does_not_respond(watcher: Watcher) -> None:
    watcher.seconds = 2.0
    assert Notification(watcher.url).send(NOTICE, timeout=0.2) == "127.0.0.1: ReadTimeout"


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://host/x", "https://", "http://[::1", "file:///etc/passwd"]
)
def test_an_address_to_which_nothing_can_be_sent(url: str) -> None:
    assert "expected an address" in Notification(url).send(NOTICE)


def test_an_error_is_named_by_its_class_alone() -> None:
    notice = RunNotice.of_error("j", DataError("row 'private text' is unreadable"))
    body = json.dumps(Notification("https://example.org").body(notice))
    assert (notice.exit_code, notice.error) == (ExitCode.ENVIRONMENT, "DataError")
    assert "private" not in body


ROWS = [{"q": "private prompt"}, {"q": "another"}]
GATE = {"metrics": ["length"], "gates": [{"metric": "length_characters", "min": 1000}]}


def test_a_run_announces_counts_gates_and_its_exit_code(
    make_job: MakeJob, watcher: Watcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "batchgen.prom"
    job = make_job(ROWS, evaluate=GATE)
    code = call(["run", str(job), f"--notify={watcher.url}", f"--prometheus={file}", "--json"])
    printed = capsys.readouterr()
    (body,) = watcher.bodies
    assert (code, body["exit_code"], body["job"]) == (4, 4, "test")
    assert body["rows"] == {"ok": 2, "failed": 0, "skipped": 0}
    assert body["gates"] == {"failed": 1}
    assert body["tokens"]["output"] > 0
    assert body["metrics"]["length_characters"] == 10.5
    assert "private" not in json.dumps(body)
    assert SECRET not in printed.out + printed.err
    assert list(tmp_path.glob("*.prom*")) == [file]
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }
    assert samples["batchgen_run_exit_code", "test"] == 4
    assert samples["batchgen_run_success", "test"] == 0
    assert samples["batchgen_run_rows", "ok", "test"] == 2
    assert samples["batchgen_run_gates", "failed", "test"] == 1
    assert samples["batchgen_run_metric", "length_characters", "test"] == 10.5
    assert abs(samples["batchgen_run_end_time_seconds", "test"] - time.time()) < 600


def test_a_run_that_cannot_start_announces_its_error(
    make_job: MakeJob, watcher: Watcher, tmp_path: Path
) -> None:
    file = tmp_path / "batchgen.prom"
    job = make_job(ROWS, input={"path": "absent.jsonl"})
    assert call(["run", str(job), f"--notify={watcher.url}", f"--prometheus={file}"]) == 5
    (body,) = watcher.bodies
    assert (body["outcome"], body["exit_code"], body["error"]) == ("error", 5, "DataError")
    assert 'batchgen_run_exit_code{job="test"} 5.0' in file.read_text()


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:9/x", "http://host.invalid/"])
def test_a_failing_address_changes_no_result(
    make_job: MakeJob, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", str(make_job(ROWS)), "--notify", address]) == 0
    assert "the notification was not sent" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_reported_before_the_run(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(ROWS)
    assert call(["run", str(job), "--prometheus", str(tmp_path / "absent" / "x.prom")]) == 5
    assert "the folder does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_written_at_the_end_changes_no_result(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name is as long as possible, that of the temporary file beside it is longer."""
    file = tmp_path / f"{'x' * 250}.prom"
    assert call(["run", str(make_job(ROWS)), "--prometheus", str(file)]) == 0
    assert "--prometheus: cannot write" in capsys.readouterr().err
    assert (tmp_path / "out/manifest.json").exists()
