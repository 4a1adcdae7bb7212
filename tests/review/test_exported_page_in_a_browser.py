"""The exported page in Chromium, as people use files: open in two tabs, in a browser that keeps nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from batchgen.review.review_page import export_review
from tests.browser import Opened
from tests.review.conftest import prepared
from tests.review.test_review_in_a_browser import downloaded, enter, press

MakeRun = Callable[..., Path]
Show = Callable[..., Opened]

pytestmark = pytest.mark.slow


@pytest.fixture
def file(answered: MakeRun, tmp_path: Path) -> Path:
    """The exported page of four answers."""
    path = tmp_path / "page.html"
    export_review(prepared(answered(prompts=[f"question {n}" for n in range(4)])), path)
    return path


def ratings(page: Page, folder: Path) -> list[tuple[str, object]]:
    """Ids and ratings in the file that a page downloads."""
    return [(one.id, one.value) for one in downloaded(page, folder)]


def test_two_tabs_of_one_reviewer_keep_the_votes_of_both(
    file: Path, show: Show, tmp_path: Path
) -> None:
    opened = show(file.as_uri())
    first = enter(opened, "anna")
    second = enter(show(file.as_uri(), context=first.context), "anna")
    press(first, "r0", "4")
    press(second, "r0", "n")
    press(second, "r1", "5")
    press(first, "r1", "n")
    press(first, "r2", "2")
    press(second, "r2", "n")
    press(second, "r3", "1")
    expected = [("r0", 4), ("r1", 5), ("r2", 2), ("r3", 1)]
    assert ratings(first, tmp_path) == expected
    assert ratings(second, tmp_path) == expected
    third = show(file.as_uri(), context=first.context).page
    third.fill("#name", "anna")
    third.click("#begin")
    expect(third.locator("#done")).to_have_text("4 of 4 done")
    assert ratings(third, tmp_path) == expected


def test_a_browser_that_keeps_nothing_still_gives_the_file(
    file: Path, show: Show, tmp_path: Path
) -> None:
    opened = show(file.as_uri())
    opened.page.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); }")
    opened.page.reload()
    page = enter(opened, "anna")
    press(page, "r0", "4")
    press(page, "r1", "2")
    expect(page.locator("#status")).to_contain_text("download")
    assert ratings(page, tmp_path) == [("r0", 4), ("r1", 2)]


def test_what_a_text_area_changes_is_not_an_edit_and_half_a_character_is_replaced(
    answered: MakeRun, show: Show, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    export_review(prepared(answered(prompts=["one\r\ntwo\rthree", "next"])), path)
    opened = show(path.as_uri())
    page = enter(opened, "anna")
    press(page, "r0", "e", "Control+Enter")
    expect(page.locator("#status")).to_contain_text("unchanged")
    page.keyboard.press("Escape")
    press(page, "r0", "c")
    page.locator("#panel textarea").evaluate("area => { area.value = 'half \\ud83d'; }")
    page.keyboard.press("Control+Enter")
    (vote,) = downloaded(page, tmp_path)
    assert (vote.kind, vote.comment) == ("comment", "half \ufffd")
