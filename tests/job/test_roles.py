"""The role of each key, by the annotations of the sections."""

from collections.abc import Callable
from pathlib import Path

from batchgen.job.roles import roles, settings_of
from batchgen.jobfile.load import load_job
from batchgen.section import Role

Write = Callable[..., Path]

NOT_GENERATION = {
    Role.CONTENT: """
        input.path input.format prompt.file prompt.chat_template model.path model.adapter model.adapter_revision model.revision model.tokenizer
        model.served_name
        redact.secret
    """,
    Role.EVALUATION: """
        evaluate.reference evaluate.cluster evaluate.reasoning evaluate.slices evaluate.metrics evaluate.judges
        evaluate.ci.level evaluate.ci.bootstrap evaluate.ci.seed
    """,
    Role.OPERATIONAL: """
        version name description input.role model.device model.trust_remote_code model.base_url model.api_key_env
        model.engine_args model.price.input model.price.output model.tensor_parallel
        batching.max_rows batching.max_tokens batching.sort batching.part_rows batching.memory_fraction
        output.path output.publish output.report output.upload output.upload_parts evaluate.gates
        run.workers run.max_error_rate run.max_error_count run.max_runtime run.max_total_tokens
    """,
    Role.PUBLICATION: """
        output.layout output.keep_columns output.store_prompt output.compression output.prefix output.file_mode
        output.parse output.choice_probabilities
    """,
}


def test_only_these_keys_may_change_when_a_run_resumes() -> None:
    """A new key affects answers unless its annotation has another role; then it must be listed here too."""
    for role, expected in NOT_GENERATION.items():
        assert {key for key, one in roles().items() if one == role} == set(expected.split())


def test_a_key_without_a_role_affects_answers() -> None:
    generation = {key for key, role in roles().items() if role == Role.GENERATION}
    assert {"run.seed", "decoding.temperature", "redact.replacement", "prompt.user"} <= generation


def test_settings_of_a_role_are_nested_plain_values(write: Write) -> None:
    job = load_job(write("decoding: {stop: [x], top_p: 0.5, temperature: 1}\nrun: {seed: 3}\n")).job
    chosen = settings_of(job, Role.GENERATION)
    assert chosen["decoding"]["stop_strings"] == ["x"]
    assert chosen["run"] == {"seed": 3}
    assert "name" not in chosen
    assert "batching" not in chosen
    assert settings_of(job, Role.CONTENT)["model"]["path"] == "demo:smollm2-135m"
    operational = settings_of(job, Role.OPERATIONAL)
    assert operational["run"] == {
        "workers": "auto",
        "max_error_rate": 0.01,
        "max_error_count": None,
        "max_runtime": None,
        "max_total_tokens": None,
    }
