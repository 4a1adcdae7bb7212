"""A change of keys that only decide publishing: saved answers are published with it, and none is generated again."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from batchgen.__main__ import call
from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.errors import (
    BatchgenError,
    DataError,
    ExitCode,
    JobFileError,
    ResourceError,
    StateError,
)
from batchgen.inspection.status import status
from batchgen.inspection.verify import verify
from batchgen.jobfile.load import load_job
from batchgen.records import Completion, Request
from batchgen.run.result import RunResult
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.failpoints import COLUMN_POINTS, VARIABLE
from tests.reporters import RecordingReporter
from tests.run.wrapped_engines import After, Wrapped
from tests.soak.harness import Spawner

MakeJob = Callable[..., Path]
OF_THE_RUN = ("run_id", "created_at")
MANY = 10**9

ROWS: list[dict[str, Any]] = [
    {"q": "", "n": 0, "note": "mail a@example.com"},  # fails
    *({"q": f"ask {n} b@example.com", "n": n, "note": f"note {n}"} for n in range(1, 9)),
]
CHANGES: dict[str, tuple[list[str], list[str]]] = {
    "prefix": ([], ["output.prefix=bg_"]),
    "no prefix": (["output.prefix=bg_"], ["output.prefix=''"]),
    "fewer columns": ([], ["output.keep_columns=[n]"]),
    "more columns": (["output.keep_columns=none"], ["output.keep_columns=[note, q]"]),
    "other order": ([], ["output.keep_columns=[note, n, q]"]),
    "no prompts": ([], ["output.store_prompt=false"]),
    "prompts": (["output.store_prompt=false"], ["output.store_prompt=true"]),
    "all": (
        ["output.store_prompt=false", "output.keep_columns=none", "output.prefix=x."],
        ["output.keep_columns=all", "output.layout=parts", "output.compression=gzip"],
    ),
}
"""Settings of the first start, and of the second."""
OFTEN = ("more columns", "prompts", "all")
"""Those that are tested without -m soak for a complete run."""


class Counting(Wrapped):
    """Counts its requests."""

    def __init__(self, inner: Engine, seen: list[Request]) -> None:
        super().__init__(inner)
        self._seen = seen

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            self._seen.append(request)
            yield from self.inner.generate([request])


def no_engine(*_: object, **__: object) -> Engine:
    raise AssertionError("an engine is opened")


def checked(result: RunResult) -> pl.DataFrame:
    """The answers of a complete run, without the columns that differ from run to run; every record fits."""
    assert list(verify(result.folder).issues) == []
    assert status(result.folder.path).state == "complete"
    assert list(result.folder.parts.iterdir()) == []
    frame = result.frame()
    return frame.drop([c for c in frame.columns if c.endswith(OF_THE_RUN)])


@pytest.fixture
def job(make_job: MakeJob) -> Path:
    """Several answers a row, a failed row, redaction in input and answers, scores."""
    return make_job(
        ROWS,
        batching={"part_rows": 2},
        decoding={"temperature": 1.0, "num_return_sequences": 2},
        redact={"entities": ["email"], "columns": ["q", "note"]},
        evaluate={"metrics": ["length"]},
        run={"max_error_rate": 1},
    )


@pytest.mark.parametrize(
    ("change", "looks"),
    [
        *(
            pytest.param(one, MANY, marks=() if one in OFTEN else pytest.mark.soak)
            for one in CHANGES
        ),
        *(("prefix", 9), ("prompts", 9), ("all", 9)),
    ],
)
def test_answers_are_published_as_the_job_says_now(job: Path, change: str, looks: int) -> None:
    before, now = CHANGES[change]
    first = run(load_job(job, overrides=before), stop=After(looks))
    seen: list[Request] = []
    result = run(
        load_job(job, overrides=now),
        opener=no_engine
        if looks == MANY
        else lambda model, **others: Counting(open_engine(model, **others), seen),
    )
    assert result.outcome == ("published again" if looks == MANY else "done")
    assert result.run_id == first.run_id
    if looks != MANY:
        assert len(seen) == 2 * len(ROWS) - first.counts.rows
    whole = run(load_job(job, overrides=[*now, "output.path=other"]))
    assert result.counts == whole.counts
    assert checked(result).equals(checked(whole))
    manifest, other = (read_json(one.folder.manifest) for one in (result, whole))
    for key in ("settings", "fingerprint", "counts", "published_as"):
        assert manifest[key] == other[key]
    assert read_json(result.folder.run)["settings"] == manifest["settings"]
    assert run(load_job(job, overrides=now), opener=no_engine).outcome == "already complete"


@pytest.mark.parametrize(
    ("sets", "found"),
    [
        (["output.layout=parts"], lambda out: len([*out.response_parts.glob("*.parquet")]) == 5),
        (["output.file_mode='644'"], lambda out: out.responses.stat().st_mode & 0o777 == 0o644),
        (["output.compression=none"], lambda out: compression_of(out) == "UNCOMPRESSED"),
    ],
    ids=["layout", "file_mode", "compression"],
)
def test_files_of_a_complete_run_are_written_again(
    job: Path, sets: list[str], found: Callable[[RunFolder], bool]
) -> None:
    before = checked(run(load_job(job)))
    messages: list[str] = []
    result = run(
        load_job(job, overrides=sets), opener=no_engine, reporter=RecordingReporter(messages)
    )
    assert result.outcome == "published again"
    assert found(result.folder)
    assert checked(result).equals(before)
    key = sets[0].partition("=")[0]
    assert any(line.startswith(f"{AGAIN}: {key} was ") for line in messages)
    back = run(load_job(job), opener=no_engine)
    assert (back.outcome, found(back.folder)) == ("published again", False)
    assert checked(back).equals(before)


AGAIN = "publishing the answers again, without generating"


def compression_of(folder: RunFolder) -> str:
    return str(pq.read_metadata(folder.responses).row_group(0).column(0).compression)


def test_the_facts_about_the_generation_stay(job: Path) -> None:
    first = run(load_job(job))
    created = first.frame()["created_at"]
    old = read_json(first.folder.manifest)
    # A manifest of an earlier version does not say how the run was published.
    old["engine"] = {"noted": 1}
    del old["published_as"]
    first.folder.write_json(first.folder.manifest, old, stage="manifest")
    assert run(load_job(job)).outcome == "already complete"
    result = run(load_job(job, overrides=["output.prefix=x_"]), opener=no_engine)
    assert result.outcome == "published again"
    new = read_json(first.folder.manifest)
    changed = {key for key in new if new[key] != old.get(key)}
    assert changed == {
        *("published_as", "files", "settings", "fingerprint", "job_sha256", "evaluation")
    }
    assert result.frame()["x_created_at"].equals(created, check_names=False)


def test_commands_work_on_a_run_that_was_published_again(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", str(job), "-q"]) == 0
    assert call(["run", str(job), "-s", "output.path=base", "-q"]) == 0
    words = ["run", str(job), "-s", "output.prefix=bg_", "-s", "output.keep_columns=[n]"]
    assert call(["plan", *words[1:]]) == 0
    out = capsys.readouterr().out
    assert "complete: `run` publishes it again, without generating" in out
    assert 'output.prefix was "", is "bg_"' in out
    assert call(words) == 0
    assert "done   published again: 18 answers" in capsys.readouterr().err
    folder = str(tmp_path / "out")
    for command in (
        ["verify", folder],
        ["status", folder],
        ["show", folder, "--row", "2"],
        ["export", folder, "-o", str(tmp_path / "answers.csv")],
        ["score", folder, "-m", "repetition"],
        ["compare", str(tmp_path / "base"), folder],
        ["verify", folder],
        [*words, "--retry-errors"],
        ["verify", folder],
    ):
        assert call(command) == 0, (command, capsys.readouterr())
    assert "ask 1 [EMAIL]" in (tmp_path / "answers.csv").read_text("utf-8-sig")


@pytest.mark.parametrize("looks", [9, MANY], ids=["unfinished", "complete"])
def test_failed_rows_can_be_generated_again_with_other_columns(job: Path, looks: int) -> None:
    run(load_job(job), stop=After(looks))
    sets = ["output.prefix=bg_", "output.store_prompt=false", "output.keep_columns=[n]"]
    result = run(load_job(job, overrides=sets), start="retry-errors")
    assert result.outcome == "done"
    whole = run(load_job(job, overrides=[*sets, "output.path=other"]))
    assert checked(result).equals(checked(whole))


def test_a_column_of_the_input_takes_its_name_back(make_job: MakeJob) -> None:
    rows = [{"q": f"ask {n}", "response": f"given {n}"} for n in range(5)]
    job = make_job(rows, batching={"part_rows": 2})
    loaded = load_job(job, overrides=["output.prefix=bg_"])
    assert run(loaded, stop=After(3)).outcome == "stopped"
    without = load_job(job, overrides=["output.keep_columns=[q]"])
    assert run(without).frame()["response"].to_list() == [row["q"] for row in rows]
    back = run(loaded, opener=no_engine).frame()
    assert back["response"].to_list() == [row["response"] for row in rows]
    assert back["bg_response"].to_list() == [row["q"] for row in rows]


REFUSED: list[tuple[list[str], type[BatchgenError], str]] = [
    (["output.keep_columns=[gone]"], JobFileError, "column 'gone' is not in the input"),
    (["output.prefix=q", "input.columns.id=qid"], JobFileError, "qid"),
    (["output.keep_columns=none", "evaluate.reference=note"], JobFileError, "note"),
    (["output.prefix=x_", "run.seed=1"], StateError, "another job: run.seed was 0, is 1"),
]


@pytest.mark.parametrize(("sets", "error", "problem"), REFUSED)
@pytest.mark.parametrize("looks", [9, MANY], ids=["unfinished", "complete"])
def test_a_job_that_cannot_be_published_changes_nothing(
    job: Path, sets: list[str], error: type[BatchgenError], problem: str, looks: int
) -> None:
    folder = run(load_job(job), stop=After(looks)).folder
    before = contents(folder)
    with pytest.raises(error, match=problem):
        run(load_job(job, overrides=sets), opener=no_engine)
    assert contents(folder) == before


def contents(folder: RunFolder) -> dict[str, bytes]:
    """All files that hold answers or say whose they are."""
    files = [p for p in folder.path.rglob("*") if p.is_file() and "lock" not in p.name]
    return {str(p): p.read_bytes() for p in files if "journal" not in p.name}


@pytest.mark.parametrize("looks", [9, MANY], ids=["unfinished", "complete"])
def test_changed_input_is_named_and_nothing_is_lost(job: Path, looks: int) -> None:
    folder = run(load_job(job), stop=After(looks)).folder
    before = contents(folder)
    source = job.with_name("rows.jsonl")
    rows = source.read_bytes()
    source.write_bytes(rows.replace(b"note 3", b"note X"))
    changed = load_job(job, overrides=["output.prefix=bg_"])
    with pytest.raises(StateError, match=r"made from other input: .*rows\.jsonl changed"):
        run(changed, opener=no_engine)
    assert contents(folder) == before
    source.write_bytes(rows)
    assert run(changed).frame()["note"][6] == "note 3"


@pytest.mark.parametrize("looks", [9, MANY], ids=["unfinished", "complete"])
def test_input_that_changes_meanwhile_is_named_and_nothing_is_lost(job: Path, looks: int) -> None:
    folder = run(load_job(job), stop=After(looks)).folder
    source = job.with_name("rows.jsonl")
    rows = source.read_bytes()

    def meddle() -> bool:
        source.write_bytes(rows.replace(b"note", b"NOTE"))
        return False

    changed = load_job(job, overrides=["output.prefix=bg_"])
    with pytest.raises(DataError, match=r"rows\.jsonl: changed while"):
        run(changed, stop=meddle)
    assert list(verify(folder).issues) == []
    source.write_bytes(rows)
    result = run(changed)
    assert result.frame()["note"][6] == "note 3"
    assert checked(result).height == 2 * len(ROWS)


@pytest.mark.parametrize(
    ("looks", "parts", "sets"),
    [
        (9, 0, ["output.prefix=bg_"]),
        (9, 1, []),
        (MANY, 1, ["output.prefix=bg_", "output.store_prompt=false"]),
        (MANY, 1, []),
    ],
)
def test_a_stopped_change_is_repeated_or_reverted(
    job: Path, looks: int, parts: int, sets: Sequence[str]
) -> None:
    run(load_job(job), stop=After(looks))
    changed = load_job(job, overrides=["output.prefix=bg_", "output.store_prompt=false"])
    stopped = run(changed, stop=After(parts), opener=no_engine)
    assert (stopped.outcome, stopped.exit_code) == ("stopped", ExitCode.RUN_AGAIN)
    assert list(verify(stopped.folder).issues) == []
    saved = status(stopped.folder.path).counts.rows
    assert saved == stopped.counts.rows
    result = run(load_job(job, overrides=sets))
    assert result.resumed_rows == saved
    whole = run(load_job(job, overrides=[*sets, "output.path=other"]))
    assert checked(result).equals(checked(whole))


@pytest.mark.parametrize(
    ("looks", "fault"),
    [(9, "columns.before_rename=ENOSPC"), (MANY, "part.before_sync=EIO")],
)
def test_a_full_disk_loses_nothing(
    job: Path, looks: int, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(load_job(job), stop=After(looks)).folder
    changed = load_job(job, overrides=["output.prefix=bg_"])
    monkeypatch.setenv(VARIABLE, fault)
    with pytest.raises(ResourceError, match="cannot save a part of the answers"):
        run(changed, opener=no_engine)
    monkeypatch.delenv(VARIABLE)
    assert list(verify(folder).issues) == []
    assert run(changed).resumed_rows >= 8


def test_rows_in_the_journal_get_or_lose_their_prompt(make_job: MakeJob) -> None:
    job = make_job(ROWS, run={"max_error_rate": 1})
    stopped = run(load_job(job), stop=After(3))
    assert list(stopped.folder.parts.iterdir()) == []
    without = load_job(job, overrides=["output.store_prompt=false"])
    assert run(without, stop=After(1)).outcome == "stopped"
    assert run(load_job(job)).frame()["messages"].null_count() == 1  # the failed row
    again = run(without, opener=no_engine)
    assert again.frame()["messages"].null_count() == len(ROWS)


def test_a_change_that_was_interrupted_midway_is_shown_as_such(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(load_job(job), stop=After(9)).folder
    run(load_job(job, overrides=["output.prefix=bg_"]), stop=After(1))
    assert call(["show", str(folder.path)]) == 6
    assert "Repeat the same `batchgen run`" in capsys.readouterr().err
    assert call(["status", str(folder.path)]) == 0
    assert "prompt_empty" in capsys.readouterr().out
    messages: list[str] = []
    reporter = RecordingReporter(messages)
    run(load_job(job), stop=After(0), reporter=reporter)
    run(load_job(job, overrides=["output.prefix=bg_"]), stop=After(3), reporter=reporter)
    assert [line for line in messages if line.startswith("writing saved parts again")] == [
        "writing saved parts again, without generating: an earlier change was interrupted",
        'writing saved parts again, without generating: output.prefix was "", is "bg_"',
    ]
    assert call(["show", str(folder.path), "--row", "2"]) == 0


STRICT = "evaluate.gates=[{metric: length_characters, min: 9999}]"


@pytest.mark.parametrize("reverted", [False, True])
def test_a_gate_can_withhold_what_is_published_again(job: Path, reverted: bool) -> None:
    gated = ["output.publish=gated"]
    first = run(load_job(job, overrides=gated))
    before = first.frame()
    sets = [*gated, "output.prefix=bg_"]
    withheld = run(load_job(job, overrides=[*sets, STRICT]), opener=no_engine)
    assert (withheld.outcome, withheld.exit_code) == ("withheld", ExitCode.GATE_FAILED)
    assert first.frame().equals(before)
    assert status(first.folder.path).state == "withheld"
    assert list(verify(first.folder).issues) == []
    assert call(["show", str(first.folder.path)]) == 0
    result = run(load_job(job, overrides=gated if reverted else sets), opener=no_engine)
    assert result.outcome == ("already complete" if reverted else "published again")
    assert ("bg_response" in checked(result).columns) is not reverted


def test_withheld_answers_get_other_columns(job: Path) -> None:
    gated = ["output.publish=gated", STRICT]
    withheld = run(load_job(job, overrides=gated))
    assert withheld.outcome == "withheld"
    sets = [*gated, "output.prefix=bg_"]
    again = run(load_job(job, overrides=sets), opener=no_engine)
    assert again.outcome == "withheld"
    assert "bg_response" in pl.read_parquet(again.folder.staged / "responses.parquet").columns
    assert call(["show", str(again.folder.path)]) == 0
    assert list(verify(again.folder).issues) == []
    published = run(load_job(job, overrides=["output.prefix=bg_"]), opener=no_engine)
    assert published.outcome == "done"
    assert "bg_response" in checked(published).columns


def test_a_new_run_beside_a_published_one_gets_other_columns(job: Path) -> None:
    old = run(load_job(job))
    new = ["run.seed=1"]
    assert run(load_job(job, overrides=new), start="fresh", stop=After(9)).outcome == "stopped"
    changed = [*new, "output.prefix=bg_"]
    assert run(load_job(job, overrides=changed), stop=After(3)).outcome == "stopped"
    assert list(verify(old.folder).issues) == []
    assert "bg_response" not in old.frame().columns
    whole = run(load_job(job, overrides=[*changed, "output.path=other"]))
    assert checked(run(load_job(job, overrides=changed))).equals(checked(whole))


def test_queries_of_likelihoods_are_not_repeated(make_job: MakeJob) -> None:
    rows = [{"q": f"ask {n}", "right": str(n)} for n in range(6)]
    evaluate = {"reference": "right", "metrics": ["loglikelihood"]}
    job = make_job(rows, batching={"part_rows": 2}, evaluate=evaluate)
    before = run(load_job(job)).frame()["score_loglikelihood"]
    messages: list[str] = []
    for sets in (["output.layout=parts"], ["output.prefix=bg_", "output.keep_columns=[right]"]):
        result = run(load_job(job, overrides=sets), opener=no_engine)
        name = "bg_score_loglikelihood" if "bg_" in sets[0] else "score_loglikelihood"
        assert result.frame()[name].equals(before, check_names=False)
    without = load_job(job, overrides=["evaluate.metrics=[exact]"])
    assert run(without, opener=no_engine, reporter=RecordingReporter(messages)).metrics
    assert any(line.startswith("scores removed: loglikelihood") for line in messages)


def test_answers_are_reused_from_a_run_that_was_published_again(job: Path) -> None:
    run(load_job(job))
    sets = ["output.prefix=bg_", "output.keep_columns=none"]
    again = run(load_job(job, overrides=sets))
    other = load_job(job, overrides=["output.path=other"])
    result = run(other, incremental_from=again.folder.path)
    assert result.incremental is not None
    assert result.incremental.reused == 2 * (len(ROWS) - 1)
    result = run(
        load_job(job, overrides=["output.path=other", "output.layout=parts"]), opener=no_engine
    )
    assert result.incremental is not None
    assert result.incremental.reused == 2 * (len(ROWS) - 1)
    assert "reused" in json.dumps(read_json(result.folder.manifest)["incremental"])


@pytest.fixture(scope="module")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with Spawner(tmp_path_factory.mktemp("log") / "log") as made:
        yield made


CHANGED = ("output.prefix=bg_", "output.keep_columns=[n]", "output.store_prompt=false")
COMPLETE_POINTS = [
    *("part.before_link", "part.after_link:2", "record.before_rename:2"),
    *("release.before_rename", "release.after_rename", "publish.after_rename"),
    *("manifest.before_rename", "manifest.after_rename", "run.before_rename"),
    *("run.after_rename", "clean.half"),
]
UNFINISHED_POINTS = [
    *("run.half", "run.after_rename", "part.before_sync:2"),
    *COLUMN_POINTS,
    *("columns.after_rename:2", "record.half:2", "record.after_rename:2"),
    *("run.before_rename:2", "run.after_rename:2"),
]
QUICK = {
    ("columns.after_rename", "resume"),
    ("columns.after_rename", "revert"),
    ("manifest.after_rename", "revert and retry"),
}
KILLS = [
    (looks, p)
    for looks, points in ((9, UNFINISHED_POINTS), (MANY, COMPLETE_POINTS))
    for p in points
]


@pytest.mark.parametrize(
    ("looks", "point", "then"),
    [
        pytest.param(*kill, then, marks=() if (kill[1], then) in QUICK else pytest.mark.soak)
        for kill in KILLS
        for then in ("resume", "revert", "retry", "revert and retry")
    ],
)
def test_a_kill_at_any_step_loses_nothing(
    job: Path, spawner: Spawner, looks: int, point: str, then: str
) -> None:
    folder = run(load_job(job), stop=After(looks)).folder
    sets = [word for one in CHANGED for word in ("--set", one)]
    ended = spawner.run(["run", str(job), *sets, "-q"], env={VARIABLE: point})
    assert ended.killed, ended.output
    if not folder.release.exists():
        assert list(verify(folder).issues) == []
    assert status(folder.path).counts.rows >= 8
    overrides = [] if "revert" in then else list(CHANGED)
    result = run(
        load_job(job, overrides=overrides), start="retry-errors" if "retry" in then else "resume"
    )
    whole = run(load_job(job, overrides=[*overrides, "output.path=other"]))
    assert checked(result).equals(checked(whole))
    assert result.resumed_rows >= (16 if looks == MANY else 8)
