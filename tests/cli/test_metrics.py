"""`batchgen metrics` as users see it."""

import json

import pytest

from batchgen.__main__ import call
from batchgen.jobfile.renamed_keys import RENAMED_TYPES
from batchgen.metrics.registry import METRIC_TYPES


def test_every_metric_is_listed_with_its_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == [*METRIC_TYPES, "judge"]
    assert lines[0].startswith("exact ")
    assert "exactly one of the references" in " ".join(lines[:2])


def test_the_list_has_a_sentence_for_each_and_fits_the_window(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call(["metrics"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "Takes the last explicit statement" not in out, (
        "the rest belongs to the page of the one metric"
    )
    assert "(Zhou et al. 2023); in Chinese as well." in " ".join(out.split())
    assert call(["metrics", "choice"]) == 0
    assert "Takes the last explicit statement" in " ".join(capsys.readouterr().out.split())


def test_one_metric_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["metrics", "number"]) == 0
    out = capsys.readouterr().out
    assert "tolerance: a number" in out
    assert "(default `0.0`)" in out
    assert "Largest difference" in out


def test_judges_show_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["metrics", "judge"]) == 0
    out = capsys.readouterr().out
    assert "A model as judge. Scores are computed" in out
    assert "mode: rubric or pairwise (default `rubric`)" in out


def test_json_contains_every_metric_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["metrics", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["ok"] is True
    by_type = {metric["type"]: metric for metric in printed["metrics"]}
    assert by_type["length"]["higher_is_better"] is None
    assert by_type["pass_at_k"]["options"][-1]["name"] == "k"
    assert all(option["meaning"] for metric in printed["metrics"] for option in metric["options"])


def test_an_unknown_metric_is_an_error_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["metrics", "rogue"]) == 2
    printed = capsys.readouterr().err
    assert "unknown metric 'rogue'" in printed
    assert "Did you mean rouge?" in printed


def test_an_old_name_is_an_error_with_the_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    for old, new in RENAMED_TYPES.items():
        assert call(["metrics", old]) == 2
        error = capsys.readouterr().err
        assert f"renamed to `{new}`" in error
        assert f"Write {new}." in error
