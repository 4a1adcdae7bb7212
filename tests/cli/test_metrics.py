"""`batchgen metrics` as a user meets it."""

import json

import pytest

from batchgen.__main__ import call
from batchgen.metrics.catalog import CATALOG


def test_every_metric_is_listed_with_what_it_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CATALOG)
    assert "exact" in lines[0]
    assert "letter by letter" in lines[0]


def test_one_metric_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["metrics", "number"]) == 0
    out = capsys.readouterr().out
    assert "tolerance: a number" in out
    assert "(default `0.0`)" in out
    assert "Largest difference" in out


def test_all_of_it_is_there_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["metrics", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["ok"] is True
    by_type = {metric["type"]: metric for metric in said["metrics"]}
    assert by_type["length"]["higher_is_better"] is None
    assert by_type["pass_at_k"]["options"][-1]["name"] == "k"
    assert all(option["meaning"] for metric in said["metrics"] for option in metric["options"])


def test_an_unknown_metric_names_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["metrics", "rogue"]) == 2
    assert "no metric is called 'rogue'" in capsys.readouterr().err
