"""Rows of training files, as TRL and LLaMA-Factory read them.

trl-dpo             prompt, chosen, rejected            lists of {role, content}; texts for jobs without a chat template
trl-reward          chosen, rejected                    with the prompt in both
trl-kto             prompt, completion, label
trl-sft             prompt, completion
llamafactory-dpo    conversations, chosen, rejected     lists of {from, value}; system is a column of its own
llamafactory-kto    conversations, kto_tag
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from batchgen.feedback.training.examples import Message

FormatName = Literal[
    "trl-dpo",
    "trl-kto",
    "trl-reward",
    "trl-sft",
    "llamafactory-dpo",
    "llamafactory-kto",
    "few-shot",
]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PromptForm:
    """How the prompts of the runs were written. `prefill` begins every answer; plain: without a chat template."""

    plain: bool = False
    prefill: str = ""


PreferenceRow = Callable[[Sequence[Message], str, str, PromptForm], Row]
LabelledRow = Callable[[Sequence[Message], str, bool, PromptForm], Row]


def _turns(messages: Sequence[Message]) -> list[Row]:
    return [{"role": one["role"], "content": one["content"] or ""} for one in messages]


def _answer(text: str, form: PromptForm) -> list[Row] | str:
    whole = form.prefill + text
    return whole if form.plain else [{"role": "assistant", "content": whole}]


def _prompt(messages: Sequence[Message], form: PromptForm) -> list[Row] | str:
    turns = _turns(messages)
    return "".join(turn["content"] for turn in turns) if form.plain else turns


def _whole(messages: Sequence[Message], text: str, form: PromptForm) -> list[Row] | str:
    return _prompt([*messages, {"role": "assistant", "content": form.prefill + text}], form)


def _trl_dpo(messages: Sequence[Message], chosen: str, rejected: str, form: PromptForm) -> Row:
    return {
        "prompt": _prompt(messages, form),
        "chosen": _answer(chosen, form),
        "rejected": _answer(rejected, form),
    }


def _trl_reward(messages: Sequence[Message], chosen: str, rejected: str, form: PromptForm) -> Row:
    return {"chosen": _whole(messages, chosen, form), "rejected": _whole(messages, rejected, form)}


def _trl_kto(messages: Sequence[Message], text: str, label: bool, form: PromptForm) -> Row:
    return {**_trl_sft(messages, text, label, form), "label": label}


def _trl_sft(messages: Sequence[Message], text: str, label: bool, form: PromptForm) -> Row:
    del label
    return {"prompt": _prompt(messages, form), "completion": _answer(text, form)}


_SPEAKERS = {"user": "human", "assistant": "gpt"}


def _conversation(messages: Sequence[Message]) -> Row:
    """The system message, and the other turns with the names that LLaMA-Factory uses."""
    system = "\n\n".join(one["content"] or "" for one in messages if one["role"] == "system")
    turns = [
        {"from": _SPEAKERS[turn["role"]], "value": turn["content"]}
        for turn in _turns(messages)
        if turn["role"] != "system"
    ]
    return {"system": system, "conversations": turns}


def _llamafactory_dpo(
    messages: Sequence[Message], chosen: str, rejected: str, form: PromptForm
) -> Row:
    return {
        **_conversation(messages),
        "chosen": {"from": "gpt", "value": form.prefill + chosen},
        "rejected": {"from": "gpt", "value": form.prefill + rejected},
    }


def _llamafactory_kto(messages: Sequence[Message], text: str, label: bool, form: PromptForm) -> Row:
    row = _conversation(messages)
    row["conversations"].append({"from": "gpt", "value": form.prefill + text})
    return {**row, "kto_tag": label}


PREFERENCES: Mapping[str, PreferenceRow] = {
    "trl-dpo": _trl_dpo,
    "trl-reward": _trl_reward,
    "llamafactory-dpo": _llamafactory_dpo,
}
"""Formats of preferences between two texts."""
LABELLED: Mapping[str, LabelledRow] = {
    "trl-kto": _trl_kto,
    "trl-sft": _trl_sft,
    "llamafactory-kto": _llamafactory_kto,
}
"""Formats of single texts. Those in `ONLY_GOOD` get the good ones only."""

FEW_SHOT: FormatName = "few-shot"
"""Not a file of rows: see `few_shot.py`."""
ONLY_GOOD = frozenset({"trl-sft", FEW_SHOT})

_SHAREGPT = {"messages": "conversations", "system": "system"}
DATASET_INFO: Mapping[str, Mapping[str, object]] = {
    "llamafactory-dpo": {
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {**_SHAREGPT, "chosen": "chosen", "rejected": "rejected"},
    },
    "llamafactory-kto": {
        "formatting": "sharegpt",
        "columns": {**_SHAREGPT, "kto_tag": "kto_tag"},
    },
}
"""What dataset_info.json of LLaMA-Factory contains about a file, without its name."""
