"""CSV: accepted files and their cells, in any encoding; the oracle is a parser that reads character by character."""

import codecs
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.errors import DataError
from batchgen.input.sources import InputSource, open_source
from batchgen.job.spec import CsvOptions, Input

Cell = str | None


def source_of(content: bytes, folder: Path, **options: object) -> InputSource:
    path = folder / "rows.csv"
    path.write_bytes(content)
    return open_source(Input(path=str(path), csv=CsvOptions.model_validate(options)), seed=0)


def rows_of(content: bytes | str, folder: Path, **options: object) -> list[dict[str, Cell]]:
    data = content.encode() if isinstance(content, str) else content
    source = source_of(data, folder, **options)
    survey = source.survey()
    rows = [row for chunk in source.chunks(survey, rows=3) for row in chunk.table.to_pylist()]
    assert len(rows) == survey.rows
    return rows


def table_of(content: bytes | str, folder: Path, **options: object) -> list[list[Cell]]:
    return [list(row.values()) for row in rows_of(content, folder, **options)]


ACCEPTED: dict[str, tuple[str, list[list[Cell]]]] = {
    "numbers stay text": ("a,b\n001,12345678901234567890123\n", [["001", "12345678901234567890123"]]),
    "words stay text": ("a,b\nNA,null\ntrue,2024-01-02\n", [["NA", "null"], ["true", "2024-01-02"]]),
    "nan stays text": ("a,b\nNaN,#N/A\n", [["NaN", "#N/A"]]),
    "empty is null, quoted empty is text": ('a,b,c\n,"",x\n', [[None, "", "x"]]),
    "quoted empty at both ends": ('a,b\n"",\n,""\n', [["", None], [None, ""]]),
    "white space is text": ("a,b\n , x\n", [[" ", " x"]]),
    "stray quotes": ('a,b\nhe said "hi",x"\n', [['he said "hi"', 'x"']]),
    "doubled quotes": ('a,b\n"say ""hi""",""""\n', [['say "hi"', '"']]),
    "delimiter in quotes": ('a,b\n"1,2",";"\n', [["1,2", ";"]]),
    "JSON in quotes": ('a,b\n"{""k"": [1, ""x, y""]}","[]"\n', [['{"k": [1, "x, y"]}', "[]"]]),
    "JSON without quotes around it": ('a,b,c\nx,{"answer":""},{"src":"x.pdf"}\n"""",{},{"n":1}\n',
                                      [["x", '{"answer":""}', '{"src":"x.pdf"}'], ['"', "{}", '{"n":1}']]),
    "line breaks in quotes": ('a,b\n"1\n2\r\n3\r4",x\n', [["1\n2\r\n3\r4", "x"]]),
    "CRLF": ("a,b\r\n1,2\r\n3,4\r\n", [["1", "2"], ["3", "4"]]),
    "CR alone": ("a,b\r1,2\r3,4\r", [["1", "2"], ["3", "4"]]),
    "mixed line ends": ("a,b\r\n1,2\n3,4\r5,6\r\n", [["1", "2"], ["3", "4"], ["5", "6"]]),
    "no line break at the end": ("a,b\n1,2", [["1", "2"]]),
    "quoted at the end": ('a,b\n1,"2"', [["1", "2"]]),
    "empty lines": ("\n\na,b\n\n1,2\n\r\n\n3,4\n\n", [["1", "2"], ["3", "4"]]),
    "one column": ('a\n1\n\n"x, y"\n""\n', [["1"], ["x, y"], [""]]),
    "NUL": ("a,b\n1\x002,\x00\n", [["1\x002", "\x00"]]),
    "separators that are no line ends": ("a,b\n1\x0b\x0c\x1c\x1d\x1e2,\x85\u2028\u2029\n",
                                         [["1\x0b\x0c\x1c\x1d\x1e2", "\x85\u2028\u2029"]]),
    "delimiter line of Excel": ("sep=;\r\na;b\r\n1,5;2\r\n", [["1,5", "2"]]),
    "delimiter line, quoted, with a tab": ('"sep=\t"\na\tb\n1\t2\n', [["1", "2"]]),
    "delimiter line after a byte order mark": ("\ufeffSEP=|\na|b\n1|2\n", [["1", "2"]]),
    "delimiter line of a file with one column": ("sep=;\na\n1\n", [["1"]]),
    "empty columns of Excel": ("a,b,,\r\n1,2,,\r\n3,,,\r\n", [["1", "2"], ["3", None]]),
    "one empty column": ("a,b,\n1,2,\n", [["1", "2"]]),
    "empty rows of Excel": ("a,b\n1,2\n,\n,\n3,\n,\n", [["1", "2"], ["3", None]]),
    "an empty text is no empty row": ('a,b\n"",\n', [["", None]]),
    "a backslash at the end of a field": ('a,b\n"C:\\",x\n\\N,y\n', [["C:\\", "x"], ["\\N", "y"]]),
    "quoted header": ('"a, b",c\n1,2\n', [["1", "2"]]),
    "a header without a name": (",b\n1,2\n", [["1", "2"]]),
    "control tokens and templates": ("a,b\n{{ x }},<|im_end|>\n", [["{{ x }}", "<|im_end|>"]]),
    "Chinese": ("问题,答案\n你好，世界,“好”\n", [["你好，世界", "“好”"]]),
}  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(content: str, expected: list[list[Cell]], tmp_path: Path) -> None:
    assert table_of(content, tmp_path) == expected


