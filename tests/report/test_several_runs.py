"""Several runs against the first one: Holm over all, the page, and files for pull requests and CI."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batchgen.cli import cli
from batchgen.errors import UsageError
from batchgen.evaluation.comparing.compare import compare
from batchgen.evaluation.comparing.compare_several import compare_several
from batchgen.metrics.statistics.paired_results import adjust_holm
from tests.report.conftest import HOSTILE, Page

MakeRun = Callable[..., Path]


def invoke(*arguments: object) -> Result:
    done = CliRunner().invoke(cli, [str(one) for one in arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done


def wrong(count: int) -> list[tuple[str, bool]]:
    """Twelve rows, of which the first ones are wrong."""
    return [(f"ask {n}", n >= count) for n in range(12)]


@pytest.fixture
def runs(scored: MakeRun) -> list[Path]:
    primary = {"type": "exact", "primary": True}
    return [scored(f"w{n}", wrong(n), metrics=[primary, "length"]) for n in (0, 6, 7, 2)]


def test_p_is_adjusted_for_all_runs(runs: list[Path]) -> None:
    base, *others = runs
    alone = [compare(base, other).metrics[0].p for other in others]
    together = [one.metrics[0] for one in compare_several(base, others)]
    assert [one.p for one in together] == adjust_holm(alone)
    assert alone[0] is not None
    assert alone[0] < 0.05
    assert [one.verdict for one in together] == ["inconclusive", "worse", "inconclusive"]
    assert compare(base, others[0]).metrics[0].verdict == "worse"


def test_json_and_exit_code_of_several_runs(runs: list[Path]) -> None:
    done = invoke("compare", *runs, "--fail-if-worse", "exact", "--json")
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (done.return_value, printed["failed"]) == (4, ["w7: exact is worse"])
    assert [Path(one["new"]).name for one in printed["comparisons"]] == ["w6", "w7", "w2"]


def test_the_table_has_a_line_for_each_metric_and_run(runs: list[Path]) -> None:
    lines = invoke("compare", *runs).stdout.splitlines()
    start = lines.index("exact")
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["w6", "w7", "w2"]


def test_long_names_that_are_cut_have_numbers(
    scored: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"max_new_tokens-{n}_prompt-user-body-persona" for n in (12, 60, 90)]
    runs = [scored(name, wrong(n)) for n, name in enumerate(names)]
    monkeypatch.setenv("COLUMNS", "80")
    lines = invoke("compare", *runs).stdout.splitlines()
    start = lines.index("exact")
    assert [line.split()[0] for line in lines[start + 1 : start + 3]] == ["1", "2"]
    assert [line.split(":")[0] for line in lines if line[:2] in ("1 ", "2 ")] == [
        f"{n} {run}" for n, run in enumerate(runs[1:], 1)
    ]


@pytest.mark.parametrize(
    ("options", "paired"),
    [
        ([], "12 rows in both, with the same prompt"),
        (["--pair-changed-prompts"], "12 rows in both, paired by id"),
    ],
)
def test_how_rows_are_paired_is_printed(runs: list[Path], options: list[str], paired: str) -> None:
    assert paired in invoke("compare", *runs[:2], *options).stdout.splitlines()


def test_a_run_that_is_given_twice_is_an_error(runs: list[Path]) -> None:
    with pytest.raises(UsageError, match=r"given more than once: \S*w6\n"):
        invoke("compare", runs[0], runs[1], runs[2], f"{runs[1]}/")


def test_junit_fails_exactly_where_the_command_does(runs: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "junit.xml"
    invoke("compare", *runs, "--fail-if-worse", "exact", "--junit", target)
    root = ET.fromstring(target.read_text())
    failed = [case for case in root.iter("testcase") if case.find("failure") is not None]
    assert [(one.get("classname"), one.get("name")) for one in failed] == [("w7", "exact")]
    assert (root.get("tests"), root.get("failures")) == ("6", "1")


@pytest.mark.slow
def test_the_page_of_several_runs(runs: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    done = invoke("compare", *runs, "-o", target)
    assert done.stderr.startswith(f"wrote  {target} (")
    page = Page(target.read_text("utf-8"))
    assert "Each run is compared with" in page.text
    assert {"w6", "w7", "w2"} <= set(page.text.split())
    assert [tag for tag, _ in page.elements].count("svg") == 1


@pytest.mark.slow
def test_names_that_are_cut_in_a_chart_have_numbers(scored: MakeRun, tmp_path: Path) -> None:
    runs = [scored(f"temperature-0.{n}_prompt-user-body-persona", wrong(n)) for n in range(3)]
    invoke("compare", *runs, "-o", tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    labels = [text for text in page.content("text") if "temperature" in text]
    assert {label[:2] for label in labels} == {"1 ", "2 "}
    assert {f"{n} {run.name}" for n, run in enumerate(runs[1:], 1)} <= set(page.content("bdi"))


@pytest.mark.slow
def test_the_page_of_two_runs_has_their_answers(runs: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    invoke("compare", *runs[:2], "-o", target)
    rows = Page(target.read_text("utf-8")).data["rows"]
    assert [row["id"] for row in rows if "flip" in row["why"]] == [f"r{n}" for n in range(6)]


def test_repeat_runs_are_of_two_runs(runs: list[Path]) -> None:
    with pytest.raises(UsageError, match="applies to two runs"):
        invoke("compare", *runs, "--repeat-runs", runs[0], runs[1])


@pytest.mark.parametrize("suffix", ["md", "xml"])
def test_gates_of_run_and_score(scored: MakeRun, tmp_path: Path, suffix: str) -> None:
    gates = [{"metric": "exact", "min": 0.9}, {"metric": "length_characters", "max": 99}]
    folder, target = scored(gates=gates), tmp_path / f"result.{suffix}"
    option = {"md": "--markdown", "xml": "--junit"}[suffix]
    for command in (["run", tmp_path / "job.yaml", "-q"], ["score", folder]):
        target.unlink(missing_ok=True)
        assert invoke(*command, option, target).return_value == 4
        text = target.read_text()
        if suffix == "md":
            assert "1 of 2 gates did not pass" in text
            assert "| **failed** | exact &#62;= 0.9 | value 0.5, n 2 |" in text
            assert "| exact | 0.500 |" in text
        else:
            failures = [one.get("message") for one in ET.fromstring(text).iter("failure")]
            assert failures == ["failed: value 0.5, n 2"]


def test_names_of_slices_are_not_markup(scored: MakeRun, tmp_path: Path) -> None:
    slices = [f"kind={text}" for text in HOSTILE]
    gates = [{"metric": "exact", "slice": name, "min": 0.9} for name in slices]
    scored(
        rows=[(text, False) for text in HOSTILE],
        columns={"kind": HOSTILE},
        slices=["kind"],
        gates=gates,
    )
    invoke(
        "run", tmp_path / "job.yaml", "-q", "--markdown", tmp_path / "m", "--junit", tmp_path / "j"
    )
    text = (tmp_path / "m").read_text("utf-8")
    assert not set("<\u202e\x1b") & set(text)
    assert sum(line.startswith("| **failed** |") for line in text.splitlines()) == len(HOSTILE)
    names = [
        case.get("name")
        for case in ET.fromstring((tmp_path / "j").read_text("utf-8")).iter("testcase")
    ]
    assert "<U+202E>evil<U+202C>" in str(names)
