import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen.fingerprint import looks_secret
from batchgen.jobfile.load import load_job

Write = Callable[..., Path]
DATE = dt.date(2026, 3, 9)

# Any text that YAML can represent: no NUL and no lone surrogate, but every line break and special first character.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    | st.sampled_from("\n :#'\"$&"),
    min_size=1,
    max_size=20,
) | st.sampled_from(
    [
        "no",
        "1e-5",
        "0o17",
        "017",
        "null",
        "~",
        "12:30",
        "<<",
        "=",
        "${name}",
        "$${x",
        " a",
        "a ",
        "\n",
    ]
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)
FREE = st.dictionaries(
    TEXTS.map(lambda key: "k" + key),
    st.recursive(
        NUMBERS | st.booleans() | TEXTS,
        lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXTS, v, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
).filter(lambda free: not any(looks_secret(key) for key in free))
JOBS = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True),
        "input": st.fixed_dictionaries(
            {"path": st.just("data.csv")},
            optional={
                "filter": TEXTS,
                "limit": st.integers(1, 99),
                "columns": st.just({"id": "k"}),
            },
        ),
        "prompt": st.fixed_dictionaries(
            {"user": TEXTS}, optional={"system": TEXTS, "chat_template_kwargs": FREE}
        )
        | st.fixed_dictionaries(
            {
                "messages": st.lists(
                    st.fixed_dictionaries({"role": st.just("user"), "content": TEXTS}),
                    min_size=1,
                    max_size=3,
                )
            }
        ),
        "model": st.just("demo:x"),
        "decoding": st.fixed_dictionaries(
            {"temperature": st.floats(0.001, 10)},
            optional={
                "top_p": st.floats(0.0001, 1),
                "stop_strings": st.lists(TEXTS, max_size=3),
                "generation_kwargs": FREE,
            },
        ),
        "output": st.just({"path": "out"}),
        "description": TEXTS,
    }
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JOBS)
def test_a_dumped_job_loads_as_the_same_job(tmp_path: Path, job: dict[str, Any]) -> None:
    """The first job's values pass through YAML twice, its texts through `${...}` twice."""
    path = tmp_path / "job.yaml"
    written = yaml.dump(escaped(job), Dumper=Quoting, allow_unicode=True)
    path.write_text(written, "utf-8", newline="")
    loaded = load_job(path)
    assert loaded.job.description == job["description"]
    again = tmp_path / "again.yaml"
    again.write_text(loaded.dump(), "utf-8", newline="")
    assert load_job(again).job == loaded.job


class Quoting(yaml.SafeDumper):
    """Writes every text in double quotes, so that the first reading cannot go wrong."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def escaped(job: dict[str, Any]) -> dict[str, Any]:
    """The job as a user would write it: with `$${` for `${`, except under prompt."""
    return {key: value if key == "prompt" else _escaped(value) for key, value in job.items()}


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _escaped(inner) for key, inner in value.items()}
    return value


def test_every_value_has_its_origin(write: Write, tmp_path: Path) -> None:
    write(name="base.yaml", text="run: {seed: 3}\n")
    path = write(
        "extends: base.yaml\n"
        'decoding: {stop: ["\\n\\n", x], temperature: 0.5, generation_kwargs: {a: {b: 1}}}\n'
        "profiles: {smoke: {input: {limit: 2}, decoding: {generation_kwargs: {c: 2}}}}\n"
    )
    sets = ["prompt.user=one\n\n  two: {{ question }}\n", "run.max_error_rate=0"]
    lines = load_job(path, profile="smoke", overrides=sets, date=DATE).dump().splitlines()
    assert lines[0] == f"# demo, resolved for 2026-03-09 from {path}"
    text = "\n".join(lines)
    for shown in (
        "version: 1  # job\n",
        f"  path: {tmp_path}/data.csv  # job\n",
        "  limit: 2  # profile smoke\n",
        "  user: |  # --set\n    one\n\n      two: {{ question }}\n  messages: null  # default\n",
        '  stop_strings: ["\\n\\n", x]  # job\n',
        "  temperature: 0.5  # job\n",
        "  generation_kwargs:  # job, profile smoke\n    a:\n      b: 1\n    c: 2\nbatching:\n",
        "  part_rows: 2048  # default\n",
        "  seed: 3  # base.yaml\n",
    ):
        assert shown in text
    assert "  max_error_rate: 0.0  # --set" in lines
    assert lines[-1].startswith("  max_total_tokens: ")


def test_secrets_are_masked(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHGEN_TEST_KEY", "s3cret")
    path = write(
        "vars: {key: '${env:BATCHGEN_TEST_KEY}'}\n"
        "decoding:\n"
        "  generation_kwargs:\n"
        "    api_key: ${env:BATCHGEN_TEST_KEY}\n"
        "    hub-token: written here\n"
        "    password: ${vars.key}\n"
        "    eos_token: </s>\n"
        "    max_new_token: 7\n"
        "    nested: {secret: [a, {deep: b}], credentials: {user: c, port: 1}, plain: d}\n"
    )
    loaded = load_job(path)
    assert loaded.job.decoding.generation_kwargs["api_key"] == "s3cret"
    dumped = loaded.dump()
    assert "s3cret" not in dumped
    assert "written here" not in dumped
    assert yaml.safe_load(dumped)["decoding"]["generation_kwargs"] == {
        "api_key": "${env:BATCHGEN_TEST_KEY}",
        "hub-token": "***",
        "password": "***",
        "eos_token": "</s>",
        "max_new_token": 7,
        "nested": {
            "secret": ["***", {"deep": "***"}],
            "credentials": {"user": "***", "port": 1},
            "plain": "d",
        },
    }


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("api_key", True),
        ("apikey", True),
        ("API_KEY", True),
        ("hf_token", True),
        ("token", True),
        ("tokens", True),
        ("client-secret", True),
        ("password", True),
        ("bos_token", False),
        ("max_new_tokens_per_row", False),
        ("eos_token_id", False),
        ("secretary", False),
        ("key", False),
    ],
)
def test_which_keys_are_secrets(key: str, secret: bool) -> None:
    assert looks_secret(key) is secret
