"""What each key of a job decides: the answers, their scores, or only how the work is done.

    generation    the value itself decides answers: a changed one refuses to resume
    content       what the value leads to decides them (a file, a model, a secret's hash), not the value
    evaluation    decides scores: a changed one only scores again
    operational   decides nothing that is stored in an answer: may change between two starts of a run

Every key is listed; a new one has to say which it is (`tests/job/test_roles.py`). Knows nothing of fingerprints.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from batchgen.job.spec import Job

KeyRole = Literal["generation", "content", "evaluation", "operational"]

_KEYS: Mapping[KeyRole, str] = {
    "generation": """
        input.columns.id input.columns.prompt input.columns.messages
        input.filter input.limit input.sample input.on_empty_prompt
        input.csv.delimiter input.csv.encoding input.csv.quote input.csv.null_values
        prompt.system prompt.user prompt.messages prompt.prefill prompt.chat_template_kwargs
        prompt.max_input_tokens prompt.on_overflow prompt.truncate
        model.engine model.dtype model.attn_implementation model.max_model_len
        decoding.preset decoding.max_new_tokens decoding.min_new_tokens decoding.temperature decoding.top_p
        decoding.top_k decoding.min_p decoding.repetition_penalty decoding.no_repeat_ngram_size decoding.num_beams
        decoding.length_penalty decoding.stop_strings decoding.num_return_sequences decoding.logprobs decoding.columns
        decoding.generation_kwargs
        output.keep_columns output.store_prompt output.reasoning output.prefix
        redact.entities redact.apply_to redact.with redact.columns
        run.seed
    """,
    "content": """
        input.path input.format prompt.file prompt.chat_template model.path model.revision model.tokenizer
        redact.secret
    """,
    "evaluation": """
        evaluate.reference evaluate.cluster evaluate.reasoning evaluate.slices evaluate.metrics evaluate.judges
        evaluate.ci.level evaluate.ci.bootstrap evaluate.ci.seed
    """,
    "operational": """
        version name description
        model.device model.trust_remote_code
        batching.max_rows batching.max_tokens batching.sort batching.part_rows batching.memory_fraction
        output.path output.layout output.publish output.compression output.file_mode
        evaluate.gates
        run.workers run.max_errors run.max_runtime
    """,
}

ROLES: Mapping[str, KeyRole] = {key: role for role, keys in _KEYS.items() for key in keys.split()}
"""The role of each key, by its dotted name."""


def keys(section: type[BaseModel] = Job, outer: str = "") -> Iterator[str]:
    """The dotted names of all keys that have a value of their own."""
    for name, field in section.model_fields.items():
        here = f"{outer}{field.alias or name}"
        alternatives = () if get_origin(field.annotation) is tuple else get_args(field.annotation)
        sections = [t for t in (field.annotation, *alternatives) if _is_section(t)]
        if sections:
            yield from keys(sections[0], f"{here}.")
        else:
            yield here


def settings_of(job: Job, role: KeyRole) -> dict[str, Any]:
    """The settings of one role, as nested plain values: section, key, value."""
    return _of(job, role, "")


def _of(section: BaseModel, role: KeyRole, outer: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), field.alias or name
        if isinstance(value, BaseModel):
            if inner := _of(value, role, f"{outer}{key}."):
                found[key] = inner
        elif ROLES.get(f"{outer}{key}") == role:
            found[key] = _plain(value)
    return found


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _plain(value: Any) -> Any:  # noqa: ANN401  (any value of a job)
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
