"""Which changes of a job a resumed run accepts or rejects, and which rows a change does not affect.

Every key of a job is changed once: `test_every_key_has_one_change` fails for a new one.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import StateError
from batchgen.fingerprint import differences
from batchgen.job.roles import roles
from batchgen.jobfile.load import load_job
from batchgen.run.plan import plan
from batchgen.run.run import run
from batchgen.run.setup import set_up
from batchgen.section import Role

MakeJob = Callable[..., Path]
BASE: dict[str, Any] = {
    "decoding": {"temperature": 1.0, "stop": ["x"]},
    "prompt": {"on_overflow": "truncate_left"},
}
"""Other keys that these keys need to have an effect."""

GENERATION: dict[str, list[str]] = {
    "input.columns.id": ["input.columns.id=id"],
    "input.columns.prompt": ["input.columns.prompt=q", "prompt.user=null"],
    "input.columns.messages": ["input.columns.messages=m", "prompt.user=null"],
    "input.columns.turns": ["input.columns.turns=q", "prompt.user=null", "prompt.on_overflow=skip"],
    "input.columns.per_turn": [
        *("input.columns={messages: m, per_turn: {gold: q}}", "prompt.replay=recorded"),
        *("prompt.user=null", "prompt.on_overflow=skip"),
    ],
    "input.filter": ["input.filter=\"q != 'no'\""],
    "input.limit": ["input.limit=2"],
    "input.sample": ["input.sample=2"],
    "input.cross": ["input.cross={lang: [en, zh]}"],
    "input.on_empty_prompt": ["input.on_empty_prompt=skip"],
    "input.csv.delimiter": ["input.csv.delimiter=';'"],
    "input.csv.encoding": ["input.csv.encoding=latin-1"],
    "input.csv.quote": ['input.csv.quote="\'"'],
    "input.csv.null_values": ["input.csv.null_values=[NA]"],
    "input.excel.sheet": ["input.excel.sheet=Second"],
    "prompt.system": ["prompt.system=Be short."],
    "prompt.user": ["prompt.user='{{ q }}?'"],
    "prompt.messages": [
        "prompt.messages=[{role: user, content: '{{ q }}'}]",
        "prompt.user=null",
    ],
    "prompt.turns": ["prompt.turns=['{{ q }}']", "prompt.user=null", "prompt.on_overflow=skip"],
    "prompt.replay": [
        *("prompt.replay=recorded", "input.columns.messages=m"),
        *("prompt.user=null", "prompt.on_overflow=skip"),
    ],
    "prompt.prefill": ["prompt.prefill=So"],
    "prompt.chat_template_kwargs": ["prompt.chat_template_kwargs={thinking: false}"],
    "prompt.max_input_tokens": ["prompt.max_input_tokens=99"],
    "prompt.on_overflow": ["prompt.on_overflow=skip"],
    "prompt.truncate_column": ["prompt.truncate_column=q"],
    "model.dtype": ["model.dtype=bfloat16"],
    "model.attn_implementation": ["model.attn_implementation=eager"],
    "model.max_model_len": ["model.max_model_len=999"],
    "decoding.max_new_tokens": ["decoding.max_new_tokens=9"],
    "decoding.min_new_tokens": ["decoding.min_new_tokens=2"],
    "decoding.temperature": ["decoding.temperature=0.5"],
    "decoding.top_p": ["decoding.top_p=0.5"],
    "decoding.top_k": ["decoding.top_k=5"],
    "decoding.min_p": ["decoding.min_p=0.5"],
    "decoding.repetition_penalty": ["decoding.repetition_penalty=1.5"],
    "decoding.no_repeat_ngram_size": ["decoding.no_repeat_ngram_size=2"],
    "decoding.num_beams": ["decoding.num_beams=2", "decoding.temperature=null"],
    "decoding.length_penalty": [
        "decoding.length_penalty=2.0",
        "decoding.num_beams=2",
        "decoding.temperature=null",
    ],
    "decoding.stop_strings": ["decoding.stop_strings=[y]"],
    "decoding.num_return_sequences": ["decoding.num_return_sequences=2"],
    "decoding.logprobs": ["decoding.logprobs=true"],
    "decoding.columns": ["decoding.columns={top_k: k}"],
    "decoding.generation_kwargs": ["decoding.generation_kwargs={typical_p: 0.9}"],
    **{
        f"decoding.response_format.{key}": [
            f"decoding.response_format={{{form}}}",
            "decoding.stop_strings=null",
        ]
        for key, form in {
            "json_schema": "json_schema: {type: object}",
            "json_object": "json_object: true",
            "regex": "regex: a+",
            "choice": "choice: [a, b]",
            "grammar": "grammar: 'start: \"a\"'",
            "columns": "columns: {regex: q}",
            "after": "regex: a+, after: '</think>'",
        }.items()
    },
    "output.reasoning": ["output.reasoning=inline"],
    "redact.entities": ["redact.entities=[email]"],
    "redact.apply_to": ["redact.apply_to=[response]"],
    "redact.replacement": ["redact.replacement=mask"],
    "redact.columns": ["redact.columns=[q]"],
    "run.seed": ["run.seed=1"],
}
PUBLICATION: dict[str, list[str]] = {
    "output.layout": ["output.layout=parts"],
    "output.keep_columns": ["output.keep_columns=none"],
    "output.store_prompt": ["output.store_prompt=false"],
    "output.compression": ["output.compression=snappy"],
    "output.prefix": ["output.prefix=bg_"],
    "output.file_mode": ["output.file_mode='0640'"],
}
"""What such a change does to saved answers: test_publish_again.py."""
OPERATIONAL: dict[str, list[str]] = {
    "name": ["name=another"],
    "description": ["description=for people"],
    "input.role": ["input.role=evaluation"],
    "model.device": ["model.device=cpu"],
    "model.trust_remote_code": ["model.trust_remote_code=true"],
    "model.base_url": ["model.base_url=http://localhost:8000/v1"],
    "model.api_key_env": ["model.api_key_env=SOME_KEY"],
    "model.price.input": ["model.price.input=2.0"],
    "model.price.output": ["model.price.output=2.0"],
    "model.tensor_parallel": ["model.tensor_parallel=2"],
    "model.engine_args": ["model.engine_args={give_up: 1h}"],
    "batching.max_rows": ["batching.max_rows=1"],
    "batching.max_tokens": ["batching.max_tokens=9999"],
    "batching.sort": ["batching.sort=none"],
    "batching.part_rows": ["batching.part_rows=7"],
    "batching.memory_fraction": ["batching.memory_fraction=0.5"],
    "output.publish": ["output.publish=gated"],
    "output.report": ["evaluate.metrics=[length]", "output.report=true"],
    "evaluate.gates": [
        "evaluate.metrics=[length]",
        "evaluate.gates=[{metric: length_characters, min: 1}]",
    ],
    "run.workers": ["run.workers=2"],
    "run.max_error_rate": ["run.max_error_rate=0.5"],
    "run.max_error_count": ["run.max_error_count=9"],
    "run.max_runtime": ["run.max_runtime=9h"],
    "run.max_total_tokens": ["run.max_total_tokens=999999"],
}
OTHERS = PUBLICATION | OPERATIONAL
RESOLVED = {
    "model.max_model_len": "model.context_length",
    **dict.fromkeys(
        [key for key in GENERATION if key.startswith("decoding.response_format")],
        "decoding.response_format",
    ),
}
"""Keys that an error names by their resolved form."""
ELSEWHERE = {
    "version": "there is only one",
    "model.engine": "echo is the only one without a model",
    "output.path": "names another run",
    "output.choice_probabilities": "needs labels, which decide answers: test_choice_probabilities.py",
    "output.upload": "needs a bucket: test_bucket_upload.py",
    "output.upload_parts": "needs a bucket: test_bucket_parts.py",
    "output.parse": "needs a JSON Schema, which decides answers: test_parsed_answers.py",
    "decoding.preset": "without a model there is nothing to take: test_a_preset_counts_by_its_resolved_values",
}
ROWS = [
    {"id": f"r{n}", "q": "a" * n, "k": n, "m": [{"role": "user", "content": "x"}]}
    for n in range(1, 6)
]


def after(looks: int) -> Callable[[], bool]:
    """A stop request after a number of checks."""
    left = iter(range(looks))
    return lambda: next(left, None) is None


@pytest.fixture
def job(make_job: MakeJob) -> Path:
    return make_job(ROWS, batching={"part_rows": 2}, **BASE)


def test_every_key_has_one_change() -> None:
    """A new key of the job fails this test: add a change of it to one of the tables."""
    tables = {
        Role.GENERATION: GENERATION,
        Role.PUBLICATION: PUBLICATION,
        Role.OPERATIONAL: OPERATIONAL,
    }
    for role, table in tables.items():
        named = {key for key, value in roles().items() if value == role}
        assert named - table.keys() - ELSEWHERE.keys() == set()
        assert table.keys() - named == set()


@pytest.mark.parametrize("key", GENERATION)
def test_a_changed_key_that_decides_answers_is_rejected_and_named(job: Path, key: str) -> None:
    run(load_job(job), stop=after(3))
    with pytest.raises(StateError, match="made by another job") as caught:
        run(load_job(job, overrides=GENERATION[key]))
    named = RESOLVED.get(key, key)
    assert any(f"{named}{after}" in caught.value.message for after in (" was ", "."))


@pytest.mark.parametrize("key", OTHERS)
def test_a_changed_key_that_does_not_decide_answers_is_accepted(job: Path, key: str) -> None:
    stopped = run(load_job(job), stop=after(3))
    resumed = run(load_job(job, overrides=OTHERS[key]))
    assert resumed.run_id == stopped.run_id
    assert resumed.counts.rows == len(ROWS)
    assert plan(load_job(job, overrides=OTHERS[key])).output.refusal == ""


def test_a_refusal_does_not_name_keys_that_only_decide_publishing(job: Path) -> None:
    run(load_job(job), stop=after(3))
    sets = [one for sets in PUBLICATION.values() for one in sets]
    with pytest.raises(StateError) as caught:
        run(load_job(job, overrides=[*sets, "run.seed=1"]))
    assert caught.value.message.endswith("was made by another job: run.seed was 0, is 1")


@pytest.mark.parametrize("key", GENERATION | PUBLICATION)
def test_a_row_s_fingerprint_ignores_selection_and_output_columns(job: Path, key: str) -> None:
    sets = (GENERATION | PUBLICATION)[key]
    before, now = (
        set_up(load_job(job, overrides=s)).request_builder.row_settings_fingerprint
        for s in ([], sets)
    )
    prompt_moved = "prompt.user=null" in sets
    same = (key.startswith("input.") and not prompt_moved) or key in PUBLICATION
    assert (before == now) is same


def test_a_preset_counts_by_its_resolved_values(
    job: Path, write_model: Callable[..., Path], tmp_path: Path
) -> None:
    """The model's own temperature, and the same one set by number."""
    own = {"do_sample": True, "temperature": 0.7}
    write_model(tmp_path / "tiny", {"generation_config.json": own})
    model = [
        "model={engine: echo, path: ./tiny}",
        "decoding.temperature=null",
        "decoding.max_new_tokens=9",
    ]
    settings_of_each = [
        set_up(load_job(job, overrides=[*model, one])).settings
        for one in ("decoding.preset=model", "decoding.temperature=0.7", "decoding.preset=greedy")
    ]
    assert differences(settings_of_each[0], settings_of_each[1]) == []
    assert [d.key for d in differences(settings_of_each[0], settings_of_each[2])] == [
        "decoding.temperature"
    ]


