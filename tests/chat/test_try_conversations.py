"""`try` and `/row` hold the conversations of a job: each turn is asked after the model's answer to the one before."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import batchgen
from batchgen.__main__ import call
from batchgen.chat.conversation import Conversation
from batchgen.chat.live_model import open_live_model
from batchgen.jobfile.load import load_job

MakeJob = Callable[..., Path]
TALKS = [
    {"id": "a", "turns": ["one?", "two?", "three?"]},
    {"id": "b", "turns": ["only?"]},
    {"id": "c", "turns": ["first?", "", "third?"]},
]


@pytest.fixture
def job(make_job: MakeJob) -> Path:
    return make_job(
        TALKS,
        input={"columns": {"turns": "turns"}},
        prompt={"user": None, "system": "Be brief."},
    )


def answers(job: Path) -> dict[str, str]:
    """Of a run, by id and sample."""
    frame = batchgen.run(job).frame()
    return {f"{r['id']} {r['sample']}": r["response"] for r in frame.to_dicts()}


def blocks(printed: str) -> dict[str, str]:
    """What follows each heading."""
    parts = re.split(r"^── (.*)\n", printed, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], (text.strip() for text in parts[1::2]), strict=True))


def test_try_gives_the_answers_of_a_run(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["try", str(job), "-n", "2"]) == 0
    shown = blocks(capsys.readouterr().out)
    expected = answers(job)
    assert shown == {
        "a/1 · turn 1 of 3": expected["a/1 0"].strip(),
        "a/2 · turn 2 of 3": expected["a/2 0"].strip(),
        "a/3 · turn 3 of 3": expected["a/3 0"].strip(),
        "b/1": expected["b/1 0"].strip(),
    }
    assert len(set(shown.values())) == 4


def test_each_sample_is_a_conversation_of_its_own(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampled = ["--set", "decoding.num_return_sequences=2", "--set", "decoding.temperature=1"]
    short = ["--set", "decoding.max_new_tokens=9"]
    assert call(["try", str(job), "--row", "a/2", *sampled, *short]) == 0
    assert list(blocks(capsys.readouterr().out)) == [
        "a/1 · turn 1 of 2 · sample 0",
        "a/2 · turn 2 of 2 · sample 0",
        "a/1 · turn 1 of 2 · sample 1",
        "a/2 · turn 2 of 2 · sample 1",
    ]


def test_the_prompt_of_a_later_turn_has_the_answer_before_it(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["try", str(job), "--row", "a", "--prompt"]) == 0
    printed = capsys.readouterr().out
    prompt = printed.split("── a/2 · turn 2 of 3\n")[1].split("── answer")[0]
    assert f"<assistant>{answers(job)['a/1 0']}<end>" in prompt


def test_a_turn_after_one_that_failed_is_not_asked(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = ["{{ q }}?", "{{ absent_in_row.x }}", "Again."]
    job = make_job([{"q": "a", "absent_in_row": None}], prompt={"user": None, "turns": turns})
    assert call(["try", str(job)]) == 3
    shown = blocks(capsys.readouterr().out)
    assert len(shown) == 3
    assert shown["0/3 · turn 3 of 3"].startswith("earlier_turn_failed: ")


def test_a_row_with_an_id_of_no_conversation(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["try", str(job), "--row", "a/9"]) == 5
    assert "no row has the id 'a/9'" in capsys.readouterr().err


def test_chat_asks_the_turns_of_a_row(job: Path) -> None:
    pieces: list[str] = []
    lines: list[str] = []
    model = open_live_model(load_job(job))
    talk = Conversation(model, lambda _: load_job(job), pieces.append, lines.append)
    talk.take("/row a/2")
    talk.close()
    assert [m.role for m in talk.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert lines == ["system: Be brief.", "user: one?", "user: two?"]
    assert talk.messages[2].content == answers(job)["a/1 0"]
