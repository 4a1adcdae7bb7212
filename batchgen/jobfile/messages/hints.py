"""The way out of a mistake in a job file: which key, or which value, was probably meant."""

import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from batchgen.jobfile.merge import SYNONYMS
from batchgen.jobfile.messages.expected_types import Expected, all_keys, expected_at, section_fields
from batchgen.jobfile.tree import KeyPath, Scalar, dotted_key

LOADER_KEYS = ("extends", "vars", "profiles")
"""Keys at the top that are used up while the file is loaded."""

_OTHER_NAMES: Mapping[str, str] = {
    "do_sample": "leave it out: sampling is on when decoding.temperature is above 0",
    "seed": "it is run.seed",
    "max_length": "decoding.max_new_tokens counts new tokens; model.max_model_len both together",
    "stop_sequences": "it is decoding.stop_strings",
    "stop_token_ids": "the model's end tokens always count; for text there is decoding.stop_strings",
    "eos_token_id": "the model's end tokens always count; another goes into decoding.generation_kwargs",
    "presence_penalty": "there is decoding.repetition_penalty",
    "frequency_penalty": "there is decoding.repetition_penalty",
    "best_of": "there is decoding.num_return_sequences",
    "batch_size": "it is batching.max_rows",
    "max_batch_size": "it is batching.max_rows",
    "max_batch_tokens": "it is batching.max_tokens",
    "max_num_seqs": "it is batching.max_rows",
    "model_name": "it is model.path",
    "model_id": "it is model.path",
    "model_name_or_path": "it is model.path",
    "pretrained_model_name_or_path": "it is model.path",
    "torch_dtype": "it is model.dtype",
    "device_map": "it is model.device",
    "prompt_template": "it is prompt.user",
    "template": "it is prompt.user",
    "system_prompt": "it is prompt.system",
    "system_message": "it is prompt.system",
    "user_prompt": "it is prompt.user",
    "data": "it is input.path",
    "dataset": "it is input.path",
    "input_file": "it is input.path",
    "output_dir": "it is output.path",
    "output_file": "it is output.path, a folder",
    "eval": "it is evaluate",
    "evaluation": "it is evaluate",
    "num_samples": "it is input.sample for rows, decoding.num_return_sequences for answers",
}
_LATER = frozenset(
    (
        "adapter",
        "api_key",
        "base_url",
        "engine_args",
        "env",
        "hub",
        "integrations",
        "max_runtime",
        "notify",
        "quantization",
        "report",
        "response_format",
        "storage_options",
        "tags",
        "workers",
    )
)


def unknown_key_hint(path: KeyPath) -> str:
    """Where a key that does not exist probably belongs, or what it was meant to be."""
    key = str(path[-1])
    known = _known_beside(path)
    return (
        _elsewhere(key)
        or _dotted_key(key)
        or _near(key, known)
        or f"known here: {', '.join(known)}"
    )


def wrong_value_hint(expected: Expected, value: object) -> str:
    """How to write what was probably meant."""
    if expected.section is not None:
        return f"write its keys on lines beneath: {', '.join(section_fields(expected.section))}"
    if value == "":
        return "leave the key out"
    if isinstance(value, str):
        return _wrong_text_hint(expected, value)
    return _wrong_number_hint(expected, value) if isinstance(value, int | float) else ""


def _wrong_number_hint(expected: Expected, value: float) -> str:
    """A number, true or false, where text was expected; or 4.0 where 4 was."""
    kinds = [member.kind for member in expected.members]
    if not math.isfinite(value):
        return ""
    if int not in kinds and (expected.takes_text or expected.words):
        return f"quote it: '{scalar_text(value)}'"
    if int in kinds and not isinstance(value, int) and value.is_integer():
        return f"write {int(value)}"
    return ""


def scalar_text(value: Scalar) -> str:
    """A value as YAML writes it, not as Python does."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return str(value)


def _known_beside(path: KeyPath) -> list[str]:
    """The keys that could stand where an unknown one stands."""
    outer = expected_at(path[:-1])
    known = (
        list(section_fields(outer.section))
        if outer is not None and outer.section is not None
        else []
    )
    if len(path) == 1:
        known += LOADER_KEYS
    return [*known, *SYNONYMS] if path[0] == "decoding" else known


def _elsewhere(key: str) -> str:
    """What other tools call so, or another section has."""
    if key in _OTHER_NAMES:
        return _OTHER_NAMES[key]
    if key in _LATER:
        return "this version of batchgen does not have it"
    if key in SYNONYMS and key != "n":
        return f"{key} belongs under decoding: decoding.{key}"
    found = next((path for path in all_keys() if path[-1] == key), None)
    if found is None:
        return ""
    return f"{key} belongs under {dotted_key(found[:-1]) or 'the top of the file'}: {dotted_key(found)}"


def _dotted_key(key: str) -> str:
    first, dot, rest = key[:200].partition(".")
    if not dot or expected_at((first, *rest.split("."))) is None:
        return ""
    return f"write {rest} on a line of its own beneath {first}:"


def _near(key: str, known: Sequence[str]) -> str:
    if len(key) > 60:
        return ""
    if near := get_close_matches(key, known, 1):
        return f"did you mean {near[0]}?"
    everywhere = {str(path[-1]): dotted_key(path) for path in all_keys()}
    near = get_close_matches(key, everywhere, 1, cutoff=0.8)
    return f"did you mean {everywhere[near[0]]}?" if near else ""


def _wrong_text_hint(expected: Expected, text: str) -> str:
    kinds = [member.kind for member in expected.members]
    hint = ""
    if bool in kinds and text.lower() in _YES + _NO:
        hint = "write true" if text.lower() in _YES else "write false"
    elif _OTHER_WORDS.get(text.lower()) in expected.words:
        hint = f"did you mean {_OTHER_WORDS[text.lower()]}?"
    elif near := get_close_matches(text[:60], expected.words, 1):
        hint = f"did you mean {near[0]}?"
    elif {int, float} & set(kinds) and re.fullmatch(r"[-+0-9_,.]{1,20}", text):
        digits = re.sub("[_,]", "", text).lstrip("0") or "0"
        hint = f"write {digits}, without quotes, separators or leading zeros"
    elif tuple in kinds and len(text) <= 40:
        hint = f"write a list: [{text}]"
    return hint


_OTHER_WORDS = {"fp32": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}
_YES = ("yes", "y", "on", "true")
_NO = ("no", "n", "off", "false")
