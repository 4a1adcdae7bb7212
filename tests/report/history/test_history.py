"""All runs of a job over time: tables, breaks, drift, and runs that are left out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batchgen.cli import cli
from batchgen.errors import StateError, UsageError
from tests.report.conftest import HOSTILE, Page
from tests.report.history.conftest import HOSTILE_NAMES

Night = Callable[..., Path]


def invoke(*arguments: object) -> Result:
    done = CliRunner().invoke(cli, [str(one) for one in arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done


def printed(*arguments: object) -> Any:
    return json.loads(invoke("history", *arguments, "--json").stdout.splitlines()[-1])


def values(trend: Any) -> list[float]:
    return [point["value"] for point in trend["points"]]


def test_a_line_for_each_run_and_metric(night: Night, tmp_path: Path) -> None:
    for name, right in (("a", 20), ("b", 24), ("c", 10)):
        night(name, right)
    (job,) = printed(tmp_path / "runs")["jobs"]
    exact, length = job["metrics"]
    assert [one["name"] for one in job["runs"]] == ["a", "b", "c"]
    assert (exact["metric"], exact["slice"]) == ("exact", "all")
    assert values(exact) == [0.5, 0.6, 0.25]
    assert [point["change"] for point in exact["points"]] == [None, pytest.approx(0.1), -0.35]
    assert length["metric"] == "length_characters"
    lines = invoke("history", tmp_path / "runs", "-m", "exact").stdout.splitlines()
    assert lines[0] == "test: 3 runs"
    assert lines[2].startswith("exact (higher is better)")
    assert lines[4].split()[:1] + lines[4].split()[3:] == [
        *("b", "0.600", "0.446", "to", "0.737", "40", "+0.100", "changed:", "data"),
    ]


def test_last_slice_and_metric(night: Night, tmp_path: Path) -> None:
    for name, right in (("a", 20), ("b", 24), ("c", 10)):
        night(name, right)
    (job,) = printed(
        tmp_path / "runs", "--last", 2, "--slice", "lang=zh", "--slice", "all", "-m", "exact"
    )["jobs"]
    assert [(one["metric"], one["slice"]) for one in job["metrics"]] == [
        ("exact", "all"),
        ("exact", "lang=zh"),
    ]
    assert values(job["metrics"][0]) == [0.6, 0.25]
    assert job["metrics"][0]["points"][0]["change"] == pytest.approx(0.1)  # from a, not shown
    text = invoke("history", tmp_path / "runs", "--last", 1).stdout
    assert "test: 1 run, 2 earlier ones are not shown" in text


@pytest.mark.parametrize(
    ("option", "name", "hint"),
    [("--metric", "rouge", "exact, length_characters"), ("--slice", "lang=fr", "all, lang=en")],
)
def test_unknown_names(night: Night, tmp_path: Path, option: str, name: str, hint: str) -> None:
    night("a", 1)
    with pytest.raises(UsageError, match=f"no run has the {option[2:]} '{name}'") as caught:
        invoke("history", tmp_path / "runs", option, name)
    assert hint in caught.value.hint


def test_what_changed_is_marked(night: Night, tmp_path: Path) -> None:
    steps: list[tuple[dict[str, Any], list[str]]] = [
        ({}, []),
        ({}, []),
        ({"decoding": {"max_new_tokens": 9}}, ["decoding"]),
        ({"run": {"seed": 9}}, ["decoding"]),
        ({"words": ["tell"], "prompt": {"system": "Be brief."}}, ["data", "prompt"]),
        ({"evaluate": {"metrics": ["exact", "length", "refusal"]}}, ["metric"]),
    ]
    sections: dict[str, Any] = {}
    for number, (changed, _) in enumerate(steps):
        sections |= changed
        night(f"n{number}", 20, **dict(sections))
    (job,) = printed(tmp_path / "runs")["jobs"]
    found = [
        list(dict.fromkeys(change["kind"] for change in one["changes"])) for one in job["runs"]
    ]
    assert found == [kinds for _, kinds in steps]


@pytest.mark.slow
def test_nothing_is_compared_across_another_definition_of_a_metric(
    night: Night, tmp_path: Path
) -> None:
    night("a", 20)
    night("b", 20, evaluate={"metrics": [{"type": "exact", "where": "lang = 'en'"}, "length"]})
    night("c", 20, evaluate={"metrics": [{"type": "exact", "where": "lang = 'en'"}, "length"]})
    (job,) = printed(tmp_path / "runs")["jobs"]
    exact, length = job["metrics"]
    assert [point["segment"] for point in exact["points"]] == [0, 1, 1]
    assert [point["change"] for point in exact["points"]] == [None, None, 0]
    assert [point["segment"] for point in length["points"]] == [0, 0, 0]
    lines = invoke("history", tmp_path / "runs").stdout.splitlines()
    broken = [line for line in lines if "not comparable with the runs before" in line]
    assert [line.split()[0] for line in broken] == ["b"]
    text = invoke("history", tmp_path / "runs", "-o", tmp_path / "h.html").stdout
    assert "changed: metric; another metric" in text
    page = Page((tmp_path / "h.html").read_text("utf-8"))
    assert page.text.count("another definition") == 1


def test_jobs_are_grouped_and_runs_that_cannot_be_shown_are_named(
    night: Night, tmp_path: Path
) -> None:
    good, damaged = night("a", 20), night("b", 20)
    night("other", 20, name="replies")
    night("plain", 20, evaluate={"metrics": [], "reference": None, "slices": []})
    (damaged / "metrics.parquet").write_bytes(b"PAR1 no")
    unfinished = night("unfinished", 20)
    (unfinished / "manifest.json").unlink()
    shutil.copytree(good, tmp_path / "runs" / "copy")
    found = printed(tmp_path / "runs")
    assert [(job["job"], len(job["runs"])) for job in found["jobs"]] == [
        ("replies", 1),
        ("test", 1),
    ]
    why = {Path(one["output"]).name: one["why"] for one in found["left_out"]}
    assert "metrics.parquet was changed or damaged" in why["b"]
    assert "has no scores" in why["plain"]
    assert "manifest.json is missing" in why["unfinished"]
    assert "is the same run as" in why["copy"]
    lines = invoke("history", tmp_path / "runs").stdout.splitlines()
    assert sum(line.startswith("left out: ") for line in lines) == 4


def test_folders_without_scored_runs_are_errors(night: Night, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no runs in .*empty"):
        invoke("history", tmp_path / "empty")
    with pytest.raises(UsageError, match="does not exist"):
        invoke("history", tmp_path / "nowhere")
    plain = night("plain", 20, evaluate={"metrics": [], "reference": None, "slices": []})
    with pytest.raises(UsageError, match=r"has scores that can be read\n.*has no scores"):
        invoke("history", plain)


def test_run_folders_and_folders_of_runs_may_be_mixed(night: Night, tmp_path: Path) -> None:
    first, second = night("a", 20), night("b", 24)
    assert [one["name"] for one in printed(first, second)["jobs"][0]["runs"]] == ["a", "b"]
    assert len(printed(first, tmp_path / "runs")["jobs"][0]["runs"]) == 2


def drift(*arguments: object) -> dict[str, Any]:
    (job,) = printed(*arguments)["jobs"]
    (found,) = job["drift"]
    drifting = [one["kind"] for one in found["tests"] if one["drift"]]
    return {**found, "drifts": drifting}


def test_drift_is_that_of_the_newest_run(night: Night, tmp_path: Path) -> None:
    night("a", 20)
    night("b", 20, words=["I cannot help with that, sorry about it"])
    found = drift(tmp_path / "runs")
    assert (found["base"], found["new"]) == ("a", "b")
    assert found["drifts"] == ["length", "refusal"]
    night("c", 20, words=["I cannot help with that, sorry about it"])
    assert drift(tmp_path / "runs")["drifts"] == []
    base = tmp_path / "runs" / "a"
    against = drift(tmp_path / "runs", "--baseline", base)
    assert (against["base"], against["drifts"]) == (str(base), ["length", "refusal"])
    text = invoke("history", tmp_path / "runs", "--baseline", base).stdout
    assert "p is adjusted for 5 tests (Holm)" in text
    (line,) = (line for line in text.splitlines() if line.startswith("  refusal"))
    assert "refusal 0.0 % -> 100.0 %" in line
    assert line.endswith("DRIFT")


def test_equal_runs_never_drift(night: Night, tmp_path: Path) -> None:
    for name in ("a", "b"):
        night(name, 20, words=["one", "two words", "一个"], decoding={"max_new_tokens": 8})
    assert {one["p"] for one in drift(tmp_path / "runs")["tests"]} == {1.0}


def test_a_baseline_for_several_jobs_or_an_unfinished_one(night: Night, tmp_path: Path) -> None:
    base = night("a", 20)
    night("b", 20, name="replies")
    with pytest.raises(
        UsageError, match="a baseline is for the runs of one job; found runs of replies, test"
    ):
        invoke("history", tmp_path / "runs", "--baseline", base)
    (base / "manifest.json").unlink()
    with pytest.raises(StateError, match=r"manifest.json is missing"):
        invoke("history", tmp_path / "runs" / "b", "--baseline", base)


def test_markdown(night: Night, tmp_path: Path) -> None:
    for name, right in zip(HOSTILE_NAMES, (20, 24, 10), strict=True):
        night(name, right)
    invoke("history", tmp_path / "runs", "--markdown", tmp_path / "h.md")
    text = (tmp_path / "h.md").read_text("utf-8")
    assert not set("<>\u202e") & set(text)
    lines = text.splitlines()
    assert lines[0] == "### test: 3 runs"
    (row,) = (line for line in lines if "0.600" in line)
    assert row.startswith(r"| a\* \[b\](c) \| &#64;d |")
    assert row.endswith("| 0.600 | 0.446 – 0.737 | 40 | 100.0 % | +0.100 | data |")
    assert any(line.startswith("| finish\\_reason | 1.000 |") for line in lines)


@pytest.mark.slow
def test_the_page(night: Night, tmp_path: Path) -> None:
    for name, right in zip(HOSTILE_NAMES, (20, 24, 10), strict=True):
        night(name, right)
    night("\u202en4", 10, prompt={"system": HOSTILE[0]})
    target = tmp_path / "h.html"
    done = invoke("history", tmp_path / "runs", "-o", target)
    assert done.stderr.startswith(f"wrote  {target} (")
    text = target.read_text("utf-8")
    page = Page(text)
    assert HOSTILE[0] not in text
    assert HOSTILE[0].replace('"', r"\"") in page.text
    assert HOSTILE_NAMES[0] in page.text
    assert [tag for tag, _ in page.elements].count("svg") == 3
    assert "img" not in {tag for tag, _ in page.elements}
    assert "style" not in {key for _, found in page.elements for key in found}
    assert "4 / 36 / 0" in page.text
    assert "0 / 26 / 14" in page.text
    assert {"拉丁字母", "正常结束", "stop"} <= set(page.content("span"))
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_a_gate_on_drift_is_in_the_report_of_a_run(night: Night) -> None:
    gates = [{"drift": "refusal", "max_p": 0.01, "baseline": "previous"}]
    folder = night("a", 20, evaluate={"gates": gates})
    invoke("report", folder)
    text = Page((folder / "report.html").read_text("utf-8")).text
    assert "drift of refusal from previous: p >= 0.01" in text
    assert "no previous output to compare with" in text


def test_a_page_of_which_one_run_has_damaged_answers_names_it(night: Night, tmp_path: Path) -> None:
    night("a", 20), night("c", 30)
    damaged = night("b", 20) / "scores.parquet"
    content = bytearray(damaged.read_bytes())
    content[40] ^= 0xFF
    damaged.write_bytes(content)
    invoke("history", tmp_path / "runs", "-o", tmp_path / "h.html")
    page = (tmp_path / "h.html").read_text("utf-8")
    assert f'<span lang="en">{damaged} is damaged</span>' in page
    assert f'<span lang="zh">{damaged} 已损坏</span>' in page
