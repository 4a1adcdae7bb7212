"""What differs between the settings of two runs is printed first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import batchgen
from batchgen.cli import cli
from batchgen.jobfile.load import load_job
from batchgen.run.run import run

MakeJob = Callable[..., Path]
ROWS = [{"id": str(n), "q": f"ask {n}", "gold": f"ask {n}"} for n in range(3)]
FUNCTION = "def short(answer):\n    return len(answer.response) < 7\n"


def shown(base: Path, new: Path) -> list[str]:
    done = CliRunner().invoke(cli, ["compare", str(base), str(new)], standalone_mode=False)
    assert done.exception is None
    return done.stdout.splitlines()


@pytest.fixture
def ran(make_job: MakeJob, tmp_path: Path) -> Callable[..., Path]:
    """The folder of a run with some sections of its job changed."""
    (tmp_path / "mine.py").write_text(FUNCTION)

    def made(name: str, rows: Any = ROWS, **sections: Any) -> Path:
        metrics = ["exact", {"type": "python", "file": "mine.py", "function": "short"}]
        evaluate = {"reference": "gold", "metrics": metrics} | sections.pop("evaluate", {})
        return run(
            load_job(make_job(rows, evaluate=evaluate, output={"path": name}, **sections))
        ).folder.path

    return made


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"decoding": {"max_new_tokens": 9}}, "  decoding.max_new_tokens: 256 -> 9"),
        ({"decoding": {"temperature": 0.5}}, "  decoding.temperature: 0.0 -> 0.5"),
        ({"prompt": {"user": "Now {{ q }}"}}, '  prompt.user: "{{ q }}" -> "Now {{ q }}"'),
        ({"run": {"seed": 5}}, "  run.seed: 0 -> 5"),
        ({"evaluate": {"reference": "q"}}, '  evaluate.references: ["gold"] -> ["q"]'),
        ({"evaluate": {"metrics": ["exact"]}}, '  evaluate.metrics: ["exact", "python"] -> ["exact"]'),
        ({"rows": [*ROWS, ROWS[0] | {"id": "9"}]}, "  input_files: "),
    ],
)  # fmt: skip
def test_a_changed_setting_is_printed_with_both_values(
    ran: Callable[..., Path], changed: dict[str, Any], line: str
) -> None:
    base = ran("base")
    lines = shown(base, ran("new", **changed))
    assert lines[0] == "settings: 1 difference"
    assert lines[1].startswith(line)


def test_equal_settings_are_stated(ran: Callable[..., Path]) -> None:
    assert shown(ran("base"), ran("new"))[0] == "settings: no difference"


def test_a_changed_function_is_a_changed_signature(
    ran: Callable[..., Path], tmp_path: Path
) -> None:
    base = ran("base")
    (tmp_path / "mine.py").write_text(FUNCTION.replace("7", "8"))
    lines = shown(base, tmp_path / ran("new").name)
    assert lines[0] == "settings: 1 difference"
    assert lines[1].startswith("  signatures.python: ")


def test_scored_tables_have_settings_of_their_evaluation_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text('{"id": 1, "response": "a", "gold": "a"}\n')
        file = tmp_path / f"{name}.jsonl"
        batchgen.score(file, ["exact"], reference="gold", output=tmp_path / name)
    lines = shown(tmp_path / "one", tmp_path / "two")
    assert lines[1] == '  scored_file: "one.jsonl" -> "two.jsonl"'
    assert "only settings of the evaluation are compared" in lines[2]


def test_the_python_api_has_the_same_settings(ran: Callable[..., Path]) -> None:
    found = batchgen.compare(ran("base"), ran("new", decoding={"max_new_tokens": 9}))
    (one,) = found.changed_settings
    assert (one.key, one.old, one.new) == ("decoding.max_new_tokens", "256", "9")
    assert found.plain()["changed_settings"] == [
        {"key": "decoding.max_new_tokens", "old": "256", "new": "9"}
    ]