def test_the_paths_of_model_and_templates_do_not_matter(
    make_job: MakeJob, write_model: Callable[..., Path], tmp_path: Path
) -> None:
    write_model(tmp_path / "tiny")
    write_model(tmp_path / "copy")
    (tmp_path / "ask.jinja").write_text("{{ q }}")
    (tmp_path / "same.jinja").write_text("{{ q }}")
    job = make_job(
        ROWS,
        prompt={"user": None, "file": "ask.jinja"},
        model={"engine": "echo", "path": "./tiny"},
        decoding={"max_new_tokens": 9},
    )
    there = ["model.path=./copy", "prompt.file=same.jinja"]
    before, now = (set_up(load_job(job, overrides=s)).settings for s in ([], there))
    assert differences(before, now) == []
    (tmp_path / "same.jinja").write_text("{{ q }}!")
    (tmp_path / "copy" / "chat_template.jinja").write_text("{{ messages }}")
    other = set_up(load_job(job, overrides=there)).settings
    assert [d.key for d in differences(before, other)] == [
        "model.tokenizer_sha256",
        "prompt.file",
        "tokenizer.chat_template_sha256",
    ]


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ("prompt={chat_template_kwargs: {api_key: %s}}", "api_key changed"),
        ("redact={replacement: hash, secret: %s}", "redact.secret_id was "),
    ],
)
def test_an_error_message_does_not_contain_secrets(job: Path, section: str, named: str) -> None:
    first, second = "canary-0123456789", "canary-9876543210"
    stopped = run(load_job(job, overrides=[section % first]), stop=after(1))
    with pytest.raises(StateError, match=named) as caught:
        run(load_job(job, overrides=[section % second]))
    assert "canary" not in str(caught.value)
    if "redact" in section:
        assert "canary" not in stopped.folder.run.read_text()


def test_run_json_contains_the_settings_of_the_fingerprint(job: Path) -> None:
    result = run(load_job(job), stop=after(3))
    held = json.loads(result.folder.run.read_text())
    assert held["settings"] == set_up(load_job(job)).settings
