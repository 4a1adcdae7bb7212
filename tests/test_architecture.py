"""The architecture, held by tests: layers, light imports, public names, sizes of files and folders, unique names."""

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import batchgen

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "batchgen"
HEAVY = ("torch", "transformers")
LONGEST_FILE = 320
FULLEST_FOLDER = 15
LISTS_OF_MEMBERS = {PACKAGE / "metrics", PACKAGE / "cli"}
"""Folders that may have any number of files: one for each metric, one for each command."""


def modules_after(code: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has after running `code`."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.splitlines()[-1].split())


def test_imports_point_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        pytest.param("import batchgen", (*HEAVY, "polars", "pyarrow", "pydantic"), id="package"),
        pytest.param(
            "from click.testing import CliRunner; from batchgen.cli import cli; "
            "assert CliRunner().invoke(cli, ['--help']).exit_code == 0",
            (*HEAVY, "polars", "pyarrow", "pydantic"),
            id="help",
        ),
        pytest.param(
            "from click.testing import CliRunner; from batchgen.cli import cli; "
            "done = CliRunner().invoke(cli, ['validate', 'jobs/quickstart.yaml'], standalone_mode=False); "
            "assert 'ok' in done.output, done.output",
            HEAVY,
            id="validate",
        ),
        pytest.param(
            "from click.testing import CliRunner; from batchgen.cli import cli; "
            "assert 'draft-07' in CliRunner().invoke(cli, ['schema']).output",
            (*HEAVY, "polars", "pyarrow"),
            id="schema",
        ),
        pytest.param("import batchgen.planning.batches", HEAVY, id="planning"),
    ],
)
def test_light_modules_import_no_heavy_ones(code: str, absent: tuple[str, ...]) -> None:
    assert modules_after(code).isdisjoint(absent)


def test_the_stub_matches_the_public_names() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    typed = {
        (alias.asname, node.module)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    names: tuple[str, ...] = vars(batchgen)["__all__"]
    homes = {name: getattr(batchgen, name) for name in names}
    assert {name for name, _ in typed} == set(homes)
    for name, value in homes.items():
        assert value.__name__ == name
        assert (name, value.__module__) in typed


def test_the_function_run_is_not_shadowed_by_the_package_run() -> None:
    script = "import batchgen, batchgen.run.work; assert batchgen.run.__module__ == 'batchgen.run.in_memory.python_api'"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


BETWEEN_FORKS = {PACKAGE / "engines" / "torch" / "continuous" / "workers.py"}
"""Only a process and its own fork can write to the pipe between them."""


def test_nothing_is_ever_unpickled() -> None:
    """Saved state is SQLite, JSON and Parquet: write access to it does not allow code execution."""
    banned = {"pickle", "dill", "shelve", "marshal", "joblib", "cloudpickle"}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {
            name.partition(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        if path not in BETWEEN_FORKS:
            assert not imported & banned, path
        assert "torch.load(" not in path.read_text(), path


def test_no_file_is_too_long() -> None:
    lengths = {p.relative_to(ROOT): p.read_text().count("\n") for p in PACKAGE.rglob("*.py")}
    assert {p: n for p, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_folder_is_too_full() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    counts = Counter(path.parent for path in files if path.parent not in LISTS_OF_MEMBERS)
    assert {str(p): n for p, n in counts.items() if n > FULLEST_FOLDER} == {}


def test_no_file_name_is_used_twice() -> None:
    """Files under cli/ are named after commands."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        if path.name != "__init__.py" and not path.is_relative_to(PACKAGE / "cli"):
            folders[path.name].append(str(path.parent.relative_to(ROOT)))
    assert {name: places for name, places in folders.items() if len(places) > 1} == {}


def test_no_public_class_name_is_used_twice() -> None:
    modules: dict[str, list[str]] = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].append(str(path.relative_to(ROOT)))
    assert {name: places for name, places in modules.items() if len(places) > 1} == {}


def test_only_known_entries_at_the_top() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    tops = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    plain = {top for top in tops if not top.startswith(".")}
    assert plain <= {"batchgen", "jobs", "tests", "pyproject.toml", "README.md"}
