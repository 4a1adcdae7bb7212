"""`PublishedRun`: random access equals the file; damage ends every command with 6; folders of version 0.1 are readable."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.__main__ import call
from batchgen.errors import StateError
from batchgen.jobfile.load import load_job
from batchgen.output.parquet_table import CACHED_ROW_GROUPS, ParquetTable
from batchgen.output.published_run import PublishedRun, require_responses
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder

MakeJob = Callable[..., Path]
ROWS = [{"q": f"text {n}", "want": "text 3"} for n in range(8)]
SCORED = {"reference": "want", "metrics": ["exact"]}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ParquetTable:
    """Three files with row groups of different sizes; more of them than the cache holds."""
    folder = tmp_path_factory.mktemp("table")
    sizes, first = {"a": [3, 1, 4], "b": [5], "c": [2, 6]}, 0
    for name, groups in sizes.items():
        schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
        with pq.ParquetWriter(folder / name, schema) as writer:
            for size in groups:
                numbers = range(first, first + size)
                content = {"n": list(numbers), "text": [str(n) for n in numbers]}
                writer.write_table(pa.table(content, schema=schema))
                first += size
    assert sum(map(len, sizes.values())) > CACHED_ROW_GROUPS
    return ParquetTable([folder / name for name in sizes])


def test_rows_are_read_in_the_given_order(table: ParquetTable) -> None:
    whole = table.read()
    assert whole["n"].to_pylist() == list(range(21))
    chance = random.Random(3)
    for size in (0, 1, 5, 21, 60):
        rows = [chance.randrange(21) for _ in range(size)]
        assert table.take(rows).equals(whole.take(pa.array(rows, pa.int64())))
        assert table.take(rows, ["text"])["text"].to_pylist() == [str(row) for row in rows]


def test_a_file_that_is_replaced_between_two_reads_is_an_error(tmp_path: Path) -> None:
    names = ("a", "b")
    for name in names:
        pq.write_table(pa.table({"n": [1, 2]}), tmp_path / name)
    table = ParquetTable([tmp_path / name for name in names])
    assert table.take([0, 3]).num_rows == 2
    pq.write_table(pa.table({"n": [1]}), tmp_path / "new")
    (tmp_path / "new").replace(tmp_path / "a")
    with pytest.raises(StateError, match="a was replaced while it was read"):
        list(table.row_groups())


@pytest.mark.parametrize("layout", ["file", "parts"])
def test_the_view_agrees_with_the_files(make_job: MakeJob, layout: str) -> None:
    output = {"layout": layout, "prefix": "out_", "compression": "snappy", "file_mode": "0640"}
    job = make_job(ROWS, output=output, evaluate=SCORED, batching={"part_rows": 3})
    published = PublishedRun(run(load_job(job)).folder)
    assert published.layout == layout
    assert len(published.responses.paths) == {"file": 1, "parts": 3}[layout]
    assert published.responses.compression == "snappy"
    assert published.file_mode == 0o640
    frame = published.frame()
    assert frame.equals(pl.read_parquet(list(published.responses.paths)))
    assert set(frame.columns) - set(published.schema.names) == {"out_score_exact"}
    answers = [
        answer for table in published.answers(["response"]) for answer in table[0].to_pylist()
    ]
    assert answers == [row["q"] for row in ROWS]
    found = published.find([("5", 0), ("8", 0), ("5", 1), ("0", 0)], ["response"])
    assert found == [{"response": "text 5"}, None, None, {"response": "text 0"}]


def zeroed(content: bytes) -> bytes:
    return bytes(len(content))


def emptied(content: bytes) -> bytes:
    del content
    return b""


def truncated(content: bytes) -> bytes:
    return content[:-100]


def extended(content: bytes) -> bytes:
    return content + b"\0" * 100


def zeroed_inside(content: bytes) -> bytes:
    """All pages; size, magic number and footer stay."""
    footer = int.from_bytes(content[-8:-4], "little") + 8 if content[:4] == b"PAR1" else 4
    return content[:4] + bytes(len(content) - 4 - footer) + content[-footer:]


READERS = {
    "status": ["status", "{run}"],
    "show": ["show", "{run}"],
    "score": ["score", "{run}", "-m", "length"],
    "compare base": ["compare", "{run}", "{other}"],
    "compare new": ["compare", "{other}", "{run}"],
    "verify": ["verify", "{run}"],
    "run again": ["run", "{job}"],
    "retry": ["run", "{job}", "--retry-errors"],
    "incremental": ["run", "{job}", "--output", "{new}", "--incremental-from", "{run}"],
}


@pytest.fixture(scope="module")
def scored_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A job and its finished run."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    job = {
        "version": 1,
        "name": "test",
        "input": {"path": "rows.jsonl"},
        "prompt": {"user": "{{ q }}"},
        "model": {"engine": "echo"},
        "output": {"path": "out"},
        "evaluate": SCORED,
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    run(load_job(folder / "job.yaml"))
    shutil.copytree(folder / "out", folder / "other")
    return folder / "job.yaml", folder / "out"


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("damage", [zeroed, emptied, truncated, extended, zeroed_inside])
@pytest.mark.parametrize("name", ["responses.parquet", "manifest.json"])
def test_every_command_exits_with_6_and_names_the_damaged_file(
    scored_run: tuple[Path, Path],
    name: str,
    damage: Callable[[bytes], bytes],
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job, folder = scored_run
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    places = {"run": folder, "job": job, "new": folder / "new", "other": folder.parent / "other"}
    try:
        code = call([part.format(**places) for part in READERS[command]])
    finally:
        path.write_bytes(whole)
    printed = capsys.readouterr()
    assert code == 6, printed
    assert name in printed.out + printed.err


def test_status_exits_with_6_for_a_missing_part(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(ROWS, output={"layout": "parts"}, batching={"part_rows": 3})
    folder = run(load_job(job)).folder
    (folder.response_parts / "part-00001.parquet").unlink()
    assert call(["status", str(folder.path)]) == 6
    assert "part-00001.parquet was changed or damaged" in capsys.readouterr().err


def test_a_manifest_without_a_key_is_damaged(scored_run: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(scored_run[1], tmp_path / "out")
    folder = RunFolder(tmp_path / "out")
    content = json.loads(folder.manifest.read_text())
    del content["check"], content["files"]
    folder.write_json(folder.manifest, content, stage="manifest")
    with pytest.raises(StateError, match=r"manifest.json is damaged: 'files'"):
        PublishedRun(folder)


def test_responses_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"responses\.parquet is missing"):
        require_responses(RunFolder(tmp_path))
