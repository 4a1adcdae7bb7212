"""Input in a bucket of a real S3 server: which objects are read, what is copied, and every fault on the way."""

import json
import os
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.errors import BatchgenError, DataError, ExitCode
from batchgen.input.files import find_files
from batchgen.input.sources import open_source
from batchgen.job.spec import Input
from tests.object_store import KEY_ID, SECRET, FaultyStore, Rule

TREE = (
    *("day/a.csv", "day/b.csv", "day/lang=zh/c.csv", "day/lang=en/d.csv"),
    *(
        "day/_tmp/e.csv",
        "day/.f.csv",
        "day/notes.txt",
        "days/g.csv",
        "数据/一 二.csv",
        "h%20i+j.csv",
    ),
)


def names(store: FaultyStore, path: str, **more: object) -> list[str]:
    spec = Input.model_validate({"path": store.address(path), **more})
    return [file.name for file in find_files(spec)]


@pytest.fixture
def tree(object_store: FaultyStore) -> FaultyStore:
    for key in TREE:
        object_store.put(quote(key), b"q\nhello\n")
    return object_store


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("day/a.csv", ["a.csv"], id="an object"),
        pytest.param("day/lang=*", ["lang=en/d.csv", "lang=zh/c.csv"], id="a glob of prefixes"),
        pytest.param("day/*.csv", ["a.csv", "b.csv"], id="a glob"),
        pytest.param("day/[!a]*.csv", ["b.csv"], id="a glob with a class"),
        pytest.param("day/_tmp/e.csv", ["e.csv"], id="an object with a hidden folder"),
        pytest.param("day/_*/*.csv", ["_tmp/e.csv"], id="a glob that names a hidden folder"),
        pytest.param("*/g.csv", ["days/g.csv"], id="a glob at the first level"),
        pytest.param("数据/", ["一 二.csv"], id="a prefix with other letters"),
        pytest.param("数据/一 *.csv", ["一 二.csv"], id="a glob with a space"),
        pytest.param("h%20i+j.csv", ["h%20i+j.csv"], id="a key with percent and plus"),
    ],
)
def test_objects_are_found_as_files_are(tree: FaultyStore, path: str, expected: list[str]) -> None:
    assert names(tree, path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("lang", ["lang=en/d.csv", "lang=zh/c.csv"]),
        ("lang/lang=zh", ["c.csv"]),
        ("lang/**/*.csv", ["lang=en/d.csv", "lang=zh/c.csv"]),
    ],
)
def test_folders_of_keys_become_columns(
    object_store: FaultyStore, path: str, expected: list[str]
) -> None:
    for name in ("lang=zh/c.csv", "lang=en/d.csv"):
        object_store.put(f"lang/{name}", b"q\nhello\n")
    files = find_files(Input(path=object_store.address(path)))
    assert [file.name for file in files] == expected
    if "/" not in path:
        assert [dict(file.partitions) for file in files] == [{"lang": "en"}, {"lang": "zh"}]


def test_a_local_folder_and_a_prefix_give_the_same_files(tree: FaultyStore, tmp_path: Path) -> None:
    """The oracle for the globs is `Path.glob`, through the reader of local folders."""
    for key in TREE:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_text("q\nhello\n")
    for path in ("day/**/*.csv", "day/*", "*/*.csv", "da?s", "day/lang=*/*.csv", "**/[a-g].csv"):
        found: list[object] = []
        for spec in (Input(path=str(tmp_path / path)), Input(path=tree.address(path))):
            try:
                found.append([file.name for file in find_files(spec)])
            except DataError as error:
                root = tree.address("") if found else f"{tmp_path}/"
                found.append(error.message.replace(root, ""))
        assert found[0] == found[1], path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_format_is_read(object_store: FaultyStore, tmp_path: Path, suffix: str) -> None:
    rows, path = [{"id": f"r{n}", "q": f"第 {n}"} for n in range(50)], tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text("id,q\n" + "".join(f"{row['id']},{row['q']}\n" for row in rows), "utf-8")
    object_store.put(f"in/rows.{suffix}", path.read_bytes())
    tables = []
    for place in (str(path), object_store.address("in/")):
        source = open_source(Input(path=place), seed=0)
        survey = source.survey()
        tables.append(pa.concat_tables(c.table for c in source.chunks(survey, rows=20)))
    assert tables[0].equals(tables[1])
    assert tables[0].num_rows == 50


def test_a_version_is_copied_once_and_a_new_version_again(object_store: FaultyStore) -> None:
    object_store.put("a.csv", b"q\none\n")
    spec = Input(path=object_store.address("a.csv"))
    first, again = find_files(spec), find_files(spec)
    assert first == again
    assert object_store.sent("GET", "a.csv") == 1
    object_store.put("a.csv", b"q\ntwo\n")
    (second,) = find_files(spec)
    assert object_store.sent("GET", "a.csv") == 2
    assert second.path.read_text() == "q\ntwo\n"
    assert first[0].path.read_text() == "q\none\n", "a run that is reading it keeps its version"
    assert second.path.stat().st_mode & 0o777 == 0o600


