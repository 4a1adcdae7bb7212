"""Job files as editors save them."""

from pathlib import Path

import pytest

from batchgen.errors import JobFileError
from batchgen.jobfile.load import load_job

JOB = """\
version: 1
name: notepad
input: {path: in.csv}
prompt:
  user: |
    Frage: {{ question }}
    Antwort für 客户:
model: {engine: echo}
output: {path: "out/${date}"}
"""
USER = "Frage: {{ question }}\nAntwort für 客户:\n"


@pytest.mark.parametrize(
    "data",
    [
        JOB.encode(),
        JOB.encode("utf-8-sig"),
        JOB.replace("\n", "\r\n").encode(),
        JOB.replace("\n", "\r").encode(),
    ],
    ids=["utf-8", "bom", "windows", "old-mac"],
)
def test_read_as_written(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "job.yaml").write_bytes(data)
    assert load_job(tmp_path / "job.yaml").job.prompt.user == USER


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (JOB.encode("utf-16"), 1, "not UTF-8 text"),
        (JOB.replace("客户", "Müller").encode("cp1252"), 7, "not UTF-8 text"),
        (JOB.replace("für", "给").encode("gbk"), 7, "not UTF-8 text"),
        (JOB.replace("  user", "\tuser").encode(), 5, "a tab"),
        (JOB.replace("  user", "\u00a0\u00a0user").encode(), 5, "a no-break space"),
        (JOB.replace("notepad", "“notepad”").encode(), 2, "expected letters"),
    ],
    ids=["utf-16", "cp1252", "gbk", "tab", "no-break-space", "curly-quotes"],
)
def test_refused_at_the_line_of_the_cause(
    tmp_path: Path, data: bytes, line: int, words: str
) -> None:
    (tmp_path / "job.yaml").write_bytes(data)
    with pytest.raises(JobFileError) as caught:
        load_job(tmp_path / "job.yaml")
    assert caught.value.problems[0].line == line
    assert words in caught.value.problems[0].message


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "Pacific/Kiritimati", "Mars/Phobos", "", "UTC-14"])  # fmt: skip
def test_any_time_zone_gives_a_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    monkeypatch.delenv("HOME", raising=False)
    (tmp_path / "job.yaml").write_text(JOB, "utf-8")
    loaded = load_job(tmp_path / "job.yaml")
    assert loaded.job.output.path == str(tmp_path / "out" / loaded.date.isoformat())
