"""The page in Chromium: search, filters, languages, and rows that try to run, load or disguise something."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from batchgen.report.write_report import write_report
from tests.report.conftest import HOSTILE

MakeRun = Callable[..., Path]

pytestmark = pytest.mark.slow

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
VIOLATIONS = "addEventListener('securitypolicyviolation', e => (window.violations ??= []).push(e.violatedDirective))"
LONG = "long " * 200_000
"""A megabyte."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs chromium, such as Debian's package of that name")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


@dataclass
class Opened:
    """A page in the browser, with all that it requested and logged."""

    page: Page
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def shown(self) -> list[str]:
        """The ids in the list of answers."""
        return self.page.locator("#list .id").all_inner_texts()

    def open_answers(self) -> list[str]:
        """Open every answer of the list; the text of each."""
        for summary in self.page.locator("#list summary").all():
            summary.click()
        expect(self.page.locator("#list .body:empty")).to_have_count(0)
        return self.page.locator("#list .body").all_inner_texts()

    @property
    def violations(self) -> list[str]:
        found: list[str] = self.page.evaluate("window.violations ?? []")
        return found


@pytest.fixture
def show(browser: Browser) -> Iterator[Callable[..., Opened]]:
    contexts = []

    def opened(path: Path, *, language: str = "en-US", width: int = 1200) -> Opened:
        context = browser.new_context(locale=language, viewport={"width": width, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(VIOLATIONS)
        found = Opened(page)
        page.on("request", lambda request: found.requests.append(request.url))
        page.on("console", lambda message: found.messages.append(message.text))
        page.on("pageerror", lambda error: found.messages.append(str(error)))
        page.on("dialog", lambda dialog: found.messages.append(dialog.message))
        page.goto(path.as_uri())
        return found

    yield opened
    for context in contexts:
        context.close()


def test_search_filters_and_order(scored: MakeRun, show: Callable[..., Opened]) -> None:
    rows = [("apples", True), ("pears", False), ("苹果", False), ("plums", True)]
    folder = scored(rows=rows, columns={"lang": ["en", "en", "zh", "en"]}, slices=["lang"])
    opened = show(write_report(folder))
    page = opened.page
    assert opened.shown() == ["r1", "r2", "r0", "r3"]  # the worst first
    page.fill("#search", "苹果")
    assert opened.shown() == ["r2"]
    assert page.inner_text("#count") == "1 of 4 answers"
    page.fill("#search", "no such text")
    assert opened.shown() == []
    page.fill("#search", "")
    page.select_option("#by-slice", "lang=en")
    assert opened.shown() == ["r1", "r0", "r3"]
    page.select_option("#by-scored", "best")
    assert opened.shown() == ["r0", "r3"]
    page.select_option("#by-slice", "")
    page.select_option("#by-scored", "")
    page.select_option("#by-order", "best")
    assert opened.shown() == ["r0", "r3", "r1", "r2"]
    page.select_option("#by-metric", "length_characters")
    page.select_option("#by-order", "worst")
    assert opened.shown() == ["r2", "r1", "r3", "r0"]
    page.select_option("#by-finish", "stop")
    assert len(opened.shown()) == 4
    opened.open_answers()
    first = page.locator("#list details").first
    assert first.locator(".text").all_inner_texts() == ["苹果", "苹果", "other"]
    assert (opened.requests, opened.messages) == ([page.url], [])


def test_hostile_rows(scored: MakeRun, show: Callable[..., Opened]) -> None:
    texts = [*HOSTILE, "long"]
    folder = scored(
        rows=[(text, False) for text in texts],
        columns={"kind": [*HOSTILE, LONG], "gold": [*HOSTILE[1:], "x", LONG]},
        slices=["kind"],
    )
    path = write_report(folder)
    assert path.stat().st_size < 1_000_000
    opened = show(path)
    page = opened.page
    shown = opened.open_answers()
    assert len(shown) == len(texts)
    joined = "\n".join(shown)
    assert HOSTILE[0] in joined
    assert HOSTILE[1] in joined
    assert "U+202Eevil" in joined  # shown by its number, without its effect
    assert "… 996,000 more characters" in joined
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert (opened.requests, opened.messages, opened.violations) == ([page.url], [], [])


@pytest.fixture
def contacted() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and the paths that it was asked for."""
    paths: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()
    thread.join()


INJECTED = """
address => {
    const add = text => document.body.insertAdjacentHTML("beforeend", text);
    add(`<img src="${address}/image" onerror="window.hacked = 1">`);
    add(`<p style="color: red; background: url(${address}/style)">x</p>`);
    return fetch(`${address}/fetch`).catch(() => null);
}
"""


def test_the_policy_blocks_what_markup_or_a_script_would_load(
    scored: MakeRun, show: Callable[..., Opened], contacted: tuple[str, list[str]]
) -> None:
    address, paths = contacted
    opened = show(write_report(scored()))
    opened.page.evaluate(INJECTED, address)
    # wait_for_function polls with eval, which the policy blocks too.
    blocked = {"img-src", "connect-src", "style-src-attr", "script-src-attr"}
    limit = monotonic() + 30
    while not blocked <= set(opened.violations) and monotonic() < limit:
        opened.page.wait_for_timeout(50)
    assert blocked <= set(opened.violations)
    assert opened.page.evaluate("window.hacked") is None
    assert paths == []


@pytest.mark.parametrize("width", [390, 1200])
def test_chinese_dark_and_narrow(scored: MakeRun, show: Callable[..., Opened], width: int) -> None:
    folder = scored(gates=[{"metric": "exact", "min": 0.1}])
    opened = show(write_report(folder), language="zh-CN", width=width)
    page = opened.page
    assert "通过：所有门槛均已达到" in page.inner_text("#verdict")
    assert "every gate passed" not in page.inner_text("#verdict")
    opened.open_answers()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("#language")
    assert "Passed: every gate passed" in page.inner_text("#verdict")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_both_answers_side_by_side(
    scored: MakeRun, show: Callable[..., Opened], tmp_path: Path
) -> None:
    base = scored("base", [("two words", True), ("same", True)])
    new = scored("new", [("two words", False), ("same", True)])
    opened = show(write_report(new, tmp_path / "r.html", baseline=base))
    page = opened.page
    page.select_option("#by-why", "flip")
    assert opened.shown() == ["r0"]
    opened.open_answers()
    assert page.locator(".pair .text").all_inner_texts() == ["two words", "two words"]
    assert "1.000 → 0.000" in page.inner_text("#list details .body")
