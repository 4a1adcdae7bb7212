"""The notes in `jobs/medical/notes.jsonl`: personal numbers are fictitious, some valid, some not."""

import json
import re
from pathlib import Path

from batchgen.jobfile.load import load_job
from batchgen.run.run import run

JOB = Path(__file__).parent.parent / "jobs" / "medical" / "job.yaml"
FILE = JOB.with_name("notes.jsonl")
NOTES = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
TEXT = "\n".join(note["note"] for note in NOTES)


def test_urgency_has_three_values_that_all_occur() -> None:
    found = [note["nurse_urgency"] for note in NOTES]
    assert set(found) == {"emergency", "urgent", "routine"}
    assert min(map(found.count, found)) >= 8


def resident_id_is_valid(digits: str) -> bool:
    """GB 11643: the eighteenth character makes the weighted sum 1 modulo 11, with X for 10."""
    values = [10 if digit == "X" else int(digit) for digit in digits]
    return sum(v * pow(2, 17 - i, 11) for i, v in enumerate(values)) % 11 == 1


def nhs_number_is_valid(digits: str) -> bool:
    """NHS data dictionary: weights 10 to 1, the sum is divisible by 11."""
    return sum(int(d) * (10 - i) for i, d in enumerate(digits)) % 11 == 0


def test_personal_numbers_are_valid_or_invalid_and_fictitious() -> None:
    residents = re.findall(r"(?<!\d)\d{17}[\dX]", TEXT)
    assert {resident_id_is_valid(number) for number in residents} == {True, False}
    # 110100 is the code of a city; identity numbers contain the code of a district.
    assert all(number.startswith("110100") for number in residents)
    patients = [n.replace(" ", "") for n in re.findall(r"(?<!\d)\d{3} \d{3} \d{4}(?!\d)", TEXT)]
    assert len(patients) >= 2
    # 999 is the range for tests.
    assert all(nhs_number_is_valid(n) and n.startswith("999") for n in patients)


def test_addresses_and_telephone_numbers_are_from_ranges_for_examples() -> None:
    mails = re.findall(r"[\w.-]+@([\w.-]*\w)", TEXT)
    assert len(mails) >= 4
    assert set(mails) <= {"example.com", "example.net", "example.org"}
    mobiles = re.findall(r"(?<!\d)07\d{3} \d{6}", TEXT)
    assert len(mobiles) >= 3
    assert all(number.startswith("07700 900") for number in mobiles)
    chinese = re.findall(r"(?<!\d)1[3-9]\d-?\d{4}-?\d{4}(?!\d)", TEXT)
    assert len(chinese) >= 3
    assert all(number.startswith("154") for number in chinese)


def test_answers_contain_no_personal_numbers_or_addresses(tmp_path: Path) -> None:
    """The echo engine answers with the prompt, so its answers show the input of a model."""
    echo = [
        "model={engine: echo, path: null}",
        "decoding={max_new_tokens: 4000, response_format: null}",
        f"output.path={tmp_path}",
    ]
    frame = run(load_job(JOB, overrides=echo)).frame()
    answers = "\n".join(frame["response"])
    valid = [r for r in re.findall(r"(?<!\d)\d{17}[\dX]", TEXT) if resident_id_is_valid(r)]
    for found in (*valid, *re.findall(r"[\w.-]+@|07\d{3} \d{6}|154-?\d{4}-?\d{4}", TEXT)):
        assert found not in answers
    assert answers.count("[PHONE]") >= 9
    assert answers.count("[CN_RESIDENT_ID]") == len(valid)
