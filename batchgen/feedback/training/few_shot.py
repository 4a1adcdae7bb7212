"""Edited answers as few-shot examples: a base file for `extends`, whose prompt.messages has them before the row's own turn."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from batchgen.errors import UsageError
from batchgen.feedback.training.examples import AnswerContents, LabelledAnswer
from batchgen.job.spec import PromptSpec
from batchgen.storage.durable import disk_errors, write_durably
from batchgen.storage.entries import is_folder

_HEAD = """# Answers that people edited, as examples. Made by `batchgen feedback export --format few-shot`; use it with
#   extends: [job.yaml, {name}]
"""
_MARKS = re.compile(r"\{[{%#]|\$\{")
"""What begins an expression of a template, or a variable of a job file."""


class _Blocks(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Blocks.add_representer(str, _text)


def write_few_shot(
    target: Path, examples: Sequence[LabelledAnswer], texts: AnswerContents, prompt: PromptSpec
) -> None:
    """Write the base file: the turns of the job's prompt with the examples between the system message and the rest.

    Raises:
        UsageError: the name does not end in .yaml, or the job's prompt is in a file or a column.
        ResourceError: the disk is full or read-only.
    """
    if target.suffix.lower() not in (".yaml", ".yml"):
        raise UsageError(
            f"{target}: few-shot examples are a part of a job file",
            hint="End the name of the file in .yaml.",
        )
    if not is_folder(target.absolute().parent):
        raise UsageError(
            f"cannot write {target}: its folder does not exist", hint="Create the folder."
        )
    own = _own_turns(prompt)
    system = [turn for turn in own if turn["role"] == "system"]
    rest = [turn for turn in own if turn["role"] != "system"]
    turns = [turn for example in examples for turn in _turns(example, texts)]
    content = {"prompt": {"system": None, "user": None, "messages": [*system, *turns, *rest]}}
    text = yaml.dump(content, Dumper=_Blocks, allow_unicode=True, sort_keys=False, width=110)
    with disk_errors("cannot write", target):
        whole = (_HEAD.format(name=target.name) + text).encode()
        write_durably(target.absolute(), whole, scratch=target.absolute().parent)


def _own_turns(prompt: PromptSpec) -> list[dict[str, str]]:
    if prompt.messages is not None:
        return [{"role": one.role, "content": one.content} for one in prompt.messages]
    if prompt.user is None:
        raise UsageError(
            "few-shot examples need a job with prompt.user or prompt.messages",
            hint="Write the template of the prompt into the job file.",
        )
    system = [] if prompt.system is None else [("system", prompt.system)]
    pairs = [*system, ("user", prompt.user)]
    return [{"role": role, "content": text} for role, text in pairs]


def _turns(example: LabelledAnswer, texts: AnswerContents) -> list[dict[str, str]]:
    found = texts.get(example.side.ref)
    if found is None:
        raise ValueError("an example without its answer")
    asked: list[dict[str, Any]] = [
        {"role": one["role"], "content": one["content"] or ""}
        for one in found.messages
        if one["role"] != "system"
    ]
    turns = [*asked[-1:], {"role": "assistant", "content": texts.text(example.side)}]
    return [{**turn, "content": _literal(turn["content"])} for turn in turns]


def _literal(text: str) -> str:
    """A template that renders to this text."""
    return _MARKS.sub(lambda found: '{{ "' + found[0] + '" }}', text)