def test_copies_that_no_start_uses_are_deleted(object_store: FaultyStore) -> None:
    for name in ("a.csv", "b.csv"):
        object_store.put(name, b"q\none\n")
    old, kept = (
        find_files(Input(path=object_store.address(n)))[0].path for n in ("a.csv", "b.csv")
    )
    os.utime(old.parent, (0, 0))
    find_files(Input(path=object_store.address("b.csv")))
    assert (old.exists(), kept.exists()) == (False, True)


def test_a_damaged_copy_is_made_again(object_store: FaultyStore) -> None:
    object_store.put("a.csv", b"q\none\n")
    spec = Input(path=object_store.address("a.csv"))
    find_files(spec)[0].path.write_text("q\n")
    assert find_files(spec)[0].path.read_text() == "q\none\n"


FAULTS = [
    pytest.param(Rule("answer", "GET", "a.csv", 2, 503), id="503 twice"),
    pytest.param(Rule("answer", "HEAD", "a.csv", 1, 500, "InternalError"), id="500 once"),
    pytest.param(Rule("lose the answer", "GET", "a.csv"), id="lost answer"),
    pytest.param(Rule("cut the body", "GET", "a.csv"), id="connection closed in the body"),
]


@pytest.mark.parametrize("rule", FAULTS)
def test_passing_faults_are_survived(object_store: FaultyStore, rule: Rule) -> None:
    content = b"q\n" + b"some text\n" * 50_000
    object_store.put("a.csv", content)
    object_store.rules.append(rule)
    (file,) = find_files(Input(path=object_store.address("a.csv")))
    assert file.path.read_bytes() == content
    assert rule.count == 0


LASTING = [
    pytest.param(
        Rule("answer", count=99, status=403, code="AccessDenied"),
        ExitCode.ENVIRONMENT,
        "cannot read ADDRESS: the store rejected the credentials or the access (HTTP 403",
        id="denied",
    ),
    pytest.param(
        Rule("answer", "GET", count=99, status=400, code="ExpiredToken"),
        ExitCode.ENVIRONMENT,
        "cannot read ADDRESS: the store rejected the credentials or the access (HTTP 400 ExpiredToken)",
        id="expired after the first request",
    ),
    pytest.param(
        Rule("answer", "GET", count=99, status=404, code="NoSuchKey"),
        ExitCode.ENVIRONMENT,
        "ADDRESS: was replaced or deleted while it was copied to this machine",
        id="deleted after the first request",
    ),
]


@pytest.mark.parametrize(("rule", "code", "message"), LASTING)
def test_lasting_faults_name_the_object_and_no_secret(
    object_store: FaultyStore, rule: Rule, code: ExitCode, message: str
) -> None:
    object_store.put("a.csv", b"q\none\n")
    object_store.rules.append(rule)
    address = object_store.address("a.csv")
    with pytest.raises(BatchgenError) as caught:
        find_files(Input(path=address))
    assert caught.value.exit_code == code
    assert caught.value.message.replace(address, "ADDRESS").startswith(message)
    assert caught.value.hint
    chain: BaseException | None = caught.value
    while chain is not None:
        assert KEY_ID not in str(chain)
        assert SECRET not in str(chain)
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)


def test_an_object_that_is_replaced_during_the_download_is_an_error(
    object_store: FaultyStore,
) -> None:
    object_store.put("a.csv", b"q\none\n")
    replaced = Rule("answer", "GET", "a.csv")
    replaced.then = lambda: object_store.put("a.csv", b"q\ntwo\n")
    object_store.rules.append(replaced)
    with pytest.raises(DataError, match="was replaced or deleted while it was copied"):
        find_files(Input(path=object_store.address("a.csv")))


def test_a_missing_bucket_and_a_missing_key(object_store: FaultyStore) -> None:
    with pytest.raises(BatchgenError, match="the bucket nobody-has-it does not exist"):
        find_files(Input(path="s3://nobody-has-it/a/*.csv"))
    with pytest.raises(DataError, match=r"none\.csv: no input files"):
        find_files(Input(path=object_store.address("none.csv")))


def test_errors_of_readers_name_the_object(object_store: FaultyStore) -> None:
    object_store.put("bad.csv", b"a,b\n1,2\n1,2,3\n")
    object_store.put("other.jsonl", b'{"a": 1}\nnot json\n')
    for name, line in (("bad.csv", 3), ("other.jsonl", 2)):
        with pytest.raises(DataError) as caught:
            open_source(Input(path=object_store.address(name)), seed=0).survey()
        assert caught.value.message.startswith(f"{object_store.address(name)}:{line}: ")