CHINESE = "编号,问题\n1,今天天气怎么样？\n2,“请”用一句话，回答。\n"
ENCODINGS: dict[str, tuple[bytes, str]] = {
    "utf-8": (CHINESE.encode(), "utf-8"),
    "utf-8 with mark": (codecs.BOM_UTF8 + CHINESE.encode(), "utf-8"),
    "gb18030": (CHINESE.encode("gb18030"), "gb18030"),
    "gbk": (CHINESE.encode("gbk"), "gb18030"),
    "utf-16, little end first": (codecs.BOM_UTF16_LE + CHINESE.encode("utf-16-le"), "utf-16"),
    "utf-16, big end first": (codecs.BOM_UTF16_BE + CHINESE.encode("utf-16-be"), "utf-16"),
    "utf-32": (CHINESE.encode("utf-32"), "utf-32"),
}


@pytest.mark.parametrize(("content", "name"), ENCODINGS.values(), ids=ENCODINGS.keys())
def test_encoding_is_detected(content: bytes, name: str, tmp_path: Path) -> None:
    source = source_of(content, tmp_path)
    assert source.describe() == f'csv, {name}, ","'
    assert source.columns == ("编号", "问题")
    assert rows_of(content, tmp_path)[1] == {"编号": "2", "问题": "“请”用一句话，回答。"}


@pytest.mark.parametrize(
    "name", ["gb18030", "GBK", "big5", "latin-1", "cp1252", "utf-16-le", "UTF8"]
)
def test_encoding_by_name(name: str, tmp_path: Path) -> None:
    text = "a,b\né,ü\n" if name in {"latin-1", "cp1252"} else "a,b\n天,中\n"
    expected = [text.splitlines()[1].split(",")]
    assert table_of(text.encode(name), tmp_path, encoding=name) == expected


EXTRAS = {
    "euro sign of cp936": ("gbk", b"\x80", "€"),
    "euro sign of cp936 under its name": ("cp936", b"a\x80b", "a€b"),
    "euro sign of cp936 in gb18030": ("gb18030", b"\xcc\xec\x80", "天€"),
    "two-byte euro sign": ("gbk", b"\xa2\xe3", "€"),
    "gbk in gb2312": ("gb2312", "镕".encode("gbk"), "镕"),
    "four bytes in gbk": ("gbk", "㐀𠀀".encode("gb18030"), "㐀𠀀"),
    "euro sign of cp950": ("big5", "€".encode("cp950"), "€"),
    "ETEN of big5": ("big5", "碁銹".encode("cp950"), "碁銹"),
    "Hong Kong in big5": ("big5", "啲嘅喺".encode("big5hkscs"), "啲嘅喺"),
    "Hong Kong in cp950": ("cp950", "啲".encode("big5hkscs"), "啲"),
    "two characters at once in big5": ("big5", b"\x88\x62", "Ê̄"),
    "NEC and IBM in shift_jis": ("shift_jis", "①㈱髙纊".encode("cp932"), "①㈱髙纊"),
    "a wave dash stays": ("shift_jis", b"\x81\x60", "〜"),
    "NEC in euc-jp": ("euc-jp", b"\xad\xa1", "①"),
    "cp949 in euc-kr": ("euc-kr", "똠방각하".encode("cp949"), "똠방각하"),
    "cp1252 in latin-1": ("latin-1", b"\x80 \x93caf\xe9\x94", "€ “café”"),
    "undefined in cp1252": ("cp1252", b"a\x81b", "a\x81b"),
    "cp1254 in latin-5": ("latin5", b"\x80\xfd", "€ı"),
    "cp874 in tis-620": ("tis-620", b"\x80\xa1", "€ก"),
    "utf-16 without mark": ("utf-16", "天€".encode("utf-16-le"), "天€"),
    "utf-16, big end first, without mark": ("utf-16", "a€".encode("utf-16-be"), "a€"),
    "utf-16-le with mark": ("utf-16-le", codecs.BOM_UTF16_LE + "天".encode("utf-16-le"), "天"),
}  # fmt: skip


