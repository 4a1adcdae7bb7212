"""Hints for mistakes in a job file: the key or the value that was probably meant."""

import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from batchgen.jobfile.merge import SYNONYMS
from batchgen.jobfile.messages.expected_types import Expected, all_keys, expected_at, section_fields
from batchgen.jobfile.tree import KeyPath, dotted_key, scalar_text

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%")
_END_TOKENS = (
    "Leave it out: the model's end tokens are always used. Use decoding.stop_strings for text."
)
_OTHER_NAMES: Mapping[str, str] = {
    "do_sample": "Leave it out: sampling is on when decoding.temperature is above 0.",
    "seed": "Use run.seed.",
    "max_length": "Use decoding.max_new_tokens for new tokens, model.max_model_len for prompt and answer.",
    "stop_sequences": "Use decoding.stop_strings.",
    "stop_token_ids": _END_TOKENS,
    "eos_token_id": _END_TOKENS,
    "presence_penalty": "Use decoding.repetition_penalty.",
    "frequency_penalty": "Use decoding.repetition_penalty.",
    "best_of": "Use decoding.num_return_sequences.",
    "batch_size": "Use batching.max_rows.",
    "max_batch_size": "Use batching.max_rows.",
    "max_batch_tokens": "Use batching.max_tokens.",
    "max_num_seqs": "Use batching.max_rows.",
    "model_name": "Use model.path.",
    "model_id": "Use model.path.",
    "model_name_or_path": "Use model.path.",
    "pretrained_model_name_or_path": "Use model.path.",
    "torch_dtype": "Use model.dtype.",
    "device_map": "Use model.device.",
    "prompt_template": "Use prompt.user.",
    "template": "Use prompt.user.",
    "system_prompt": "Use prompt.system.",
    "system_message": "Use prompt.system.",
    "user_prompt": "Use prompt.user.",
    "data": "Use input.path.",
    "dataset": "Use input.path.",
    "input_file": "Use input.path.",
    "output_dir": "Use output.path.",
    "output_file": "Use output.path, which is a folder.",
    "eval": "Use evaluate.",
    "evaluation": "Use evaluate.",
    "num_samples": "Use input.sample for rows, decoding.num_return_sequences for answers.",
}


def unknown_key_hint(path: KeyPath) -> str:
    """The key that was probably meant by one that does not exist."""
    key = str(path[-1])
    known = _section_keys(path)
    return (
        _OTHER_NAMES.get(key)
        or _elsewhere(key)
        or _dotted_key(key)
        or _near(key, known)
        or f"Use one of {', '.join(known)}."
    )


def wrong_value_hint(expected: Expected, value: object, *, in_list: bool) -> str:
    """How to write the value that was probably meant; `in_list`: it is an item of a list."""
    if expected.section is not None:
        return f"Write its keys on lines beneath: {', '.join(section_fields(expected.section))}."
    if expected.tagged:
        return f"Use one of {', '.join(expected.tagged)}."
    if value == "":
        return "Write a text, or remove the item." if in_list else "Leave the key out."
    if isinstance(value, str):
        return _wrong_text_hint(expected, value)
    return _list_hint(expected, value) or _wrong_number_hint(expected, value)


def _list_hint(expected: Expected, value: object) -> str:
    """For a mapping, a number or a boolean where only a list was expected."""
    if [member.kind for member in expected.members] != [tuple] or isinstance(value, Sequence):
        return ""
    if isinstance(value, Mapping):
        return "Write a list: begin each item with a dash."
    item = expected.item
    if item is not None and item.tagged:
        return f"Write a list of types, such as [{next(iter(item.tagged))}]."
    return "Write a list: one item in square brackets, or several."


def _wrong_number_hint(expected: Expected, value: object) -> str:
    """For a number or boolean where text was expected, and for 4.0 where 4 was."""
    kinds = [member.kind for member in expected.members]
    if not isinstance(value, int | float) or not math.isfinite(value):
        return ""
    if int not in kinds and (expected.takes_text or expected.words):
        return f"Quote it: '{scalar_text(value)}'."
    if int in kinds and not isinstance(value, int) and value.is_integer():
        return f"Write {int(value)}."
    return ""


def _section_keys(path: KeyPath) -> list[str]:
    """The valid keys of the section that a key is in."""
    outer = expected_at(path[:-1])
    known = list(section_fields(outer.section)) if outer and outer.section else []
    if len(path) == 1:
        known += ("extends", "vars", "profiles", "matrix")  # keys of the loader
    return [*known, *SYNONYMS] if path[0] == "decoding" else known


def _elsewhere(key: str) -> str:
    """For a key that another section has."""
    if key in SYNONYMS and key != "n":
        return f"Did you mean decoding.{key}?"
    found = next((path for path in all_keys() if path[-1] == key), None)
    return f"Did you mean {dotted_key(found)}?" if found is not None else ""


def _dotted_key(key: str) -> str:
    first, dot, rest = key.partition(".")
    if not dot or expected_at((first, *rest.split("."))) is None:
        return ""
    return f"Write {rest} on a line of its own beneath {first}:."


def _near(key: str, known: Sequence[str]) -> str:
    if near := get_close_matches(key, known, 1):
        return f"Did you mean {near[0]}?"
    everywhere = {str(path[-1]): dotted_key(path) for path in all_keys()}
    near = get_close_matches(key, everywhere, 1, cutoff=0.8)
    return f"Did you mean {everywhere[near[0]]}?" if near else ""


def _wrong_text_hint(expected: Expected, text: str) -> str:
    kinds = [member.kind for member in expected.members]
    hint = ""
    if bool in kinds and text.lower() in _YES + _NO:
        hint = "Write true." if text.lower() in _YES else "Write false."
    elif _OTHER_WORDS.get(text.lower()) in expected.words:
        hint = f"Did you mean {_OTHER_WORDS[text.lower()]}?"
    elif near := get_close_matches(text, expected.words, 1):
        hint = f"Did you mean {near[0]}?"
    elif {int, float} & set(kinds) and re.fullmatch(r"[-+0-9_,.]{1,20}", text):
        digits = re.sub("[_,]", "", text).lstrip("0") or "0"
        hint = f"Write {digits}, without quotes, separators or leading zeros."
    elif float in kinds and (share := _PERCENT.fullmatch(text)):
        hint = f"Write {float(share[1]) / 100:g}."
    elif tuple in kinds and len(text) <= 40:
        hint = f"Write a list: [{text}]."
    return hint


_OTHER_WORDS = {"fp32": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}
_YES = ("yes", "y", "on", "true")
_NO = ("no", "n", "off", "false")
