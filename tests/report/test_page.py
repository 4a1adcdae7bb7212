"""The page of a report: its policy, its static part, and rows that try to be markup."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from batchgen.cli import cli
from batchgen.report.page import bilingual, json_island
from batchgen.report.write_report import write_report
from tests.report.conftest import HOSTILE, Page

MakeRun = Callable[..., Path]

# One scored run is enough for most tests: charts take a second.


@pytest.fixture
def page(scored: MakeRun) -> Page:
    folder = scored(
        rows=[*((text, False) for text in HOSTILE), ("plain", True)],
        columns={"kind": [*HOSTILE, "plain"]},
        slices=["kind"],
        gates=[{"metric": "exact", "min": 0.9}],
    )
    return Page(write_report(folder).read_text("utf-8"))


def test_the_policy_allows_the_style_and_the_script_of_the_page_only(page: Page) -> None:
    tag, policy = next(one for one in page.elements if one[0] == "meta" and "http-equiv" in one[1])
    assert (tag, policy["http-equiv"]) == ("meta", "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in (policy["content"] or "").split("; "))
    assert rules["default-src"] == "'none'"
    (style,), (_, script) = page.content("style"), page.content("script")
    for name, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"


def test_no_element_loads_or_runs_anything_else(page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({"img", "iframe", "object", "link", "base", "form", "image", "use"})
    attributes = {name for _, found in page.elements for name in found}
    assert attributes.isdisjoint({"style", "src", "href", "xlink:href"})
    assert not [name for name in attributes if name.startswith("on")]


def test_texts_of_rows_are_data_and_never_markup(page: Page) -> None:
    answers = [row["answer"] for row in page.data["rows"]]
    assert set(HOSTILE) <= set(answers)
    assert len(page.content("script")) == 2
    assert "<U+202E>evil<U+202C>" in page.text  # the name of a slice, in the static part
    assert "\u202e" not in page.text


def test_the_verdict_is_that_of_the_gates(page: Page) -> None:
    assert "Not good enough: 1 of 1 gates did not pass" in page.text
    assert "未通过：1 项门禁中有 1 项未通过" in page.text
    assert "exact >= 0.9" in page.text


def test_what_was_not_measured_is_not_shown_as_sound(page: Page) -> None:
    assert "declines to answer" in page.text
    assert "batchgen score RUN --metric refusal" in page.text


def test_values_in_texts_are_escaped() -> None:
    assert "<b>" not in str(bilingual("error_code", code="<b>"))
    assert "&lt;b&gt;" in str(bilingual("error_code", code="<b>"))


def test_data_cannot_end_its_element() -> None:
    values = {"text": "</script><!--\u2028&"}
    island = json_island(values)
    assert not set("<>&\u2028") & set(island)
    assert json.loads(island) == values


def test_the_command_names_the_file(scored: MakeRun, tmp_path: Path) -> None:
    folder, target = scored(), tmp_path / "a b.html"
    done = CliRunner().invoke(
        cli, ["report", str(folder), "-o", str(target), "--json"], standalone_mode=False
    )
    assert done.exception is None
    printed = json.loads(done.stdout.splitlines()[-1])
    assert (printed["report"], printed["bytes"]) == (str(target), target.stat().st_size)
    assert target.stat().st_mode & 0o777 == 0o600
    assert not (folder / "report.html").exists()


@pytest.mark.slow
def test_open_gives_the_address_of_the_file_to_the_browser(scored: MakeRun, tmp_path: Path) -> None:
    folder, opened = scored(), tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o700)
    command = [sys.executable, "-m", "batchgen", "report", str(folder), "--open"]
    environment = {**os.environ, "BROWSER": str(browser)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert opened.read_text().strip() == (folder / "report.html").as_uri()
    assert done.stderr.startswith("wrote  ")
