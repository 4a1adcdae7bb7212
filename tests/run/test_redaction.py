"""`redact` in a complete run: what the model receives, what is stored, and what is rejected."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.errors import BatchgenError, JobFileError, StateError
from batchgen.jobfile.load import load_job
from batchgen.output.published_run import read_manifest
from batchgen.records import Completion, Failure, Request
from batchgen.run.run import run
from tests.run.wrapped_engines import Wrapped

MakeJob = Callable[..., Path]
MAIL, PHONE, HELPLINE = "ann@example.com", "138 0013 8000", "+44 20 7946 0000"
ROWS: list[dict[str, Any]] = [
    {"q": f"I am {MAIL}", "who": MAIL, "tags": [PHONE, "x"], "n": i} for i in range(6)
]
PROMPT = {"system": f"Help line {HELPLINE}", "user": "{{ q }} {{ tags[0] }}"}


def bytes_of(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())


def run_job(make_job: MakeJob, **redact: Any) -> Any:
    job = make_job(ROWS, prompt=PROMPT, redact=redact, output={"compression": "none"})
    return run(load_job(job))


def test_the_model_and_the_disk_receive_only_redacted_text(make_job: MakeJob) -> None:
    result = run_job(make_job)
    frame = result.frame()
    assert frame["messages"].to_list()[0] == [
        {"role": "system", "content": f"Help line {HELPLINE}"},  # the job's own text
        {"role": "user", "content": "I am [EMAIL] [PHONE]"},
    ]
    assert frame["response"][0] == "Help line [PHONE]I am [EMAIL] [PHONE]"
    assert frame["who"].unique().to_list() == ["[EMAIL]"]
    assert frame["tags"][0].to_list() == ["[PHONE]", "x"]
    for text in (MAIL, PHONE):
        assert text.encode() not in bytes_of(result.folder.path)


def test_the_manifest_counts_by_kind(make_job: MakeJob) -> None:
    """Six rows: two addresses and a number in the cells, the number of the help line in each answer."""
    counts = json.loads(run_job(make_job).folder.manifest.read_text())["counts"]
    assert counts["redacted"] == {"email": 12, "phone": 12}


def test_counts_survive_a_stop_and_the_loss_of_their_record(make_job: MakeJob) -> None:
    looks = iter(range(100))
    job = make_job(ROWS, prompt=PROMPT, redact={}, batching={"part_rows": 2})
    stopped = run(load_job(job), stop=lambda: next(looks) >= 3)
    assert stopped.outcome == "stopped"
    for record in stopped.folder.parts.glob("*.json"):
        record.unlink()
    assert run(load_job(job)).counts.redacted == {"email": 12, "phone": 12}


def test_only_the_answer(make_job: MakeJob) -> None:
    frame = run_job(make_job, apply_to=["response"]).frame()
    assert frame["who"].unique().to_list() == [MAIL]
    assert MAIL in frame["messages"][0][1]["content"]
    assert MAIL not in frame["response"][0]


def test_only_the_input(make_job: MakeJob) -> None:
    frame = run_job(make_job, apply_to=["input"], entities=["email"]).frame()
    assert frame["response"][0] == f"Help line {HELPLINE}I am [EMAIL] {PHONE}"


def test_reasoning_is_part_of_the_answer(make_job: MakeJob) -> None:
    rows = [{"q": f"<think>{MAIL}</think>{PHONE}"}]
    job = make_job(rows, redact={"apply_to": ["response"]})
    frame = run(load_job(job)).frame()
    assert frame["reasoning"].to_list() == ["[EMAIL]"]
    assert frame["response"].to_list() == ["[PHONE]"]


def test_a_hash_is_the_same_in_cell_prompt_and_answer(make_job: MakeJob) -> None:
    result = run_job(make_job, replacement="hash", secret="0123456789abcdef")
    row = result.frame().to_dicts()[0]
    assert row["who"].startswith("[EMAIL:")
    assert row["who"] in row["messages"][1]["content"]
    assert row["who"] in row["response"]
    assert b"0123456789abcdef" not in bytes_of(result.folder.path)


def test_ids_are_hashed_or_rejected(make_job: MakeJob) -> None:
    rows = [{"id": f"u{i}@example.com", "q": "x"} for i in range(3)]
    hashed = make_job(rows, redact={"replacement": "hash", "secret": "0123456789abcdef"})
    ids = run(load_job(hashed)).frame()["id"]
    assert ids.n_unique() == 3
    assert ids.str.starts_with("[EMAIL:").all()
    with pytest.raises(BatchgenError, match="redacted ids may be equal") as caught:
        run(load_job(make_job(rows, redact={}, output={"path": "out2"})))
    assert "u0@" not in str(caught.value)
    kept = make_job(rows, redact={"columns": ["q"]}, output={"path": "out3"})
    assert run(load_job(kept)).frame()["id"][0] == "u0@example.com"


@pytest.mark.parametrize("change", [{"entities": ["email"]}, {"replacement": "mask"}, {"columns": ["q"]}, {"apply_to": ["input"]}, None])  # fmt: skip
def test_a_changed_redaction_is_a_different_run(
    make_job: MakeJob, change: dict[str, Any] | None
) -> None:
    run_job(make_job)
    other = make_job(ROWS, prompt=PROMPT, output={"compression": "none"}, **({} if change is None else {"redact": change}))  # fmt: skip
    with pytest.raises(StateError, match="redact"):
        run(load_job(other))


@pytest.mark.parametrize(
    ("redact", "message"),
    [
        ({"columns": ["n"]}, "column 'n' is int64; only text can be redacted"),
        ({"columns": ["nope"]}, "column 'nope' is not in the input"),
        ({"columns": ["q"], "apply_to": ["response"]}, "redact.columns has no effect"),
        ({"entities": ["mail"]}, "Did you mean email"),
        ({"entities": []}, "one or more words"),
        ({"replacement": "hash"}, "needs redact.secret"),
        ({"replacement": "hash", "secret": "short"}, "16 characters"),
        (
            {"secret": "0123456789abcdef"},
            "redact.secret has no effect with replacement: placeholder",
        ),
    ],
)
def test_a_redaction_without_effect_is_rejected(
    make_job: MakeJob, redact: dict[str, Any], message: str
) -> None:
    with pytest.raises(JobFileError, match=message):
        run_job(make_job, **redact)


@dataclass
class Failing(Wrapped):
    """Fails the answers of some rows."""

    inner: Engine
    rows: set[int]

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for done in self.inner.generate(requests):
            failure = Failure("out_of_memory", "does not fit")
            failed = Completion(done.index, done.sample, (), "", "error", failure=failure)
            yield failed if done.index in self.rows else done


@pytest.mark.parametrize("answered", [6, 4])
@pytest.mark.parametrize("failed", [{1}, {0, 1}, {0, 1, 2, 5}, set(range(6))])
def test_counts_stay_when_failed_rows_are_generated_again(
    make_job: MakeJob, failed: set[int], answered: int
) -> None:
    job = make_job(
        ROWS, prompt=PROMPT, redact={}, batching={"part_rows": 2}, run={"max_error_rate": 1}
    )

    def opener(model: Any, **others: Any) -> Engine:
        return Failing(open_engine(model, **others), failed)

    looks = iter(range(answered))
    first = run(load_job(job), opener=opener, stop=lambda: next(looks, None) is None)
    assert first.outcome == ("done" if answered == 6 else "stopped")
    result = run(load_job(job), start="retry-errors")
    assert (result.counts.rows, result.counts.failed) == (6, 0)
    assert result.counts.redacted == {"email": 12, "phone": 12}
    assert read_manifest(result.folder).counts.redacted == {"email": 12, "phone": 12}