@pytest.mark.parametrize(("encoding", "cell", "expected"), EXTRAS.values(), ids=EXTRAS.keys())
def test_characters_of_windows_files(
    encoding: str, cell: bytes, expected: str, tmp_path: Path
) -> None:
    """Oracle: the decoders of https://encoding.spec.whatwg.org, which read what Windows programs write."""
    if encoding.startswith("utf-16"):
        mark = codecs.BOM_UTF16_LE if cell.startswith(codecs.BOM_UTF16_LE) else b""
        header = "a\n".encode("utf-16-be" if cell[0] == 0 else "utf-16-le")
        content = mark + header + cell.removeprefix(mark)
    else:
        content = b"a\n" + cell + b"\n"
    assert table_of(content, tmp_path, encoding=encoding) == [[expected]]


def test_euro_signs_across_blocks(tmp_path: Path) -> None:
    cell = ("天€" * 200_000).encode("gb18030").replace(b"\xa2\xe3", b"\x80")
    assert table_of(b"a\n" + cell + b"\n" + cell, tmp_path) == [["天€" * 200_000]] * 2


def test_characters_across_blocks(tmp_path: Path) -> None:
    text = "字" * 999_999
    for encoding in ("utf-8", "gb18030", "utf-16"):
        assert table_of(f"a,b\n1,{text}\n".encode(encoding), tmp_path) == [["1", text]]


def test_the_page_of_windows_is_proposed_for_its_bytes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cp1252"):
        source_of("name\n“café” 5 €\n".encode("cp1252"), tmp_path)


@pytest.mark.parametrize("word", ["Müller", "naïve café", "Über, schön"])
def test_latin_text_is_not_detected_as_chinese(word: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="latin-1"):
        source_of(f"name\n{word}\n".encode("latin-1"), tmp_path)


DELIMITERS = {
    "comma": ("a,b\n1;2,3\n", ",", ["a", "b"]),
    "semicolon": ("a;b\n1,5;2,5\n", ";", ["a", "b"]),
    "tab": ("a\tb\n1, 2\t3\n", "tab", ["a", "b"]),
    "bar": ("a|b\n1|2\n", "|", ["a", "b"]),
    "within quotes": ('"a;x";b\n"1;;;";2\n', ";", ["a;x", "b"]),
    "one column": ("a\n1\n", ",", ["a"]),
    "header decides over a bad row": ("a,b\n1;2\n", ",", ["a", "b"]),
}


@pytest.mark.parametrize(("content", "mark", "names"), DELIMITERS.values(), ids=DELIMITERS.keys())
def test_delimiter_is_detected(content: str, mark: str, names: list[str], tmp_path: Path) -> None:
    source = source_of(content.encode(), tmp_path)
    assert source.describe() == f'csv, utf-8, "{mark}"'
    assert source.columns == tuple(names)


@pytest.mark.parametrize("mark", [",", ";", "|", "\t", ":", "\x01", "^", "-", "]", "\\", ".", " "])
def test_any_ascii_delimiter(mark: str, tmp_path: Path) -> None:
    content = f'a{mark}b\n"1{mark}"{mark}\n'
    assert table_of(content, tmp_path, delimiter=mark) == [[f"1{mark}", None]]


