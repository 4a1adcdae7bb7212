"""A part is complete or absent, and a damaged part is never published."""

import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.errors import ExitCode, StateError
from batchgen.job.spec import Output
from batchgen.output.publish import Stage
from batchgen.output.published_run import PublishedFile
from batchgen.output.schema import OutputLayout
from batchgen.records import Failure, FinishReason, Message, Response
from batchgen.state.parts import Counts, PartStore, SealedPart, stream_parts
from batchgen.state.run_folder import RunFolder

INPUT = pa.schema([("q", pa.string()), ("n", pa.int64())])
LAYOUT = OutputLayout(("q", "n"), "")


def response(index: int, sample: int = 0, reason: FinishReason = "stop") -> Response:
    failed = reason == "error"
    return Response(
        index=index,
        id=str(index),
        sample=sample,
        messages=(Message("user", f"问题 {index}"),),
        response=None if failed else f"answer {index}/{sample}",
        reasoning=None,
        finish_reason=reason,
        failure=Failure("prompt_empty", "the prompt is empty") if failed else None,
        input_tokens=3,
        output_tokens=None if failed else 5,
        seed=index,
        logprob_mean=None,
        prompt_hash="p",
        row_fingerprint="r",
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


def part_table(first: int, rows: int, *, failed: frozenset[int] = frozenset()) -> pa.Table:
    source = pa.table(
        {"q": [f"q{i}" for i in range(first, first + rows)], "n": list(range(rows))}, schema=INPUT
    )
    responses = [
        response(i, reason="error" if i in failed else "stop") for i in range(first, first + rows)
    ]
    return LAYOUT.table(source, responses, first=first, run_id="run", redacted={})


def publish(
    folder: RunFolder,
    parts: Mapping[int, SealedPart],
    schema: pa.Schema,
    *,
    output: Output,
    facts: Mapping[str, object],
) -> list[PublishedFile]:
    """Stage the parts and release them; return their entries in the manifest."""
    stage = Stage(folder, output.compression, int(output.file_mode, 8), facts)
    stage.clear()
    with stage.responses(schema, output.layout) as write:
        for table in stream_parts(parts):
            write(table)
    files = stage.files()
    stage.release(None)
    return files


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "out")
    made.create()
    return made


@pytest.fixture
def store(folder: RunFolder) -> PartStore:
    return PartStore(folder, compression="zstd")


def test_sealed_parts_are_reopened_with_their_counts(store: PartStore, folder: RunFolder) -> None:
    store.seal(1, part_table(3, 2))
    store.seal(0, part_table(0, 3, failed=frozenset({1})))
    found = PartStore(folder, compression="zstd").sealed()
    assert sorted(found) == [0, 1]
    assert found[0].counts == Counts(rows=3, failed=1, input_tokens=9, output_tokens=10)
    assert list(folder.scratch.iterdir()) == []


def test_a_sealed_part_without_a_record_is_used(store: PartStore) -> None:
    sealed = store.seal(0, part_table(0, 3))
    sealed.path.with_suffix(".json").unlink()
    assert store.sealed() == {0: sealed}
    assert sealed.path.with_suffix(".json").exists()


def test_a_sealed_part_is_never_overwritten(store: PartStore) -> None:
    before = store.seal(0, part_table(0, 3)).path.read_bytes()
    with pytest.raises(StateError, match="sealed by another process"):
        store.seal(0, part_table(0, 2))
    assert store.sealed()[0].path.read_bytes() == before


@pytest.mark.parametrize("offset", [10, 100, -10])
def test_a_flipped_byte_is_detected_before_publishing(
    store: PartStore, folder: RunFolder, offset: int
) -> None:
    sealed = store.seal(0, part_table(0, 300))
    content = bytearray(sealed.path.read_bytes())
    content[offset] ^= 0x10
    sealed.path.write_bytes(content)
    with pytest.raises(StateError, match=r"00000\.bgpart is damaged") as caught:
        store.sealed()
    assert caught.value.exit_code == ExitCode.STATE
    with pytest.raises(StateError, match="changed after it was sealed"):
        list(stream_parts({0: sealed}))
    with pytest.raises(StateError):
        publish(folder, {0: sealed}, LAYOUT.schema(INPUT), output=Output(path="out"), facts={})
    assert not folder.responses.exists()


