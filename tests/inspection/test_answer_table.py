"""Rows of an `AnswerTable`: which are selected, in which order, and from which files of a run at any stage."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.__main__ import call
from batchgen.errors import StateError, UsageError
from batchgen.evaluation.scoring.score import score
from batchgen.inspection.answer_table import RowSelection, open_answer_table
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder

MakeJob = Callable[..., Path]
ROWS = [
    {"key": "a", "q": "one", "gold": "one", "size": 3},
    {"key": "b", "q": "two", "gold": "no", "size": 1},
    {"key": "c", "q": None, "gold": "x", "size": None},
    {"key": "d", "q": "four", "gold": "four", "size": 2},
    {"key": "7", "q": "five", "gold": "no", "size": 3},
]
SECTIONS: dict[str, Any] = {
    "input": {"columns": {"id": "key"}},
    "batching": {"part_rows": 2},
    "run": {"max_error_rate": 1},
}
LONGER = [{"key": f"k{n}", "q": "canary " * (n % 5)} for n in range(1, 12)]
EXACT: dict[str, Any] = {"metrics": ["exact"], "reference": "gold"}
SCORED: dict[str, Any] = SECTIONS | {"evaluate": EXACT}


@pytest.fixture
def scored(make_job: MakeJob) -> Path:
    return run(load_job(make_job(ROWS, **SCORED))).folder.path


def ids(path: Path, selection: RowSelection) -> str:
    table = open_answer_table(path)
    return "".join(row["id"] for row in table.take(table.select(selection)))


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (RowSelection(), "abcd7"),
        (RowSelection(most=2), "ab"),
        (RowSelection(row_id="d"), "d"),
        (RowSelection(row_id="7"), "7"),
        (RowSelection(row_id="z"), ""),
        (RowSelection(failed=True), "c"),
        (RowSelection(where="score_exact = 0"), "b7"),
        (RowSelection(where="score_exact = 0 AND size = 3"), "7"),
        (RowSelection(where="error_code IS NOT NULL"), "c"),
        (RowSelection(sort="size"), "bda7c"),  # equal values keep their order, null is last
        (RowSelection(sort="size", descending=True), "a7dbc"),
        (RowSelection(sort="score_exact", most=2), "b7"),
        (RowSelection(where="size > 1", sort="id", descending=True), "da7"),
        (RowSelection(random=True, most=5), "abcd7"),
    ],
)
def test_selection(scored: Path, selection: RowSelection, expected: str) -> None:
    assert ids(scored, selection) == expected


def test_the_id_of_a_conversation_selects_its_turns(make_job: MakeJob) -> None:
    talks = [{"id": key, "turns": ["one", "two"]} for key in ("8", "81", "81/x")]
    sections = {"prompt": {"user": None}, "input": {"columns": {"turns": "turns"}}}
    path = run(make_job(talks, **sections)).folder.path
    assert ids(path, RowSelection(row_id="81")) == "81/181/2"
    assert ids(path, RowSelection(row_id="81/2")) == "81/2"
    assert ids(path, RowSelection(row_id="81/")) == ""


def test_random_rows_are_drawn_from_all_rows_in_the_order_of_the_file(scored: Path) -> None:
    drawn = {ids(scored, RowSelection(random=True, most=2)) for _ in range(200)}
    assert drawn == {a + b for i, a in enumerate("abcd7") for b in "abcd7"[i + 1 :]}


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (RowSelection(where="nope = 1"), "'nope' is not in the output"),
        (RowSelection(where="size +"), "size +"),
        (RowSelection(where="size"), "expected true or false"),
        (RowSelection(sort="nope"), "--sort: .* has no column 'nope'"),
    ],
)
def test_an_invalid_selection_is_rejected(
    scored: Path, selection: RowSelection, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        open_answer_table(scored).select(selection)


def stopped(make_job: MakeJob) -> RunFolder:
    """A run with one sealed part of four answers, and two in the journal."""
    left = iter(range(5))
    job = load_job(make_job(LONGER, **SECTIONS | {"batching": {"part_rows": 4}}))
    return run(job, stop=lambda: next(left, None) is None).folder


def test_an_unfinished_run_has_its_sealed_and_its_journaled_answers(make_job: MakeJob) -> None:
    table = open_answer_table(stopped(make_job).path)
    assert "is not complete yet" in table.unfinished
    rows = table.take(table.select(RowSelection()))
    assert [row["id"] for row in rows[:4]] == ["k1", "k2", "k3", "k4"]
    # The input's columns of a journaled answer are in no file yet.
    assert [row["q"] is None for row in rows] == [False] * 4 + [True] * 2
    assert table.select(RowSelection(row_id=rows[5]["id"])) == [5]


def test_a_run_without_any_answer_is_refused(make_job: MakeJob) -> None:
    folder = run(load_job(make_job(ROWS, **SECTIONS)), stop=lambda: True).folder
    folder.journal.unlink()  # as after a kill before the first answer
    with pytest.raises(UsageError, match="has no answers yet"):
        open_answer_table(folder.path)


def test_a_withheld_run_shows_its_staged_answers(make_job: MakeJob) -> None:
    gates = {"gates": [{"metric": "exact", "min": 1}]}
    job = make_job(ROWS, **SCORED | {"evaluate": EXACT | gates}, output={"publish": "gated"})
    folder = run(load_job(job)).folder
    table = open_answer_table(folder.path)
    assert "withheld" in table.unfinished
    assert len(table.select(RowSelection())) == len(ROWS)
    assert table.score_columns == ["score_exact"]


@pytest.mark.parametrize("layout", ["file", "parts"])
def test_a_run_with_a_prefix(make_job: MakeJob, layout: str) -> None:
    output = {"prefix": "bg_", "layout": layout}
    folder = run(load_job(make_job(ROWS, **SCORED, output=output))).folder
    table = open_answer_table(folder.path)
    assert table.has_answers
    assert table.score_columns == ["bg_score_exact"]
    assert table.select(RowSelection(row_id="d")) == [3]
    assert table.take([3])[0]["bg_response"] == "four"


def test_a_scored_file_and_a_plain_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.Table.from_pylist([{"text": "a\x1b[31m", "gold": "a"}]), plain)
    folder = score(plain, ["exact"], response="text", reference="gold", output=tmp_path / "s")
    table = open_answer_table(folder.folder.path)
    assert (table.response, table.has_answers) == ("text", False)
    assert call(["show", str(plain)]) == 0
    assert capsys.readouterr().out.splitlines()[1:3] == [r"text:      a\x1b[31m", "gold:      a"]
    assert call(["show", str(tmp_path / "s")]) == 0
    assert "scores:    exact 0" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["r*", "run[1]", "x=1", "a?b", "{y}"])
def test_the_name_of_a_folder_is_not_a_pattern(
    make_job: MakeJob, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = load_job(make_job([{"q": "other"}], output={"path": str(tmp_path / "rx")}))
    run(job)
    evaluate = {"metrics": ["exact"], "reference": "q"}
    job = load_job(
        make_job([{"q": "mine"}], output={"path": str(tmp_path / name)}, evaluate=evaluate)
    )
    path = str(run(job).folder.path)
    for command in (["show"], ["status"], ["verify"], ["score"], ["compare", path]):
        assert call([*command, path]) == 0
    printed = capsys.readouterr().out
    assert "mine" in printed
    assert "other" not in printed


def zero(content: bytes) -> bytes:
    return bytes(len(content))


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def extend(content: bytes) -> bytes:
    return content + b"garbage"


def empty(_: bytes) -> bytes:
    return b""


HARMS: Sequence[Callable[[bytes], bytes]] = (zero, truncate, extend, empty)


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: str(harm.__name__))
@pytest.mark.parametrize("stage", ["published", "sealed"])
def test_a_harmed_file_is_named_by_every_reading_command(
    make_job: MakeJob,
    stage: str,
    harm: Callable[[bytes], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    if stage == "sealed":
        folder = stopped(make_job)
        (file,) = folder.parts.glob("*.bgpart")
    else:
        folder = run(load_job(make_job(ROWS, **SCORED))).folder
        file = folder.responses
    file.write_bytes(harm(file.read_bytes()))
    path, job = str(folder.path), str(folder.path.parent / "job.yaml")
    elsewhere = str(folder.path.parent / "elsewhere")
    names_it = {
        "status": ["status", path],
        "show": ["show", path],
        "verify": ["verify", path],
        "runs": ["runs", path],
        "export": ["export", path, "-o", f"{elsewhere}.csv"],
        "run": ["run", job, "-q"],
    }
    if stage == "published":
        names_it["score"] = ["score", path, "-m", "length", "-o", elsewhere]
        names_it["compare"] = ["compare", path, path]
        names_it["reuse"] = ["run", job, "-q", "-o", elsewhere, "--incremental-from", path]
    for name, command in names_it.items():
        code = call(command)
        printed = capsys.readouterr()
        # A sealed part has a record with its counts, which `status` and `runs` read.
        fine = stage == "sealed" and name in ("status", "runs") and code == 0
        expected = 0 if name == "runs" else StateError.exit_code
        assert fine or code == expected, (command, printed)
        assert fine or file.name in printed.out + printed.err
        assert "Traceback" not in printed.err
