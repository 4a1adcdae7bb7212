"""`batchgen chat`: turns and commands with the engine echo, which answers with the last message of the user."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.chat.conversation import HELP, Conversation
from batchgen.chat.live_model import open_live_model
from batchgen.jobfile.load import LoadedJob, load_job

MakeJob = Callable[..., Path]


class Screen:
    """What was shown: answers, and lines for the user."""

    def __init__(self) -> None:
        self.answers = ""
        self.lines: list[str] = []


@pytest.fixture
def begin(make_job: MakeJob) -> Iterator[Callable[..., tuple[Conversation, Screen]]]:
    opened: list[Conversation] = []

    def start(**sections: object) -> tuple[Conversation, Screen]:
        job, screen = (
            make_job([{"q": "one", "id": "a"}, {"q": "two", "id": "b"}], **sections),
            Screen(),
        )

        def load(overrides: Sequence[str]) -> LoadedJob:
            return load_job(job, overrides=overrides)

        def show(text: str) -> None:
            screen.answers += text

        opened.append(Conversation(open_live_model(load(())), load, show, screen.lines.append))
        return opened[-1], screen

    yield start
    for conversation in opened:
        conversation.close()


def turns(conversation: Conversation) -> list[tuple[str, str]]:
    return [(one.role, one.content) for one in conversation.messages]


def test_messages_are_answered_after_the_earlier_ones(
    begin: Callable[..., tuple[Conversation, Screen]],
) -> None:
    conversation, screen = begin(prompt={"system": "Be brief.", "user": "{{ q }}"})
    conversation.hold(["hello", "", "again"])
    assert turns(conversation) == [
        ("system", "Be brief."),
        ("user", "hello"),
        ("assistant", "Be brief.hello"),  # echo repeats the whole conversation
        ("user", "again"),
        ("assistant", "Be brief.helloBe brief.helloagain"),
    ]
    assert screen.answers == "Be brief.hello\nBe brief.helloBe brief.helloagain\n"


def test_commands_change_the_conversation(
    begin: Callable[..., tuple[Conversation, Screen]], tmp_path: Path
) -> None:
    conversation, screen = begin()
    conversation.hold(["hello", "more", "/undo"])
    assert turns(conversation) == [("user", "hello"), ("assistant", "hello")]
    conversation.hold(["/retry"])
    assert turns(conversation) == [("user", "hello"), ("assistant", "hello")]
    conversation.hold(["/system You are a tree.", "hi"])
    assert turns(conversation)[0] == ("system", "You are a tree.")
    file = tmp_path / "my talks.jsonl"
    conversation.hold([f"/save '{file}'", "/new", "x", f"/save '{file}'"])
    saved = [json.loads(line)["messages"] for line in file.read_text().splitlines()]
    assert saved[0][1] == {"role": "user", "content": "hi"}
    assert len(saved[1]) == 2
    screen.lines.clear()
    conversation.hold(["/show prompt", "/quit", "never sent"])
    assert "x" in screen.lines[0]
    assert turns(conversation) == [("user", "x"), ("assistant", "x")]


def test_what_is_saved_is_input_of_a_job(
    begin: Callable[..., tuple[Conversation, Screen]], tmp_path: Path, make_job: MakeJob
) -> None:
    conversation, _ = begin()
    conversation.hold(["你好", f"/save {tmp_path / 'talk.jsonl'}"])
    job = make_job(input={"path": "talk.jsonl", "columns": {"messages": "messages"}}, prompt=None)
    assert call(["validate", str(job)]) == 0


def test_a_row_of_the_job_begins_a_conversation(
    begin: Callable[..., tuple[Conversation, Screen]],
) -> None:
    conversation, screen = begin(prompt={"system": "On {{ id }}", "user": "Say {{ q }}"})
    assert conversation.messages == []
    conversation.hold(["/row b", "and then?"])
    assert turns(conversation)[:3] == [
        ("system", "On b"),
        ("user", "Say two"),
        ("assistant", "On bSay two"),
    ]
    assert screen.lines[:2] == ["system: On b", "user: Say two"]
    conversation.hold(["/row z"])
    assert "no row has the id 'z'" in screen.lines[-1]


def test_set_changes_the_job_and_keeps_the_conversation(
    begin: Callable[..., tuple[Conversation, Screen]],
) -> None:
    conversation, screen = begin()
    conversation.hold(["one two three four", "/set decoding.max_new_tokens 2", "/retry"])
    assert conversation.messages[-1].content != "one two three four"
    assert "(length after 2 tokens)" in screen.lines
    kept = conversation.model
    conversation.hold(["/set decoding.temprature 1", "/set decoding.temperature"])
    assert "Did you mean" in screen.lines[-2]
    assert "expected /set KEY VALUE" in screen.lines[-1]
    assert conversation.model is kept


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/unknown", "unknown command /unknown; /help lists them"),
        ("/retry", "no message is answered"),
        ("/save", "expected /save FILE"),
        ("/save empty.jsonl", "nothing to save: no message was sent yet"),
        ("/system", "without a system message"),
        ("/system Be brief.", "the system message is set"),
        ("/undo", "messages of yours that are left: 0"),
    ],
)
def test_a_command_that_cannot_be_carried_out(
    begin: Callable[..., tuple[Conversation, Screen]], line: str, answer: str
) -> None:
    conversation, screen = begin()
    assert conversation.take(line)
    assert answer in screen.lines[-1]


def test_a_file_that_cannot_be_written_ends_nothing(
    begin: Callable[..., tuple[Conversation, Screen]],
) -> None:
    conversation, screen = begin()
    conversation.hold(["hello", "/save /absent/folder/x"])
    assert "No such file or directory" in screen.lines[-1]


def test_help_lists_every_command(begin: Callable[..., tuple[Conversation, Screen]]) -> None:
    conversation, screen = begin()
    conversation.take("/help")
    assert [line.split()[0] for line in screen.lines] == [command.split()[0] for command in HELP]
    for command in HELP:
        conversation.take(command.split()[0])
    assert not any("unknown" in line for line in screen.lines)
