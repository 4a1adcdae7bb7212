"""The page of a review: from the server, or as one file with the answers in it.

The file keeps votes in the browser, and gives them as `ratings.jsonl`, one vote a line as in the folder of a run.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from batchgen.report.page import PageKind, render_page
from batchgen.review.queue.review_items import ReviewItem
from batchgen.review.queue.review_setup import ReviewSetup
from batchgen.review.review_text import SCRIPT_TEXTS, TEXTS
from batchgen.storage.durable import disk_errors, write_durably

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("common.js", "review_store.js", "review.js")
_STYLES = ("page.css", "review.css")
REVIEW_PAGE = PageKind(_TEMPLATES, _STYLES, _SCRIPTS, TEXTS, SCRIPT_TEXTS, connects=True)
EXPORTED_PAGE = PageKind(_TEMPLATES, _STYLES, _SCRIPTS, TEXTS, SCRIPT_TEXTS)


def render_review(setup: ReviewSetup, *, overlap: bool) -> str:
    """The page that the server sends; it contains no answers."""
    config = setup.config(exported=False, overlap=overlap)
    return _render(setup, {"config": config}, REVIEW_PAGE)


def export_review(setup: ReviewSetup, path: Path) -> int:
    """Write the page as one file with its answers, readable by its owner alone; its size in bytes.

    Raises:
        ResourceError: the file cannot be written.
    """
    config = setup.config(exported=True, overlap=False)
    data = {"config": config, "items": [_embedded(n, one) for n, one in enumerate(setup.items)]}
    content = _render(setup, data, EXPORTED_PAGE).encode("utf-8", "replace")
    target = path.absolute()
    with disk_errors("cannot write", target):
        write_durably(target, content, scratch=target.parent)
    return len(content)


def _render(setup: ReviewSetup, data: Mapping[str, Any], kind: PageKind) -> str:
    values = {
        "title": setup.title,
        "version": version("batchgen-llm"),
        "pair": setup.other is not None,
        "labels": bool(setup.options.labels),
        "exported": kind is EXPORTED_PAGE,
    }
    return render_page("review.html.jinja", values, data, kind=kind)


def _embedded(n: int, item: ReviewItem) -> dict[str, Any]:
    """An answer with the fields of votes about it. Answers are in the order run, other; the page draws the sides."""
    answers = [one for one in (item.answer, item.other) if one is not None]
    votes = [
        {
            "run_id": one.run_id,
            "id": item.id,
            "sample": one.sample,
            "response_sha": one.response_sha,
        }
        for one in answers
    ]
    shown = [one.shown for one in answers]
    return {"n": n, **item.shown, "answers": shown, "raters": [], "votes": votes}
