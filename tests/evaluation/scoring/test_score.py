"""Scoring of existing answers: runs, and any table with a response column."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import batchgen
from batchgen.cli import cli
from batchgen.errors import DataError, UsageError
from batchgen.evaluation.answers import (
    ColumnMap,
    check_grouped_by_prompt,
    read_answers,
    regroup_by_prompt,
)
from batchgen.jobfile.load import load_job
from batchgen.run.run import run

MakeJob = Callable[..., Path]
FOREIGN: list[dict[str, Any]] = [
    {"key": 1, "said": "5", "gold": ["5", "five"], "lang": "en"},
    {"key": 2, "said": "it is 7", "gold": ["8"], "lang": "en"},
    {"key": 3, "said": "九", "gold": [], "lang": "zh"},
    {"key": 4, "said": None, "gold": ["1"], "lang": "zh"},
]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(lines, "utf-8")
    return path


def score(*arguments: object) -> dict[str, Any]:
    """The output of `batchgen score --json`."""
    command = ["score", *map(str, arguments), "--json"]
    done = CliRunner().invoke(cli, command, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


def test_scores_of_a_file_are_written_to_a_separate_folder(tmp_path: Path) -> None:
    file = write(tmp_path / "foreign.jsonl", FOREIGN)
    out = tmp_path / "scored"
    printed = score(file, "-m", "exact", "--response", "said", "--reference", "gold", "-o", out)
    frame = pl.read_parquet(out / "responses.parquet")
    assert frame.columns == ["key", "said", "gold", "lang", "score_exact"]
    assert frame["score_exact"].to_list() == [1.0, 0.0, None, None]
    (row,) = printed["metrics"]
    assert (row["value"], row["n"], row["coverage"]) == (0.5, 2, 0.5)
    detail = pl.read_parquet(out / "scores.parquet")
    assert detail["status"].to_list() == ["ok", "ok", "no_reference", "skipped"]
    assert pl.read_parquet(out / "metrics.parquet").to_dicts() == printed["metrics"]


def test_references_may_come_from_another_file(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "gold"} for row in FOREIGN]
    file = write(tmp_path / "foreign.jsonl", rows)
    gold = tmp_path / "gold.csv"
    gold.write_text("lang,right,key\nx,5,1\nx,7,2\nx,9,99\n")
    out = tmp_path / "scored"
    common = ("--response", "said", "-m", "exact", "--reference", "right", "-o", out)
    score(file, *common, "--join", gold, "--on", "key")
    frame = pl.read_parquet(out / "responses.parquet")
    assert frame.columns == ["key", "said", "lang", "score_exact"]
    assert frame["lang"].to_list() == ["en", "en", "zh", "zh"]
    assert frame["score_exact"].to_list() == [1.0, 0.0, None, None]


def test_scoring_twice_replaces_the_scores(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"response": "x"}])
    for metric in ("length", "{type: length, name: n, units: [words]}"):
        score(file, "-m", metric, "-o", tmp_path / "out")
    again = score(tmp_path / "out/responses.parquet", "-m", metric, "-o", tmp_path / "more")
    frame = pl.read_parquet(tmp_path / "more/responses.parquet")
    assert frame.columns == ["response", "score_n_words"]
    assert [row["metric"] for row in again["metrics"]] == ["n_words"]


def test_nonadjacent_answers_to_a_prompt_are_rejected(tmp_path: Path) -> None:
    ids = ["a", "a", "b", "b", "c", "a"]
    rows = [{"id": i, "sample": n, "response": "x"} for n, i in enumerate(ids)]
    file, out = write(tmp_path / "a.jsonl", rows), tmp_path / "out"
    with pytest.raises(DataError, match=r"rows 0 and 5 .* have the same id"):
        score(file, "-m", "sample_diversity", "-o", out)
    assert list(out.glob("*.parquet")) == []
    write(file, sorted(rows, key=lambda row: row["id"]))
    (found,) = score(file, "-m", "sample_diversity", "-o", out)["metrics"]
    assert found["n"] == 2


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_repeated_ids_are_detected_across_tables(size: int) -> None:
    def tables(ids: Sequence[str]) -> Iterator[pa.Table]:
        table = pa.table({"id": ids})
        pieces = (table.slice(at, size) for at in range(0, len(ids), size))
        return check_grouped_by_prompt(regroup_by_prompt(pieces, "id"), "id")

    assert sum(table.num_rows for table in tables(["a", "a", "b", "c", "c", "d"])) == 6
    with pytest.raises(DataError, match=r"rows 0 and 5 .* have the same id"):
        list(tables(["a", "a", "b", "c", "c", "a"]))


def test_the_python_api_gives_the_same_result(tmp_path: Path, finished: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"said": "5", "gold": "5"}, {"said": "6", "gold": "7"}])
    made = batchgen.score(
        file, ["exact", {"type": "length", "units": ["words"]}], reference="gold", response="said",
        output=tmp_path / "scored",
    )  # fmt: skip
    assert [(row.metric, row.value) for row in made.metrics] == [
        ("exact", 0.5),
        ("length_words", 1.0),
    ]
    assert [row.metric for row in batchgen.score(str(finished), ["refusal"]).metrics] == [
        "exact",
        "refusal",
    ]
    with pytest.raises(
        UsageError, match=r"metric rouge: variants\.0: Input should be '1', '2' or 'L'"
    ):
        batchgen.score(file, [{"type": "rouge", "variants": ["3"]}], output=tmp_path / "other")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "exact"], "no output folder given for the scores of"),
        (["-o", "out"], "no metric given"),
        (["-o", "out", "-m", "exat"], r"^metric exat: no such type\n  Did you mean exact?"),
        (["-o", "out", "-m", "xyz"], r"^metric xyz: no such type\n  Use one of: exact, "),
        (
            ["-o", "out", "-m", "{tpe: exact}"],
            r"^metric {'tpe': 'exact'}: has no type\n  Use one of: ",
        ),
        (["-o", "out", "-m", "3"], r"^metric 3: expected a type, or a mapping .*\n  Use one of: "),
        (
            ["-o", "out", "-m", "{type: exact, x: 1}"],
            r"^metric exact: x: unknown key\n  List options with `batchgen metrics exact`\.$",
        ),
        (
            ["-o", "out", "-m", "{type: number, tolerance: x}", "-m", "{type: rouge, x: 1}"],
            r"(?m)^metric rouge: x: unknown key\n  List options with `batchgen metrics number`, `batchgen metrics rouge`\.$",
        ),
        (
            ["-o", "out", "-m", "python"],
            r"^metric python: function: is required\n  List options with `batchgen metrics python`\.$",
        ),
        (
            ["-o", "out", "-m", "exact", "-m", "exact"],
            r"^metrics: two are named .*column of scores$",
        ),
        (["-o", "out", "-m", "exact", "--reference", ""], r"(?m)^reference: .* 1 character$"),
        (["-o", "out", "-m", "exact"], "the column 'response' to score does not exist"),
        (
            ["-o", "out", "-m", "exact", "--response", "key"],
            r"expected text\n  Choose a text column with --response: said, lang\.$",
        ),
        (
            ["-o", "out", "-m", "perplexity", "--response", "said"],
            r"^perplexity needs the row's prompt, but the column `messages` is missing\n  Add a column messages with the prompts,",
        ),
        (
            ["-o", "out", "-m", "exact", "--response", "said", "--reference", "golden"],
            "column 'golden' is not among the columns",
        ),
        (["-o", "out", "-m", "exact", "--join", "x.csv"], "--join and --on require each other"),
    ],
)
def test_what_is_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    file = write(tmp_path / "foreign.jsonl", FOREIGN)
    with pytest.raises(UsageError, match=words):
        score(file, *(str(tmp_path / "out") if a == "out" else a for a in arguments))
    assert not (tmp_path / "out").exists()


def test_a_duplicate_key_is_rejected(tmp_path: Path) -> None:
    file = write(tmp_path / "foreign.jsonl", FOREIGN)
    gold = write(tmp_path / "gold.jsonl", [{"key": 1, "right": "a"}, {"key": 1, "right": "b"}])
    common = ("--response", "said", "-m", "exact", "--reference", "right", "-o", tmp_path / "out")
    twice = rf"^--on key: one value is in two rows: {gold} row 0 and {gold} row 1\n.*from 0\.$"
    with pytest.raises(UsageError, match=twice):
        score(file, *common, "--join", gold, "--on", "key")
    other = write(tmp_path / "more.jsonl", [{"key": 2, "right": "a"}, {"key": 1, "right": "a"}])
    write(gold, [{"key": 1, "right": "a"}])
    with pytest.raises(UsageError, match=f"{gold} row 0 and {other} row 1"):
        score(file, *common, "--join", tmp_path / "[gm]o*.jsonl", "--on", "key")


@pytest.mark.parametrize(
    ("messages", "kind"), [("Hi", "string"), (["Hi"], "list<.*string>"), (3, "int64")]
)
def test_a_model_is_queried_only_about_messages(
    messages: object, kind: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "a.jsonl", [{"response": "x", "messages": messages}])
    error = rf"^perplexity: .* 'messages' is {kind}; expected a list of {{role, content}}\n  Add a column"
    with pytest.raises(UsageError, match=error):
        score(file, "-m", "perplexity", "-o", tmp_path / "out", "--model", "demo:smollm2-135m")


def test_keys_and_clusters_may_be_times_outside_pythons_range(tmp_path: Path) -> None:
    far = pa.array([10**17, 10**17 + 1, 0], pa.timestamp("ms"))
    odd = pa.array([1, 2, 1_000_000], pa.timestamp("ns", "Foo/Bar"))
    pq.write_table(
        pa.table({"t": far, "z": odd, "response": ["a", "b", "c"]}), tmp_path / "a.parquet"
    )
    pq.write_table(pa.table({"right": ["a", "x", "c"], "t": far}), tmp_path / "gold.parquet")
    common = (tmp_path / "a.parquet", "-m", "exact", "--reference", "right", "-o", tmp_path / "out")
    score(*common, "--join", tmp_path / "gold.parquet", "--on", "t")
    frame = pl.read_parquet(tmp_path / "out/responses.parquet", columns=["score_exact"])
    assert frame.to_series().to_list() == [1.0, 0.0, 1.0]


def test_clusters_may_be_unusual_times(make_job: MakeJob, tmp_path: Path) -> None:
    times = pa.array([1, 1, 2, 2], pa.timestamp("ns", "Foo/Bar"))
    far = pa.array([10**17, 10**17, 10**17 + 1, 0], pa.timestamp("ms"))
    table = pa.table({"q": ["a", "bb", "ccc", "d"], "z": times, "far": far})
    pq.write_table(table, tmp_path / "rows.parquet")
    for cluster in ("z", "far"):
        evaluate = {"metrics": ["length"], "cluster": cluster, "slices": ["far"]}
        job = make_job(input={"path": "rows.parquet"}, evaluate=evaluate, output={"path": cluster})
        found = {(row.metric, row.slice): row for row in run(load_job(job)).metrics}
        assert found["length_characters", "all"].method == "t, clustered"
        assert found["length_characters", "far=<value out of range: 100000000000000000>"].n == 2


def test_reasoning_is_scored_unless_it_is_dropped(tmp_path: Path) -> None:
    texts = ["<think>5? no</think>\n\n4", "thinking</think>4", "4", None]
    rows = [{"response": text, "gold": "4"} for text in texts]
    file, out = write(tmp_path / "a.jsonl", rows), tmp_path / "out"
    for reasoning, right in (("keep", [0.0, 0.0, 1.0, None]), ("drop", [1.0, 1.0, 1.0, None])):
        score(file, "-m", "exact", "--reference", "gold", "--reasoning", reasoning, "-o", out)
        frame = pl.read_parquet(out / "responses.parquet")
        assert frame["score_exact"].to_list() == right
        assert frame["response"].to_list() == texts, "what is dropped is not scored, but stays"


def test_a_run_with_inline_reasoning_is_scored_with_and_without_it(make_job: MakeJob) -> None:
    rows = [{"q": "<think>hm</think>4", "gold": "4"}]
    evaluate = {"reference": "gold", "metrics": ["exact"]}
    job = make_job(rows, evaluate=evaluate, output={"path": "out", "reasoning": "inline"})
    kept = run(load_job(job))
    assert kept.metrics[0].value == 0.0
    dropped = run(load_job(job, overrides=["evaluate.reasoning=drop"]))
    assert (dropped.outcome, dropped.metrics[0].value) == ("already complete", 1.0)
    assert dropped.metrics[0].fingerprint != kept.metrics[0].fingerprint
    (again,) = batchgen.score(kept.folder.path, reasoning="keep").metrics
    assert again.value == 0.0


def test_a_metric_without_any_score_has_a_reason(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"response": "x"}, {"response": None}])
    command = ["score", str(file), "-m", "exact", "-m", "length", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, command)
    assert "no score of exact: 1 row no_reference, 1 row skipped; name the column" in done.stderr
    assert "no score of length" not in done.stderr


AMISS = """
class Odd(Exception): ...
Odd.__name__ = "\\x1b[2Jgone\\nwrote  /elsewhere" + "x" * 200

