"""The page of `batchgen history` in Chromium: hostile names, both languages, dark, narrow, printed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from batchgen.report.history.job_history import HistoryOptions, open_history
from batchgen.report.history.write_history import write_history
from tests.browser import Opened
from tests.report.conftest import HOSTILE
from tests.report.history.conftest import HOSTILE_NAMES

Night = Callable[..., Path]
Show = Callable[..., Opened]

pytestmark = pytest.mark.slow


@pytest.fixture
def page_file(night: Night, tmp_path: Path) -> Path:
    """The page of four runs whose folders, prompts and slices have hostile names."""
    for name, right in zip(HOSTILE_NAMES, (20, 24, 10), strict=True):
        night(name, right, kinds=HOSTILE)
    night(
        "\u202en4", 10, kinds=HOSTILE, prompt={"system": HOSTILE[1]}, words=["I cannot help with"]
    )
    (tmp_path / "runs" / "<b>broken").mkdir()
    (tmp_path / "runs" / "<b>broken" / "manifest.json").write_text("no")
    slices = ["all", *(f"kind={text}" for text in HOSTILE)]
    options = HistoryOptions(slices=slices, every_night=True)
    target = tmp_path / "h.html"
    write_history(open_history([tmp_path / "runs"], options), target)
    return target


def test_the_page_in_a_browser(page_file: Path, show: Show) -> None:
    opened = show(page_file.as_uri(), language="zh-CN", width=390, scheme="dark")
    page = opened.page
    main = page.locator("main")
    expect(main).to_contain_text("回答的漂移", use_inner_text=True)
    expect(main).to_contain_text("中位数 6 → 85 个字符", use_inner_text=True)
    expect(main).not_to_contain_text("Drift of the answers", use_inner_text=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name in (HOSTILE_NAMES[0], HOSTILE_NAMES[1], "<U+202E>n3"):
        expect(main).to_contain_text(name, use_inner_text=True)
    page.click("#language")
    expect(main).to_contain_text("median 6 → 85 characters", use_inner_text=True)
    expect(main).not_to_contain_text("漂移", use_inner_text=True)
    expect(page.locator("#left-out")).to_contain_text("<b>broken", use_inner_text=True)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    band = page.locator(".f-band").first
    assert band.evaluate("e => getComputedStyle(e).fillOpacity") == "0.18"
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.emulate_media(media="print")
    expect(page.locator(".switches")).to_be_hidden()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert (opened.requests, opened.messages, opened.violations) == ([page.url], [], [])