def test_other_quote_and_null_values(tmp_path: Path) -> None:
    content = "a,b\n'x, ''y''',\"1\"\nNA,'NULL'\n"
    found = table_of(content, tmp_path, quote="'", null_values=("NA", "NULL"))
    assert found == [["x, 'y'", '"1"'], [None, None]]


def test_a_long_record_within_the_limits(tmp_path: Path) -> None:
    cells = ["x" * 900_000, "a\n" * 400_000, '"' * 450_000]
    quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
    assert table_of(f"a,b,c\n{quoted}\n{quoted}", tmp_path) == [cells, cells]


def plainly_parsed(text: str, delimiter: str) -> list[list[Cell]]:
    """Recursive-descent parser for RFC 4180. Raises ValueError for unmatched quotes."""
    records: list[list[Cell]] = []
    at = 0
    while at < len(text):
        record, at = _record(text, at, delimiter)
        if record != [None]:
            records.append(record)
    return records


def _record(text: str, at: int, delimiter: str) -> tuple[list[Cell], int]:
    cell, at = _field(text, at, delimiter)
    record = [cell]
    while text[at : at + 1] == delimiter:
        cell, at = _field(text, at + 1, delimiter)
        record.append(cell)
    if text[at : at + 2] == "\r\n":
        return record, at + 2
    if at < len(text) and text[at] not in "\r\n":
        raise ValueError("text after a quote")
    return record, at + 1


def _field(text: str, at: int, delimiter: str) -> tuple[Cell, int]:
    end = at
    if text[at : at + 1] != '"':
        while end < len(text) and text[end] not in {delimiter, "\r", "\n"}:
            end += 1
        return text[at:end] or None, end
    cell = ""
    while True:
        end = text.index('"', at + 1)
        cell += text[at + 1 : end]
        if text[end + 1 : end + 2] != '"':
            return cell, end + 1
        cell += '"'
        at = end + 1


def test_the_plain_parser() -> None:
    assert plainly_parsed('a,"b""c",""\r\n\n,"1\n2"', ",") == [["a", 'b"c', ""], [None, "1\n2"]]
    for bad in ('"a', '"a"b', 'x,"a""'):
        with pytest.raises(ValueError, match=r"quote|substring"):
            plainly_parsed(bad, ",")


SNIPPETS = st.lists(
    st.sampled_from(
        ['"', '""', ",", ";", "\n", "\r", "\r\n", "a", "b c", "é", "字", "\x00", " ", "'"]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(body=SNIPPETS)
def test_equals_the_plain_parser(body: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Both read the same records, or both reject the text."""
    text = "h1,h2\n" + body
    folder = tmp_path_factory.mktemp("csv")
    try:
        expected = plainly_parsed(text, ",")[1:]
    except ValueError:
        expected = []
    if not expected or any(len(record) != 2 for record in expected):
        with pytest.raises(DataError):
            rows_of(text, folder, encoding="utf-8", delimiter=",")
        return
    filled = [record for record in expected if record != [None, None]]
    if filled:
        assert table_of(text, folder, encoding="utf-8", delimiter=",") == filled
    else:
        with pytest.raises(DataError, match="no rows"):
            rows_of(text, folder, encoding="utf-8", delimiter=",")


CELLS = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "gb18030", "utf-16"]),
)
def test_files_of_the_csv_module_are_read(
    rows: Sequence[Sequence[str]],
    delimiter: str,
    line_end: str,
    encoding: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([["h1", "h2", "h3"], *rows])
    content = out.getvalue().encode(encoding)
    found = table_of(content, tmp_path_factory.mktemp("csv"), encoding=encoding)
    assert found == [list(row) for row in rows]


@settings(max_examples=150, deadline=20_000)
@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from([b'"', b",", b"\n", b"\r", b"\xff", b"\xfe", b"\x00", b"a", b"\xb0\xa1"]),
                 max_size=60).map(b"".join),
    )
)  # fmt: skip
def test_any_bytes_are_read_or_rejected(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    error = refusal(content, tmp_path_factory.mktemp("csv"))
    assert error is None or (
        error.hint and ("rows.csv" in error.message or "column" in error.message)
    )


def refusal(content: bytes, folder: Path) -> DataError | None:
    try:
        rows_of(content, folder)
    except DataError as error:
        return error
    return None
