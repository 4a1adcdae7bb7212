"""README, help, messages, docstrings and comments are in plain English: no banned words, and hints have one style.

The words are banned because they make programs speak ("says", "told"), or because they are vague ("beside", "go on"). A
hint is one or more sentences: a capital letter or code first, a full stop, a question mark or code last.
"""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from batchgen.cli import cli

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "batchgen"
BANNED = re.compile(
    r"\b(?:told|tells?|says|said|knows|asks|beside|whoever|go(?:es)? on|gone on|is no(?! longer\b)"
    r"|lies|by now|meanwhile|company)\b",
    re.IGNORECASE,
)
DATA = {
    PACKAGE / "bench" / "workload.py",
    PACKAGE / "evaluation" / "judging" / "prompt_texts.py",
    PACKAGE / "metrics" / "refusal.py",
    PACKAGE / "metrics" / "ifeval" / "instructions.py",
    PACKAGE / "metrics" / "sentences.py",
}
"""Files whose strings are prompts, patterns or lists of words, not messages."""
HINT_START = re.compile(r"[A-Z`'\"$-]")
HINT_END = re.compile(r"[.?`]$")


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path not in DATA:
            yield path, ast.parse(path.read_text("utf-8"))


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every string of a module with a space in it, the constant parts of f-strings included; docstrings excluded."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    for node in constants:
        if isinstance(node.value, str) and " " in node.value and id(node) not in docstrings:
            yield node.lineno, node.value


def hints(tree: ast.Module) -> Iterator[ast.expr]:
    """The `hint=` of every call, and the third argument of every `Problem`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (word.value for word in node.keywords if word.arg == "hint")
            if isinstance(node.func, ast.Name) and node.func.id == "Problem":
                yield from node.args[2:3]


def ends(node: ast.expr, at: int) -> Iterator[str]:
    """The literal text at one end (0 or -1) of every value that an expression may have."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from ends(node.values[at], at)
    elif isinstance(node, ast.BinOp):
        yield from ends((node.left, node.right)[at], at)
    elif isinstance(node, ast.IfExp):
        yield from ends(node.body, at)
        yield from ends(node.orelse, at)


def commands(command: click.Command, name: str = "batchgen") -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from commands(found, f"{name} {child}")


COMMANDS = dict(commands(cli))


@pytest.mark.parametrize("page", ["README.md", "jobs/README.md"])
def test_pages_have_no_banned_words(page: str) -> None:
    lines = (ROOT / page).read_text("utf-8").splitlines()
    assert [(n, line) for n, line in enumerate(lines, 1) if BANNED.search(line)] == []


def test_messages_have_no_banned_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path, tree in sources()
        for line, text in strings(tree)
        if BANNED.search(text)
    ]
    assert found == []


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Every docstring and comment of a file, without code in backquotes."""
    with path.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            docstring = token.type == tokenize.STRING and token.string.endswith('"""')
            if docstring or token.type == tokenize.COMMENT:
                yield token.start[0], re.sub(r"`[^`]*`", "", token.string)


def test_docstrings_and_comments_have_no_banned_words() -> None:
    """But "there is no ...", which is plain English, is allowed where no user reads it."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match[0]}"
        for path, _ in sources()
        for line, text in prose(path)
        for match in BANNED.finditer(text)
        if match[0].lower() != "is no"
    ]
    assert found == []


def test_hints_are_sentences() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{hint.lineno}: {text}"
        for path, tree in sources()
        for hint in hints(tree)
        for at, style in ((0, HINT_START.match), (-1, HINT_END.search))
        for text in ends(hint, at)
        if text and not style(text)
    ]
    assert found == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_no_banned_words_and_one_style(name: str) -> None:
    command = COMMANDS[name]
    options = [p.help for p in command.params if isinstance(p, click.Option)]
    assert command.help is not None
    for text in (command.help, *options):
        assert text is not None
        assert not BANNED.search(text), text
        assert text[0].isupper(), text
        assert text.rstrip().endswith(".") or text is command.help, text


@pytest.mark.parametrize("name", [name for name in COMMANDS if " " in name])
def test_the_short_help_of_a_command_is_complete_and_short(name: str) -> None:
    command = COMMANDS[name]
    text = command.get_short_help_str(1000)
    assert len(text) < 60
    assert text.endswith(".")
    assert command.get_short_help_str(60) == text


@pytest.mark.parametrize(
    ("text", "banned"),
    [
        ("it says so", True),
        ("Tells more", True),
        ("there is no file", True),
        ("it is no longer there", False),
        ("it is not there", False),
        ("goes on", True),
        ("besides, storytelling", False),
    ],
)
def test_the_list_of_words(text: str, banned: bool) -> None:
    assert bool(BANNED.search(text)) is banned