def test_published_rows_are_those_of_the_parts_in_order(
    store: PartStore, folder: RunFolder
) -> None:
    parts = {n: store.seal(n, part_table(first, 3)) for n, first in ((1, 3), (0, 0), (2, 6))}
    files = publish(
        folder, parts, LAYOUT.schema(INPUT), output=Output(path="out"), facts={"job": "x"}
    )
    frame = pl.read_parquet(folder.responses)
    assert frame["id"].to_list() == [str(i) for i in range(9)]
    assert frame["q"].to_list() == [f"q{i}" for i in range(9)]
    assert frame["messages"][4].to_list() == [{"role": "user", "content": "问题 4"}]
    assert [(f.name, f.rows, f.bytes) for f in files] == [
        ("responses.parquet", 9, folder.responses.stat().st_size)
    ]
    assert pq.read_metadata(folder.responses).metadata[b"batchgen"] == b'{"job": "x"}'
    assert pl.read_parquet_metadata(folder.responses)["batchgen"] == '{"job": "x"}'


def test_the_layout_parts_has_only_parts_in_its_folder(store: PartStore, folder: RunFolder) -> None:
    parts = {n: store.seal(n, part_table(3 * n, 3)) for n in range(3)}
    output = Output(path="out", layout="parts", file_mode="0640")
    files = publish(folder, parts, LAYOUT.schema(INPUT), output=output, facts={})
    assert sorted(p.name for p in folder.response_parts.iterdir()) == [
        f"part-0000{n}.parquet" for n in range(3)
    ]
    assert [f.rows for f in files] == [3, 3, 3]
    assert pl.read_parquet(folder.response_parts / "*.parquet")["id"].to_list() == [
        str(i) for i in range(9)
    ]
    assert stat.S_IMODE((folder.response_parts / "part-00000.parquet").stat().st_mode) == 0o640
    assert stat.S_IMODE(folder.response_parts.stat().st_mode) == 0o750


@pytest.mark.parametrize("mode", ["0600", "0644"])
def test_published_files_have_the_requested_permissions(
    store: PartStore, folder: RunFolder, mode: str
) -> None:
    parts = {0: store.seal(0, part_table(0, 1))}
    publish(
        folder, parts, LAYOUT.schema(INPUT), output=Output(path="out", file_mode=mode), facts={}
    )
    assert stat.S_IMODE(folder.responses.stat().st_mode) == int(mode, 8)
    assert stat.S_IMODE(folder.private.stat().st_mode) == 0o700


def test_every_page_has_a_checksum(store: PartStore, folder: RunFolder) -> None:
    """Without page checksums most flipped bits are read as other data without an error."""
    parts = {0: store.seal(0, part_table(0, 2000))}
    publish(
        folder, parts, LAYOUT.schema(INPUT), output=Output(path="out", compression="none"), facts={}
    )
    content = bytearray(folder.responses.read_bytes())
    at = content.index(b"answer 777/0")
    content[at] ^= 1
    folder.responses.write_bytes(content)
    with pytest.raises(OSError, match=r"checksum|CRC"):
        pq.read_table(folder.responses, page_checksum_verification=True)


@pytest.mark.parametrize(("first", "second"), [("file", "parts"), ("parts", "file")])
def test_publishing_removes_all_old_files(
    store: PartStore, folder: RunFolder, first: str, second: str
) -> None:
    parts = {n: store.seal(n, part_table(3 * n, 3)) for n in range(2)}
    for layout in (first, second):
        output = Output.model_validate({"path": "out", "layout": layout})
        files = publish(folder, parts, LAYOUT.schema(INPUT), output=output, facts={})
        found = {str(p.relative_to(folder.path)) for p in folder.path.rglob("*.parquet")}
        assert found == {file.name for file in files}


def test_a_folder_of_parts_is_replaced_file_by_file(store: PartStore, folder: RunFolder) -> None:
    output = Output(path="out", layout="parts")
    for count, last in ((3, 8), (2, 5)):
        parts = {n: store.seal(10 * count + n, part_table(3 * n, 3)) for n in range(count)}
        publish(folder, parts, LAYOUT.schema(INPUT), output=output, facts={})
        frame = pl.read_parquet(folder.response_parts / "*.parquet")
        assert frame["id"].to_list() == [str(i) for i in range(last + 1)]


def test_staged_files_are_not_visible(store: PartStore, folder: RunFolder) -> None:
    parts = {0: store.seal(0, part_table(0, 3))}
    publish(folder, parts, LAYOUT.schema(INPUT), output=Output(path="out"), facts={})
    before = folder.responses.read_bytes()
    stage = Stage(folder, "zstd", 0o600, {})
    stage.clear()
    with stage.responses(LAYOUT.schema(INPUT), "file") as write:
        write(part_table(0, 1).cast(LAYOUT.schema(INPUT)))
    assert folder.responses.read_bytes() == before
    assert pq.read_metadata(folder.staged / "responses.parquet").num_rows == 1
