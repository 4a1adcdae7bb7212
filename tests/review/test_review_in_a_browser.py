"""The page in Chromium: two reviewers at once by keyboard, blind pairs, undo and reload, a file, rows that try to be markup."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from batchgen.feedback.import_votes import ImportOptions, import_votes
from batchgen.feedback.vote import Vote, standing_votes
from batchgen.feedback.votes_file import read_votes_file
from batchgen.output.published_run import PublishedRun
from batchgen.review.review_page import export_review
from batchgen.review.server.serve_review import ReviewServer
from batchgen.state.run_folder import RunFolder
from tests.browser import Opened
from tests.report.conftest import HOSTILE
from tests.review.conftest import QUESTIONS, prepared, saved

MakeRun = Callable[..., Path]
Serve = Callable[..., ReviewServer]
Show = Callable[..., Opened]

pytestmark = pytest.mark.slow


def enter(opened: Opened, name: str) -> Page:
    """Enter the name, and wait for the first answer."""
    page = opened.page
    page.fill("#name", name)
    page.keyboard.press("Enter")
    expect(page.locator("#item .answer").first).to_be_visible()
    return page


def press(page: Page, row: str, *keys: str) -> None:
    """Press keys when the answer with this id is shown."""
    expect(page.locator("#item .id")).to_have_text(row)
    for key in keys:
        page.keyboard.press(key)


def test_ten_answers_by_keyboard_by_two_reviewers_at_once(
    answered: MakeRun, serve: Serve, show: Show
) -> None:
    folder = answered()
    server = serve(prepared(folder))
    opened = {name: show(server.url) for name in ("anna", "李华")}
    pages = {name: enter(one, name) for name, one in opened.items()}
    for n in range(10):
        for shift, page in enumerate(pages.values()):
            press(page, f"r{n}", str(1 + (n + shift) % 5))
    for page in pages.values():
        expect(page.locator("#item")).to_contain_text("All answers are done")
        expect(page.locator("#status")).to_have_text("saved")
        expect(page.locator("#done")).to_have_text("10 of 10 done")
    assert pages["anna"].inner_text("#everyone").startswith("Done by: anna 10 · 李华")
    votes = saved(folder)
    assert len(votes) == 20
    for shift, name in enumerate(pages):
        own = [(one.id, one.value) for one in votes if one.reviewer == name]
        assert own == [(f"r{n}", 1 + (n + shift) % 5) for n in range(10)]
    origin = f"http://127.0.0.1:{server.port}/"
    for one in opened.values():
        assert all(address.startswith(origin) for address in one.requests)
        assert (one.messages, one.violations) == ([], [])


def test_with_overlap_each_reviewer_gets_the_shared_answers_and_some_of_the_others(
    answered: MakeRun, serve: Serve, show: Show
) -> None:
    folder = answered(prompts=QUESTIONS[:5])
    server = serve(prepared(folder), 0.2)
    anna, bo = (enter(show(server.url), name) for name in ("anna", "bo"))
    turns = [(anna, "r4", "r0"), (bo, "r4", "r1"), (anna, "r0", "r2"), (bo, "r1", "r3")]
    for page, row, following in turns:
        press(page, row, "3")
        press(page, following)  # waits for it
    press(anna, "r2", "3")
    press(bo, "r3", "3")
    for page in (anna, bo):
        expect(page.locator("#item")).to_contain_text("All answers are done")
        expect(page.locator("#status")).to_have_text("saved")
        expect(page.locator("#done")).to_have_text("3 of 3 done")
    found = sorted((one.id, one.reviewer) for one in saved(folder))
    assert found == [
        ("r0", "anna"),
        ("r1", "bo"),
        ("r2", "anna"),
        ("r3", "bo"),
        ("r4", "anna"),
        ("r4", "bo"),
    ]


def choose_long_ones(page: Page, rows: int) -> None:
    """Choose the longer answer of each pair, by its key."""
    for n in range(rows):
        expect(page.locator("#item .id")).to_have_text(f"r{n}")
        texts = page.locator("#item .answer").all_inner_texts()
        page.keyboard.press("a" if len(texts[0]) > len(texts[1]) else "b")
    expect(page.locator("#item")).to_contain_text("All answers are done")


def check_long_ones(votes: list[Vote], rows: int) -> None:
    """Every vote is for the answer of `run_id`, and was shown on either side."""
    assert [one.id for one in votes] == [f"r{n}" for n in range(rows)]
    assert {(one.choice, one.blind) for one in votes} == {("a", True)}
    assert {one.shown_first for one in votes} == {"run", "other"}


def test_a_blind_choice_is_one_for_the_right_run(
    answered: MakeRun, serve: Serve, show: Show, tmp_path: Path
) -> None:
    prompts = [f"a long question with number {n}" for n in range(12)]
    base, new = answered("base", prompts), answered("new", prompts, tokens=9)
    setup = prepared(base, new)
    server = serve(setup)
    page = enter(show(server.url), "anna")
    for run in (setup.run, setup.other):
        assert run is not None
        assert run.run_id not in page.content()
    choose_long_ones(page, 12)
    expect(page.locator("#status")).to_have_text("saved")
    check_long_ones(saved(base), 12)
    assert saved(new) == []
    export_review(setup, tmp_path / "page.html")
    opened = show((tmp_path / "page.html").as_uri())
    page = enter(opened, "bo")
    choose_long_ones(page, 12)
    check_long_ones(downloaded(page, tmp_path), 12)
    press_previous_and_flag_both(page)
    votes = downloaded(page, tmp_path)
    assert len(votes) == 14
    assert (opened.messages, opened.violations) == ([], [])
    runs = [PublishedRun(RunFolder(folder)) for folder in (base, new)]
    file = tmp_path / "downloads" / "ratings.jsonl"
    assert import_votes(runs[0], [file], ImportOptions(runs[1:])).added == {"bo": 14}
    (flag,) = saved(new)
    assert (flag.kind, flag.labels, flag.id) == ("flag", ["wrong"], "r11")


def press_previous_and_flag_both(page: Page) -> None:
    """Flag both answers of the last pair."""
    page.keyboard.press("p")
    press(page, "r11", "f", "a", "3")
    expect(page.locator("#item .mine-flag")).to_have_count(1)
    press(page, "r11", "f", "b", "3")
    expect(page.locator("#item .mine-flag")).to_have_text(["A: wrong", "B: wrong"])


def downloaded(page: Page, folder: Path) -> list[Vote]:
    """The votes in the file that the page downloads."""
    with page.expect_download() as waiting:
        page.click("#actions .fetch button")
    assert waiting.value.suggested_filename == "ratings.jsonl"
    path = folder / "downloads" / "ratings.jsonl"
    waiting.value.save_as(path)
    return list(read_votes_file(path).votes)


KINDS = ["rating", "undo", "rating", "label", "comment", "flag", "edit", "pass", "skip"]


def judge_in_every_way(page: Page) -> None:
    """Rate, undo, rate again; then each other kind of vote about the first answer, and skip the second one."""
    press(page, "r0", "2")
    press(page, "r1", "u")
    press(page, "r0", "5")
    press(page, "r1", "p")
    expect(page.locator('#actions [data-key="5"]')).to_have_attribute("aria-pressed", "true")
    press(page, "r0", "l", "2", "Enter")
    press(page, "r0", "c")
    page.keyboard.type("too short; 1 2 n")
    page.keyboard.press("Control+Enter")
    press(page, "r0", "f", "2")
    press(page, "r0", "e")
    page.keyboard.type(", edited")
    page.keyboard.press("Control+Enter")
    press(page, "r0", "x")
    press(page, "r1", "s")
    expect(page.locator("#item .id")).to_have_text("r2")


def check_every_way(votes: list[Vote]) -> None:
    assert [one.kind for one in votes] == KINDS
    by_kind = {one.kind: one for one in standing_votes(votes)}
    assert by_kind["rating"].value == 5
    assert by_kind["pass"].value is False
    assert by_kind["label"].labels == ["polite"]
    assert by_kind["flag"].labels == ["private"]
    assert by_kind["comment"].comment == "too short; 1 2 n"
    assert by_kind["edit"].edited_text == "question number 0, edited"
    assert by_kind["skip"].id == "r1"
    assert [one.blind for one in votes[:3]] == [True] * 3
    assert not by_kind["pass"].blind  # the scores were visible after the rating


def test_every_kind_of_vote_and_a_reload(
    answered: MakeRun, serve: Serve, show: Show, tmp_path: Path
) -> None:
    folder = answered()
    setup = prepared(folder, labels=("long", "polite"))
    opened = show(serve(setup).url)
    page = enter(opened, "anna")
    assert page.locator("#item table").count() == 0  # no scores yet
    judge_in_every_way(page)
    expect(page.locator("#status")).to_have_text("saved")
    check_every_way(saved(folder))
    page.reload()
    expect(page.locator("#name")).to_have_value("anna")
    page.click("#begin")
    press(page, "r2", "p")
    press(page, "r1", "p")
    expect(page.locator("#item .mine")).to_have_text(
        ["rating 5", "polite", "too short; 1 2 n", "private", "edited", "fail"]
    )
    assert page.locator("#item table").count() == 1
    assert page.inner_text("#done") == "2 of 10 done"
    export_review(setup, tmp_path / "page.html")
    opened = show((tmp_path / "page.html").as_uri())
    page = enter(opened, "bo")
    judge_in_every_way(page)
    page.reload()
    page.click("#begin")
    expect(page.locator("#done")).to_have_text("2 of 10 done")
    check_every_way(downloaded(page, tmp_path))
    assert opened.messages == []
    assert all(one.startswith(("file:", "blob:")) for one in opened.requests)


@pytest.mark.soak
def test_hostile_rows(answered: MakeRun, serve: Serve, show: Show, tmp_path: Path) -> None:
    long = "long " * 200_000  # a megabyte
    texts = [*HOSTILE, "long"]
    folder = answered(
        prompts=texts,
        columns={"other": [*HOSTILE[1:], "x", long]},
        evaluate={"reference": "other", "metrics": ["exact"]},
    )
    setup = prepared(folder, labels=HOSTILE[1:3])
    export_review(setup, tmp_path / "page.html")
    server = serve(setup)
    for address in (server.url, (tmp_path / "page.html").as_uri()):
        opened = show(address)
        page = enter(opened, "anna")
        seen = ""
        for n in range(len(texts)):
            press(page, f"r{n}", "l", "1", "2", "Enter")
            expect(page.locator("#item .mine")).to_have_count(1)
            press(page, f"r{n}", "c")
            page.keyboard.insert_text(HOSTILE[n % len(HOSTILE)])
            page.keyboard.press("Control+Enter")
            expect(page.locator("#item .mine")).to_have_count(2)
            seen += page.inner_text("#item")
            page.keyboard.press("n")
        assert HOSTILE[0] in seen
        assert HOSTILE[1] in seen
        assert "U+202Eevil" in seen  # shown by its number, without its effect
        assert "… 980,000 more characters" in seen
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
        own = (f"http://127.0.0.1:{server.port}/", "file:")
        assert all(one.startswith(own) for one in opened.requests)
        assert (opened.messages, opened.violations) == ([], [])


def test_the_policy_blocks_what_markup_would_load(
    answered: MakeRun, serve: Serve, show: Show
) -> None:
    opened = show(serve(prepared(answered(prompts=QUESTIONS[:1]))).url)
    page = enter(opened, "anna")
    opened.requests.clear()
    page.evaluate(
        """() => {
            const add = text => document.body.insertAdjacentHTML("beforeend", text);
            add('<img src="http://127.0.0.1:9/image" onerror="window.hacked = 1">');
            add('<p style="background: url(http://127.0.0.1:9/style)">x</p>');
            return fetch("http://127.0.0.1:9/fetch").catch(() => null);
        }"""
    )
    page.wait_for_timeout(100)
    assert {"img-src", "connect-src", "style-src-attr"} <= set(opened.violations)
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("pair", [False, True])
def test_chinese_dark_and_narrow(answered: MakeRun, serve: Serve, show: Show, pair: bool) -> None:
    prompts = ["法国的首都是哪里？" * 20, "x" * 500]
    base = answered("base", prompts)
    setup = prepared(base, answered("new", prompts, tokens=9) if pair else None)
    opened = show(serve(setup).url, language="zh-CN", width=390, scheme="dark")
    page = enter(opened, "李华")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "已完成 0 / 2" in page.inner_text("#work")
    assert "Done" not in page.inner_text("body")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(20, 23, 28)"
    page.click('#actions [data-key="f"]')
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "涉及隐私" in page.inner_text("#panel")
    page.click("#language")
    assert "0 of 2 done" in page.inner_text("#work")
