"""The example jobs in `jobs/`: they load, and their data matches their description."""

import csv
import datetime as dt
import json
import re
from pathlib import Path

import pytest

from batchgen.engines.engine_registry import ENGINES
from batchgen.errors import ExitCode
from batchgen.job.spec import Job
from batchgen.jobfile.docs.reference import job_reference
from batchgen.jobfile.load import load_job
from batchgen.prompts.render import PromptRenderer, check_prompts
from batchgen.records import Failure, Prompt, Row
from batchgen.run.run import run

JOBS = Path(__file__).parent.parent / "jobs"
QUICKSTART = JOBS / "quickstart.yaml"
WORKED = tuple(
    JOBS / name / "job.yaml"
    for name in ("creative_writing", "customer_service", "education", "medical")
)
CONVERSATIONS = JOBS / "conversations" / "job.yaml"
TEXT = {
    "creative_writing": "idea",
    "customer_service": "body",
    "education": "question",
    "medical": "note",
}
"""The column with text that users wrote."""
DATE = dt.date(2026, 11, 20)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
ENGLISH = re.compile(r"[A-Za-z]{3,}")

Record = dict[str, object]


def name_of(path: Path) -> str:
    return path.parent.name if path.name == "job.yaml" else path.stem


def load(path: Path, profile: str | None = None) -> Job:
    return load_job(path, profile=profile, date=DATE).job


def data_file(job: Job) -> Path:
    assert isinstance(job.input.path, str)
    return Path(job.input.path)


def records_of(job: Job) -> list[Record]:
    """The data, read by the standard library instead of batchgen's readers: an empty CSV cell is null."""
    file = data_file(job)
    text = file.read_bytes().decode("utf-8")
    if file.suffix == ".jsonl":
        found: list[Record] = [json.loads(line) for line in text.splitlines()]
        columns = dict.fromkeys(key for record in found for key in record)
        return [{column: record.get(column) for column in columns} for record in found]
    lines = csv.reader(text.splitlines(keepends=True), strict=True)
    header = next(lines)
    return [dict(zip(header, (cell or None for cell in line), strict=True)) for line in lines]


def answered(job: Job, records: list[Record]) -> list[Record]:
    """The rows that pass the job's filter; implemented for the only filter in use."""
    if job.input.filter is None:
        return records
    assert job.input.filter == "status = 'open' AND body IS NOT NULL"
    return [r for r in records if r["status"] == "open" and r["body"] is not None]


worked = pytest.mark.parametrize("path", WORKED, ids=name_of)
every_job = pytest.mark.parametrize(
    ("path", "profile"),
    [(QUICKSTART, None), *((path, profile) for path in WORKED for profile in (None, "smoke"))],
    ids=lambda value: name_of(value) if isinstance(value, Path) else str(value or "as written"),
)


def test_every_job_file_is_tested() -> None:
    others = {"out", "schedulers", "loop"}  # for the loop: test_jobs_loop.py
    found = {f for f in JOBS.rglob("*.yaml") if not others.intersection(f.relative_to(JOBS).parts)}
    assert found == {QUICKSTART, CONVERSATIONS, *WORKED}


@every_job
def test_a_job_loads_and_its_output_is_ignored_by_git(path: Path, profile: str | None) -> None:
    job = load(path, profile)
    assert data_file(job).is_file()
    assert Path(job.output.path).is_relative_to(JOBS / "out")


def test_recurring_jobs_write_one_folder_per_day() -> None:
    assert load(JOBS / "customer_service" / "job.yaml").output.path.endswith("/2026-11-20")
    assert load(JOBS / "medical" / "job.yaml").output.path.endswith("/2026-11-20")


def test_the_quickstart_is_short_and_needs_only_the_demo_model() -> None:
    job = load(QUICKSTART)
    lines = [line for line in QUICKSTART.read_text("utf-8").splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith("#")]) <= 15
    assert job.model.path == "demo:smollm2-135m"
    assert job.decoding.max_new_tokens <= 64
    assert len(records_of(job)) == 12


@worked
def test_the_smoke_profile_is_small(path: Path) -> None:
    job = load(path, "smoke")
    assert job.model.path == "demo:smollm2-135m"
    assert job.input.limit is not None
    assert job.input.limit * job.decoding.num_return_sequences <= 12
    assert job.decoding.max_new_tokens <= 24
    assert "max_new_tokens" not in job.decoding.columns
    assert Path(job.output.path).name == f"smoke-{path.parent.name}"
    assert job.run.max_error_rate == 0


@worked
def test_the_data_has_two_languages_and_many_lengths(path: Path) -> None:
    job = load(path)
    records = records_of(job)
    assert 30 <= len(records) <= 60
    assert {record["lang"] for record in records} == {"en", "zh"}
    for lang, letters in (("en", ENGLISH), ("zh", CHINESE)):
        cells = (record[TEXT[name_of(path)]] for record in records if record["lang"] == lang)
        texts = [str(cell) for cell in cells if cell is not None]
        assert len(texts) >= 15
        assert all(letters.search(text) for text in texts)
        assert max(map(len, texts)) > 5 * min(map(len, texts))


@worked
def test_the_data_has_only_valid_text(path: Path) -> None:
    raw = data_file(load(path)).read_bytes()
    text = raw.decode("utf-8")
    assert not raw.startswith(b"\xef\xbb\xbf")
    assert not set("\r\0\ufffd") & set(text)
    assert text.endswith("\n")


@worked
def test_ids_are_unique_and_never_null(path: Path) -> None:
    job = load(path)
    ids = [record[job.input.columns.id or "id"] for record in records_of(job)]
    assert None not in ids
    assert len(set(ids)) == len(ids)


