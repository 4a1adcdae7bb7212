"""The page in Chromium: search, filters, languages, and rows that try to run, load or disguise something."""

import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest
from playwright.sync_api import Page, expect

from batchgen.report.write_report import write_report
from tests.browser import Opened
from tests.report.conftest import HOSTILE

MakeRun = Callable[..., Path]

pytestmark = pytest.mark.slow

LONG = "long " * 200_000
"""A megabyte."""


def open_answers(page: Page) -> list[str]:
    """Open every answer of the list; the text of each."""
    for summary in page.locator("#list summary").all():
        summary.click()
    expect(page.locator("#list .body:empty")).to_have_count(0)
    return page.locator("#list .body").all_inner_texts()


def ids(opened: Opened) -> list[str]:
    """The ids in the list of answers."""
    return opened.page.locator("#list .id").all_inner_texts()


def test_search_filters_and_order(scored: MakeRun, show: Callable[..., Opened]) -> None:
    rows = [("apples", True), ("pears", False), ("苹果", False), ("plums", True)]
    folder = scored(rows=rows, columns={"lang": ["en", "en", "zh", "en"]}, slices=["lang"])
    opened = show(write_report(folder).as_uri())
    page = opened.page
    assert ids(opened) == ["r1", "r2", "r0", "r3"]  # the worst first
    page.fill("#search", "苹果")
    assert ids(opened) == ["r2"]
    assert page.inner_text("#count") == "1 of 4 answers"
    page.fill("#search", "no such text")
    assert ids(opened) == []
    page.fill("#search", "")
    page.select_option("#by-slice", "lang=en")
    assert ids(opened) == ["r1", "r0", "r3"]
    page.select_option("#by-scored", "best")
    assert ids(opened) == ["r0", "r3"]
    page.select_option("#by-slice", "")
    page.select_option("#by-scored", "")
    page.select_option("#by-order", "best")
    assert ids(opened) == ["r0", "r3", "r1", "r2"]
    page.select_option("#by-metric", "length_characters")
    page.select_option("#by-order", "worst")
    assert ids(opened) == ["r2", "r1", "r3", "r0"]
    page.select_option("#by-finish", "stop")
    assert len(ids(opened)) == 4
    open_answers(page)
    first = page.locator("#list details").first
    assert first.locator(".text").all_inner_texts() == ["苹果", "苹果", "other"]
    assert (opened.requests, opened.messages) == ([page.url], [])


def test_hostile_rows(scored: MakeRun, show: Callable[..., Opened]) -> None:
    texts = [*HOSTILE, "long", "wide"]
    folder = scored(
        rows=[(text, False) for text in texts],
        columns={"kind": [*HOSTILE, LONG, "w" * 300], "gold": [*HOSTILE[1:], "x", LONG, "y"]},
        slices=["kind"],
    )
    path = write_report(folder)
    assert path.stat().st_size < 1_000_000
    opened = show(path.as_uri())
    page = opened.page
    shown = open_answers(page)
    assert len(shown) == len(texts)
    joined = "\n".join(shown)
    assert HOSTILE[0] in joined
    assert HOSTILE[1] in joined
    assert "U+202Eevil" in joined  # shown by its number, without its effect
    assert "… 996,000 more characters" in joined
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    names = page.locator("#by-slice option").all_text_contents()
    assert any("<U+202E>evil<U+202C>" in name for name in names)
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
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
    opened = show(write_report(scored()).as_uri())
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
    opened = show(write_report(folder).as_uri(), language="zh-CN", width=width)
    page = opened.page
    labels = "[...document.querySelectorAll('svg')].map(chart => chart.ariaLabel)"
    assert all(re.search("[\u4e00-\u9fff]", label) for label in page.evaluate(labels))
    assert "通过：全部门禁均已通过" in page.inner_text("#verdict")
    assert "every gate passed" not in page.inner_text("#verdict")
    open_answers(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    cells = "[...document.querySelectorAll('#health td:first-child')].map(cell => cell.offsetWidth)"
    assert min(page.evaluate(cells)) >= 90
    page.click("#language")
    assert "Passed: every gate passed" in page.inner_text("#verdict")
    assert "Distribution: New tokens of an answer" in page.evaluate(labels)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_both_answers_side_by_side(
    scored: MakeRun, show: Callable[..., Opened], tmp_path: Path
) -> None:
    base = scored("base", [("two words", True), ("same", True)])
    new = scored("new", [("two words", False), ("same", True)])
    opened = show(write_report(new, tmp_path / "r.html", baseline=base).as_uri())
    page = opened.page
    page.select_option("#by-why", "flip")
    assert ids(opened) == ["r0"]
    open_answers(page)
    assert page.locator(".pair .text").all_inner_texts() == ["two words", "two words"]
    assert "1.000 → 0.000" in page.inner_text("#list details .body")
