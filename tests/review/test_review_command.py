"""`batchgen review` as a process: kill -9 in the middle, errors, and the exported page."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Page, expect

from batchgen.cli import cli
from batchgen.errors import BatchgenError, UsageError
from batchgen.review.server.saved_link import link_path
from batchgen.state.run_folder import RunFolder
from tests.browser import Opened
from tests.review.conftest import saved
from tests.review.test_review_in_a_browser import enter, press

MakeRun = Callable[..., Path]
Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the command; the process, and the link that it prints."""
    processes: list[subprocess.Popen[str]] = []

    def started(*arguments: object) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "batchgen", "review", "--no-open", *map(str, arguments)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", url), url
        return process, url

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.soak
@pytest.mark.parametrize("forgotten", [False, True])
def test_kill_in_the_middle_loses_no_vote(
    answered: MakeRun, start: Start, show: Callable[..., Opened], *, forgotten: bool
) -> None:
    """A page that was open continues after a restart; without the saved link, a new page sends what the old one kept."""
    folder, port = answered(), free_port()
    arguments = (folder, "--port", port, "--order", "file")
    process, url = start(*arguments)
    page = enter(show(url), "anna")
    for n in range(3):
        press(page, f"r{n}", "4")
    expect(page.locator("#status")).to_have_text("saved")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    press(page, "r3", "2")  # the next answer is loaded already
    expect(page.locator("#status")).to_contain_text("1 not saved yet")
    votes = folder / "feedback" / "anna.jsonl"
    assert [one.id for one in saved(folder)] == ["r0", "r1", "r2"]
    votes.write_bytes(votes.read_bytes() + b'{"vote_id":"0123')  # killed while it wrote

    if forgotten:
        link_path(RunFolder(folder)).unlink()
    process, again = start(*arguments)
    assert (again == url) is not forgotten
    if forgotten:
        page = opened_again(page, show, again)
    expect(page.locator("#status")).to_have_text("saved", timeout=15_000)
    expect(page.locator("#done")).to_have_text("4 of 10 done")
    assert [(one.id, one.value) for one in saved(folder)] == [
        *((f"r{n}", 4) for n in range(3)),
        ("r3", 2),
    ]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "the last line is not complete and was left out" in errors
    assert "anna: 4 answers done" in errors


def opened_again(old: Page, show: Callable[..., Opened], url: str) -> Page:
    """The page at its new link, in the same browser; the old one is rejected."""
    expect(old.locator("#status")).to_contain_text("Open its new link", timeout=15_000)
    page = show(url, context=old.context).page
    expect(page.locator("#name")).to_have_value("anna")
    page.click("#begin")
    return page


def invoke(*arguments: object) -> str:
    """Run the command in this process; what it prints on stderr."""
    result = CliRunner().invoke(cli, ["review", *map(str, arguments)], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stderr


def test_a_page_as_a_file(answered: MakeRun, tmp_path: Path) -> None:
    folder, page = answered(), tmp_path / "page.html"
    printed = invoke(folder, "--export", page, "--sample", 4, "--reviewer", "anna")
    assert "queue  4 answers of 10" in printed
    assert "wrote  " in printed
    assert page.stat().st_mode & 0o777 == 0o600
    text = page.read_text("utf-8")
    assert text.count('"response_sha"') == 4
    assert "connect-src" not in text.partition("</head>")[0]
    assert not (folder / "feedback").exists()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--export", "page.html", "--overlap", "20%"), "--overlap has no effect with --export"),
        (("--overlap", "120%"), "is not a share between 0% and 100%"),
        (("--where", "q = "), "--where: "),
        (("--reviewer", "a/b"), "--reviewer: expected a name"),
        (("--order", "worst"), "'worst' is not one of"),
    ],
)
def test_options_that_are_wrong(answered: MakeRun, options: tuple[str, ...], problem: str) -> None:
    folder = answered(prompts=["one"])
    with pytest.raises(Exception, match=problem):
        invoke(folder, *options)


def test_folders_without_a_complete_run(tmp_path: Path, answered: MakeRun) -> None:
    with pytest.raises(UsageError, match="is not the output folder of a run"):
        invoke(tmp_path)
    folder = answered(prompts=["one"])
    (folder / "responses.parquet").write_bytes(b"damaged")
    with pytest.raises(BatchgenError, match="was changed or damaged after it was published"):
        invoke(folder)