@worked
def test_an_optional_column_has_an_empty_cell(path: Path) -> None:
    assert any(value is None for record in records_of(load(path)) for value in record.values())


@every_job
def test_every_column_that_the_job_names_is_in_the_data(path: Path, profile: str | None) -> None:
    job = load(path, profile)
    columns = list(records_of(job)[0])
    assert check_prompts(job, columns) == []
    named = set(job.decoding.columns.values())
    if not isinstance(job.output.keep_columns, str):
        named |= set(job.output.keep_columns)
    assert named <= set(columns)


@every_job
def test_every_row_has_a_prompt(path: Path, profile: str | None) -> None:
    job = load(path, profile)
    renderer = PromptRenderer(job)
    for index, record in enumerate(answered(job, records_of(job))):
        prompt = renderer.render(Row(index, str(index), record))
        assert isinstance(prompt, Prompt), record
        for message in prompt.messages:
            assert message.content == message.content.strip()
            assert "None" not in message.content
            assert "\n\n\n" not in message.content


def test_the_filter_excludes_tickets_without_a_body() -> None:
    job = load(JOBS / "customer_service" / "job.yaml")
    records = records_of(job)
    renderer = PromptRenderer(job)
    empty = [r for r in records if r["status"] == "open" and r["body"] is None]
    assert empty
    assert all(isinstance(renderer.render(Row(0, "0", r)), Failure) for r in empty)
    assert {r["status"] for r in records} > {"open"}


def test_creative_writing_overrides_settings_of_some_rows_only() -> None:
    job = load(JOBS / "creative_writing" / "job.yaml")
    for column in job.decoding.columns.values():
        values = [record[column] for record in records_of(job)]
        assert None in values
        assert len({value for value in values if value is not None}) > 3
    assert job.decoding.num_return_sequences == 4
    assert job.decoding.logprobs


def test_the_solved_examples_are_not_among_the_questions() -> None:
    job = load(JOBS / "education" / "job.yaml")
    questions = {record["question"] for record in records_of(job)}
    shown = {message.content.split("\n")[0] for message in job.prompt.messages or ()}
    assert not questions & shown


def test_the_answers_to_school_questions_are_scored() -> None:
    job = load(JOBS / "education" / "job.yaml")
    records = records_of(job)
    assert all(record["answer"] is not None for record in records)
    assert {metric.name or metric.type for metric in job.evaluate.metrics} == {
        *("right", "number", "choice"),
    }
    assert {gate.metric for gate in job.evaluate.gates} == {"right"}
    assert set(job.evaluate.slices) <= set(records[0])


def test_the_job_measures_diversity() -> None:
    job = load(JOBS / "creative_writing" / "job.yaml")
    assert {metric.type for metric in job.evaluate.metrics} == {
        *("sample_diversity", "distinct", "length"),
    }


def test_degrees_of_urgency_are_checked() -> None:
    job = load(JOBS / "medical" / "job.yaml")
    assert {gate.metric for gate in job.evaluate.gates} == {"valid", "urgency", "pii"}


def test_the_job_stores_no_text_of_a_note() -> None:
    job = load(JOBS / "medical" / "job.yaml")
    assert not job.output.store_prompt
    assert "note" not in job.output.keep_columns
    assert job.redact is not None
    assert job.redact.entities == "all"
    assert job.output.file_mode == "0600"
    assert job.prompt.on_overflow == "error"
    assert job.run.max_error_rate == 0


def test_the_conversations_have_known_answers_and_two_languages(tmp_path: Path) -> None:
    overrides = ["model={engine: echo}", f"output.path={tmp_path}"]
    loaded = load_job(CONVERSATIONS, profile="smoke", overrides=overrides)
    frame = run(loaded).frame()
    turns = [record["turns"] for record in records_of(loaded.job)]
    assert frame.height == sum(len(one) for one in turns if isinstance(one, list))
    assert set(frame["turn"]) == {1, 2, 3}
    assert set(frame["lang"]) == {"en", "zh"}
    assert frame["error"].null_count() == frame.height
    scored = {m.name or m.type: m for m in loaded.job.evaluate.metrics}
    assert set(scored) == {"number", "later_turns", "length"}
    assert frame.filter(frame["gold"].is_not_null())["score_number"].null_count() == 0


# --------------------------------------------------------------------------- running them


@pytest.mark.soak
@pytest.mark.parametrize("path", WORKED, ids=name_of)
def test_the_smoke_profile_runs_with_the_demo_model(
    path: Path, demo_folder: Path, tmp_path: Path
) -> None:
    assert demo_folder.is_dir()
    loaded = load_job(path, profile="smoke", overrides=[f"output.path={tmp_path}"], date=DATE)
    result = run(loaded)
    frame = result.frame()
    samples = loaded.job.decoding.num_return_sequences
    assert result.exit_code == ExitCode.DONE
    assert loaded.job.input.limit is not None
    assert frame.height == loaded.job.input.limit * samples
    assert frame["response"].null_count() == 0
    assert (frame["output_tokens"] >= 1).all()
    scores = [name for name in frame.columns if name.startswith("score_")]
    assert bool(scores) == bool(loaded.job.evaluate.metrics)
    written = frame.drop(
        "messages", "response", "reasoning", "parsed", *scores, strict=False
    ).columns
    assert written[-2:] == ["run_id", "created_at"]


def test_the_reference_page_matches_the_schema() -> None:
    """To renew it: `batchgen schema --format markdown -o jobs/README.md`."""
    assert (JOBS / "README.md").read_text("utf-8") == job_reference(
        {name: entry.info.summary for name, entry in ENGINES.items()}
    )
