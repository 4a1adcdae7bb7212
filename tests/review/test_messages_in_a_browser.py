"""What the page shows in place of an answer, and about a request that the server rejects, in Chromium."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from batchgen.review.review_page import export_review
from batchgen.review.server.serve_review import ReviewServer
from tests.browser import Opened
from tests.review.conftest import prepared
from tests.review.test_review_in_a_browser import enter

MakeRun = Callable[..., Path]
Serve = Callable[..., ReviewServer]
Show = Callable[..., Opened]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_answer_is_shown_as_none(
    answered: MakeRun, show: Show, tmp_path: Path, text: str
) -> None:
    prompts = ["a long question"]
    setup = prepared(answered("base", prompts), answered("new", prompts, tokens=4))
    (item,) = setup.items
    empty = replace(item.answer, shown={**item.answer.shown, "text": text})
    export_review(replace(setup, items=[replace(item, answer=empty)]), tmp_path / "page.html")
    page = enter(show((tmp_path / "page.html").as_uri(), language="zh-CN"), "anna")
    expect(page.locator("#item .answer").filter(has_text="（无回答）")).to_have_count(1)


def test_an_error_of_the_server_is_in_the_language_of_the_page(
    answered: MakeRun, serve: Serve, show: Show
) -> None:
    opened = show(serve(prepared(answered())).url, language="zh-CN")
    page = enter(opened, "anna")
    page.route("**/api/votes", lambda route: route.continue_(post_data="{}"))
    page.keyboard.press("4")
    expect(page.locator("#status")).to_contain_text("未保存：不是对该回答的有效评审结果")
