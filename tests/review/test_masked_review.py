"""`--mask`: personal data is on no page, neither served nor exported, and votes are about the answers as they are."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from batchgen.cli import cli
from batchgen.feedback.vote import response_sha
from batchgen.review.review_page import export_review
from batchgen.review.server.review_session import ReviewSession
from batchgen.review.server.vote_request import VoteRequest
from tests.review.conftest import prepared, saved

MakeRun = Callable[..., Path]

PROMPT = "write to anna.lee@example.com or call 138 0013 8000 about 12 items"
MASKED = "write to a***@example.com or call *** **** 8000 about 12 items"
SECRETS = ("anna.lee", "138 0013")


def test_a_masked_item_has_no_personal_data_and_its_vote_names_the_answer(
    answered: MakeRun,
) -> None:
    folder = answered(prompts=[PROMPT])
    setup = prepared(folder, masked=True)
    session = ReviewSession(setup)
    item = session.item(0, "anna")
    assert item["answers"][0]["text"] == MASKED
    assert item["prompt"][-1]["content"] == MASKED
    assert not any(secret in str(item) for secret in SECRETS)
    assert setup.masked["email"] >= 2
    session.record(VoteRequest(reviewer="anna", n=0, vote_id="1" * 32, kind="rating", value=4))
    assert saved(folder)[0].response_sha == response_sha(PROMPT)
    assert PROMPT in str(ReviewSession(prepared(folder)).item(0, "anna"))


@pytest.mark.parametrize("stored", [True, False])
def test_an_exported_page_has_no_personal_data(
    answered: MakeRun, tmp_path: Path, *, stored: bool
) -> None:
    """Without stored prompts the page shows the columns of the input instead."""
    folder = answered(prompts=[PROMPT, "nothing private"], stored=stored)
    for masked, name in ((True, "masked.html"), (False, "plain.html")):
        export_review(prepared(folder, masked=masked), tmp_path / name)
    page, plain = ((tmp_path / name).read_text("utf-8") for name in ("masked.html", "plain.html"))
    assert all(secret in plain for secret in SECRETS)
    assert not any(secret in page for secret in SECRETS)
    assert "a***@example.com" in page


def test_the_command_counts_what_it_masks(answered: MakeRun, tmp_path: Path) -> None:
    folder, page = answered(prompts=[PROMPT]), tmp_path / "page.html"
    done = CliRunner().invoke(cli, ["review", str(folder), "--mask", "--export", str(page)])
    assert done.exit_code == 0, done.output
    assert "masked email 3, phone 3" in done.output
    assert not any(secret in page.read_text("utf-8") for secret in SECRETS)
