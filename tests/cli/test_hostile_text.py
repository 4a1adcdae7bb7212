"""Text of a row, a column or a file cannot control the terminal, wherever it is shown."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.jobfile.load import load_job
from batchgen.run.run import run

MakeJob = Callable[..., Path]

TITLE, CLEAR, COLOUR, TURNED, MARK = "\x1b]0;mine\x07", "\x1b[2J", "\x9b31m", "\u202e", "\u2066"
CLIPBOARD = "\x1b]52;c;bWluZQ==\x07"
HOSTILE = f"a{TITLE}b{CLEAR}c{COLOUR}d{TURNED}e{MARK}f{CLIPBOARD}g\x00h\x7fi\rj\x08k"
ID = f"row{CLEAR}{TURNED}"
COLUMN = f"col{TITLE}{TURNED}"


def control_characters(text: str) -> list[str]:
    """Control characters except newlines and tabs, and characters that reverse the text direction."""
    return [f"U+{ord(c):04X}" for c in text if _is_control(c) or _turns(c)]


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" and character not in "\n\t"


def _turns(character: str) -> bool:
    names = ("RLO", "LRO", "RLE", "LRE", "PDF", "LRI", "RLI", "FSI", "PDI")
    return unicodedata.bidirectional(character) in names


@pytest.fixture
def job(make_job: MakeJob) -> Path:
    """A job whose rows, ids and columns are hostile; the first is answered, the second fails."""
    rows = [
        {"id": ID, "q": HOSTILE, COLUMN: HOSTILE},
        {"id": f"{ID}2", "q": "", COLUMN: HOSTILE},
    ]
    return make_job(rows, prompt={"system": "Echo this."}, run={"max_error_rate": 1}, redact={})


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "JOB"],
        ["plan", "JOB", "--json"],
        ["validate", "JOB"],
        ["validate", "JOB", "--json"],
        ["run", "JOB"],
        ["run", "JOB", "--json"],
        ["status", "OUT"],
        ["status", "OUT", "--json"],
        ["show", "OUT"],
        ["show", "OUT", "--json"],
        ["show", "OUT", "--row", f"no such {HOSTILE}".replace("\x00", "")],
        ["run", "JOB", "--set", "input.columns.id=nope"],
        ["run", "JOB", "--set", "output.keep_columns=[nope]"],
        ["run", "JOB", "--set", "prompt.user={{ nope }}"],
        ["run", "JOB", "--set", f"input.path=no such {HOSTILE}".replace("\x00", "")],
    ],
)
def test_no_text_controls_the_terminal(
    arguments: list[str], job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", str(job), "-q"]) == 0
    names = {"JOB": str(job), "OUT": str(job.parent / "out")}
    call([names.get(a, a) for a in arguments])
    out, err = capsys.readouterr()
    assert out + err
    assert control_characters(out) == []
    assert control_characters(err) == []
    if "--json" in arguments and arguments[0] == "show":
        assert json.loads(out)["answers"][0]["messages"][1]["content"] == HOSTILE


def test_the_stored_text_is_unchanged(job: Path) -> None:
    frame = run(load_job(job)).frame()
    assert frame[COLUMN].to_list() == [HOSTILE, HOSTILE]
    assert frame["id"][0] == ID
    assert HOSTILE in frame["response"][0]


def test_file_names_never_depend_on_rows(make_job: MakeJob, tmp_path: Path) -> None:
    ids = ["../../up", "/tmp/absolute", "a/b", "..", "nul\x00", "x" * 300, "~", "$HOME", "*"]
    job = make_job([{"id": id_, "q": id_} for id_ in ids], output={"layout": "parts"})
    before = {p for p in tmp_path.rglob("*") if "out" not in p.parts}
    result = run(load_job(job))
    assert result.frame()["id"].to_list() == ids
    assert {p for p in tmp_path.rglob("*") if "out" not in p.parts} == before
    written = {
        p.relative_to(result.folder.path).as_posix() for p in result.folder.path.rglob("*.parquet")
    }
    assert written == {"responses/part-00000.parquet"}


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1", "-1", "\tx", "=cmd|'/c calc'!A0"])
def test_text_that_resembles_a_formula_is_unchanged(text: str, make_job: MakeJob) -> None:
    """Parquet has no formulas; an export to a spreadsheet has to escape them."""
    frame = run(load_job(make_job([{"q": text}]))).frame()
    assert (frame["q"][0], frame["response"][0]) == (text, text)
