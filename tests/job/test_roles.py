"""Every key of a job says what it decides."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from batchgen.job import roles
from batchgen.job.roles import ROLES, keys, settings_of
from batchgen.jobfile.load import load_job

Write = Callable[..., Path]


def test_every_key_has_a_role_and_every_role_is_a_key_s() -> None:
    """A key that is new in spec.py fails here: list it in batchgen/job/roles.py under what it decides."""
    known = set(keys())
    assert known - ROLES.keys() == set(), "say in batchgen/job/roles.py what these keys decide"
    assert ROLES.keys() - known == set(), "these keys of batchgen/job/roles.py are gone"


def test_no_key_has_two_roles() -> None:
    listed = Counter(key for text in roles._KEYS.values() for key in text.split())
    assert [key for key, times in listed.items() if times > 1] == []


def test_settings_of_a_role_are_nested_plain_values(write: Write) -> None:
    job = load_job(write("decoding: {stop: [x], top_p: 0.5, temperature: 1}\nrun: {seed: 3}\n")).job
    chosen = settings_of(job, "generation")
    assert chosen["decoding"]["stop_strings"] == ["x"]
    assert chosen["run"] == {"seed": 3}
    assert "name" not in chosen
    assert "batching" not in chosen
    assert settings_of(job, "content")["model"]["path"] == "demo:smollm2-135m"
    operational = settings_of(job, "operational")
    assert operational["run"] == {"workers": "auto", "max_errors": 0.01, "max_runtime": None}