def fails(answer): raise Odd(answer.response)
def halves(answer): return 1 / (answer.response != "x")
def words(answer): return "yes"
def fine(answer): return 1.0
"""

LONG_NAME = "\\x1b[2Jgone wrote /elsewhere" + "x" * 200

CAUSES = {
    "fails": f"no score of fails: 2 rows error (first: own.py, line 5: {LONG_NAME[:83]}…)",
    "halves": "some rows have no score of halves: 1 row error (first: own.py, line 6: ZeroDivisionError: division by zero)",
    "words": "no score of words: 2 rows error (first: own.py, line 7: words returned a text of 3 characters; expected a number, true, false or None)",
    "fine": None,
    "number": "no score of number: 2 rows unparsed (first: reference)",
    "distinct": "no score of distinct_1: answers too few or too short for a window of 50 tokens",
    "duplicates": None,
}


@pytest.mark.parametrize(("metric", "line"), CAUSES.items(), ids=CAUSES.keys())
def test_the_reason_why_rows_have_no_score_is_one_line(
    metric: str, line: str | None, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(AMISS)
    file = write(tmp_path / "a.jsonl", [{"response": t, "gold": "SECRET"} for t in ("x", "y")])
    metrics = {
        "number": "number",
        "distinct": "{type: distinct, n: [1], window: 50}",
        "duplicates": "duplicates",
    }
    own = f"{{type: python, name: {metric}, file: {tmp_path / 'own.py'}, function: {metric}}}"
    command = ["score", str(file), "-m", metrics.get(metric, own), "--reference", "gold"]
    done = CliRunner().invoke(cli, [*command, "-o", str(tmp_path / "out")])
    last = f"wrote  {tmp_path / 'out'}"
    assert done.stderr.splitlines() == ([line, last] if line else [last])


@pytest.fixture
def finished(make_job: MakeJob, tmp_path: Path) -> Path:
    """A run of three rows, evaluated by `exact`."""
    rows = [{"q": q, "right": right} for q, right in (("a", "a"), ("b", "x"), ("c", None))]
    run(load_job(make_job(rows, evaluate={"reference": "right", "metrics": ["exact"]})))
    return tmp_path / "out"


def test_a_run_is_scored_by_further_metrics(finished: Path) -> None:
    before = pl.read_parquet(finished / "responses.parquet")
    printed = score(finished, "-m", "length")
    after = pl.read_parquet(finished / "responses.parquet")
    assert after.drop("score_length_characters").equals(before)
    assert [row["metric"] for row in printed["metrics"]] == ["exact", "length_characters"]


def test_removed_scores_are_reported(finished: Path) -> None:
    def removed(*arguments: str) -> list[str]:
        done = CliRunner().invoke(cli, list(arguments))
        lines = (line.partition(" ")[2] for line in done.stderr.splitlines())  # behind the time
        return [line for line in lines if line.startswith("scores removed")]

    why = "neither in the job nor in this command"
    extra = ("-m", "length", "-m", "duplicates")
    job = str(finished.parent / "job.yaml")
    assert removed("score", str(finished), *extra) == []
    assert removed("score", str(finished), *extra) == []
    gone = "length_characters, duplicates_exact, duplicates_near"
    assert removed("score", str(finished), "-m", "refusal") == [f"scores removed: {gone}: {why}"]
    assert removed("run", job) == [f"scores removed: refusal: {why}"]
    assert removed("run", job) == []
    assert removed("score", str(finished)) == []


def test_a_run_can_be_scored_with_other_references(finished: Path, tmp_path: Path) -> None:
    gold = write(tmp_path / "gold.jsonl", [{"q": "b", "other": "b"}])
    printed = score(finished, "--join", gold, "--on", "q", "--reference", "other")
    assert [(row["value"], row["n"]) for row in printed["metrics"]] == [(1.0, 1)]
    assert "other" not in pl.read_parquet(finished / "responses.parquet").columns


def test_the_folder_of_a_run_is_not_overwritten(finished: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"response": "x"}])
    with pytest.raises(UsageError, match="is the output folder of a run"):
        score(file, "-m", "length", "-o", finished)
    with pytest.raises(UsageError, match="is a file"):
        score(file, "-m", "length", "-o", file)
    assert file.read_text()


def test_prompts_are_joined_messages_and_references_any_of_a_list() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    table = pl.DataFrame(
        {
            "response": ["a", "b", "c"],
            "m": [messages, None, messages[:1]],
            "r": [["x", "y"], None, []],
        }
    ).to_arrow(compat_level=pl.CompatLevel.oldest())
    origin = ColumnMap("response", messages="m", references=("r", "response"))
    found = read_answers(table, origin, first=5)
    assert [a.prompt for a in found] == ["s\nu", "", "s"]
    assert [a.references for a in found] == [("x", "y", "a"), ("b",), ("c",)]
    assert [a.id for a in found] == ["5", "6", "7"]
    assert found[0].fields["r"] == ["x", "y"]
    assert "absent" not in found[0].fields


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_no_prompt_spans_two_tables(size: int) -> None:
    ids = ["a", "a", "b", "c", "c", "c", "d"]
    table = pl.DataFrame({"id": ids}).to_arrow()
    pieces = (table.slice(at, size) for at in range(0, len(ids), size))
    found = [piece.column("id").to_pylist() for piece in regroup_by_prompt(pieces, "id")]
    assert [i for piece in found for i in piece] == ids
    ends = [piece[-1] for piece in found]
    assert len(set(ends)) == len(ends)
