"""Matrices of job files: combinations, names of folders, and what is rejected, with its place and a hint."""

import json
from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from batchgen.errors import JobFileError
from batchgen.jobfile.load import load_job
from batchgen.jobfile.matrix.load_matrix import LoadedMatrix, load_matrix

Write = Callable[..., Path]
TWO = "matrix:\n  decoding.temperature: [0, 0.7]\n  run.seed: [1, 2]\n"


def matrix_of(path: Path, *options: str, **arguments: object) -> LoadedMatrix:
    loaded = load_matrix(path, options=options, **arguments)  # type: ignore[arg-type]
    assert loaded is not None
    return loaded


def settings(matrix: LoadedMatrix) -> list[tuple[object, ...]]:
    return [tuple(one.settings.values()) for one in matrix.combinations]


def test_every_combination_is_a_job_in_a_folder_of_its_own(write: Write) -> None:
    matrix = matrix_of(write(TWO))
    assert settings(matrix) == [(0, 1), (0, 2), (0.7, 1), (0.7, 2)]
    names = [one.name for one in matrix.combinations]
    assert names == [
        "temperature-0_seed-1",
        "temperature-0_seed-2",
        "temperature-0.7_seed-1",
        "temperature-0.7_seed-2",
    ]
    for one in matrix.combinations:
        job = one.loaded.job
        assert job.output.path == str(matrix.folder / one.name)
        assert (job.decoding.temperature, job.run.seed) == tuple(one.settings.values())
        assert one.loaded.origin("decoding.temperature") == "matrix"
        assert f"temperature: {job.decoding.temperature}  # matrix" in one.loaded.dump()
    assert matrix.folder == write().parent / "out" / "demo"


def test_a_job_without_a_matrix_is_one_run(write: Write) -> None:
    assert load_matrix(write()) is None
    assert load_matrix(write("matrix: null\n")) is None
    assert load_matrix(write(TWO), overrides=["matrix=null"]) is None


def test_a_job_with_a_matrix_is_not_one_run(write: Write) -> None:
    with pytest.raises(JobFileError) as found:
        load_job(write(TWO))
    assert "job.yaml:7:1: matrix: several runs, one for each combination" in str(found.value)
    assert load_job(write(TWO), overrides=["matrix=null"]).job.run.seed == 0


def test_options_replace_the_list_of_the_file_and_add_keys(write: Write) -> None:
    matrix = matrix_of(write(TWO), "run.seed=[7]", "prompt.system=[null, 'Be kind.']")
    assert settings(matrix) == [
        (0, 7, None),
        (0, 7, "Be kind."),
        (0.7, 7, None),
        (0.7, 7, "Be kind."),
    ]
    assert matrix.combinations[0].loaded.job.prompt.system is None
    assert matrix.combinations[1].loaded.origin("prompt.system") == "--matrix"


def test_profiles_and_overrides_combine_with_a_matrix(write: Write) -> None:
    added = (
        "profiles:\n  few: {matrix: {run.seed: [9]}, input: {limit: 3}}\n  one: {matrix: null}\n"
    )
    matrix = matrix_of(write(TWO + added), profile="few", overrides=["decoding.max_new_tokens=5"])
    assert settings(matrix) == [(0, 9), (0.7, 9)]
    assert {one.loaded.job.input.limit for one in matrix.combinations} == {3}
    assert {one.loaded.job.decoding.max_new_tokens for one in matrix.combinations} == {5}
    assert load_matrix(write(TWO + added), profile="one") is None


def test_runs_with_the_same_model_follow_one_another(write: Write) -> None:
    matrix = matrix_of(write(), "run.seed=[1, 2]", "model=[demo:smollm2-135m, {engine: echo}]")
    engines = [one.loaded.job.model.engine for one in matrix.combinations]
    assert engines == ["transformers", "transformers", "echo", "echo"]
    assert settings(matrix)[0] == (1, "demo:smollm2-135m")


def test_paths_are_relative_to_the_file_that_lists_them(write: Write) -> None:
    base = write(text="prompt: null\nmatrix: {prompt.file: [a.jinja]}\n", name="deep/base.yaml")
    text = yaml.safe_dump(
        {"version": 1, "name": "x", "input": "d.csv", "model": "m", "output": "out"}
    )
    matrix = matrix_of(write("extends: deep/base.yaml\n", text=text))
    assert matrix.first.job.prompt.file == str(base.parent / "a.jinja")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["decoding.temperature=[0.7]"], ["temperature-0.7"]),
        (["decoding.temperature=[1.0]"], ["temperature-1.0"]),
        (["prompt.file=[a.jinja]"], ["file-a.jinja"]),
        (["prompt.system=[null, 你好]"], ["system-null", "system-你好"]),
        (["model.engine=[echo]", "prompt.system=[x]"], ["engine-echo_system-x"]),
        (["prompt.system=[x]", "vars.system=[y]"], ["prompt.system-x_vars.system-y"]),
    ],
)
def test_names_show_the_values(write: Write, options: Sequence[str], expected: list[str]) -> None:
    text = write().read_text("utf-8").replace("prompt: {user", "prompt: {system: p, user")
    unset = ["prompt.user=null"] if options == ["prompt.file=[a.jinja]"] else []
    matrix = matrix_of(write("vars: {system: z}\n", text=text), *options, overrides=unset)
    assert [one.name for one in matrix.combinations] == expected


def test_names_stay_when_values_are_added(write: Write) -> None:
    long = "Answer in one sentence, politely, and never with more than twenty words."
    few = matrix_of(write(), f"prompt.system=['{long}']")
    more = matrix_of(write(), f"prompt.system=['Be short / kind', '{long}', '0.7', 'A', 'a']")
    names = [one.name for one in more.combinations]
    assert few.combinations[0].name in names
    assert few.combinations[0].name.startswith("system-Answer-in-one-sentence-")
    assert len({name.casefold() for name in names}) == 5
    assert all(len(name.encode()) <= 120 and "/" not in name and " " not in name for name in names)


values = st.lists(
    st.one_of(
        st.integers(-5, 5), st.text(max_size=60), st.sampled_from(["0", "a/b", "A", "a", "."])
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda one: (type(one), one),
)


@given(axes=st.lists(values, min_size=1, max_size=3))
def test_the_product_is_complete_and_names_are_unique(
    axes: list[list[object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Over variables, which accept any value."""
    clean = [
        [one for one in axis if not isinstance(one, str) or one.isprintable()] or [1]
        for axis in axes
    ]
    clean = [
        [one.replace("${", "") if isinstance(one, str) else one for one in axis] for axis in clean
    ]
    clean = [list({(type(one), one): one for one in axis}.values()) for axis in clean]
    # JSON quotes texts such as 0E0, which a job file reads as a number.
    axes_of = json.dumps({f"vars.v{n}": axis for n, axis in enumerate(clean)}, ensure_ascii=False)
    text = f"{{version: 1, name: d, input: d.csv, prompt: p, model: m, output: out, matrix: {axes_of}}}"
    file = tmp_path_factory.mktemp("job") / "job.yaml"
    file.write_text(text, "utf-8")
    matrix = matrix_of(file)
    assert len(matrix.combinations) == prod(map(len, clean))
    assert settings(matrix) == list(product(*clean))
    names = {one.name.casefold() for one in matrix.combinations}
    assert len(names) == len(matrix.combinations)
    assert all("/" not in name and name.strip(".") and len(name.encode()) < 200 for name in names)


REJECTED = [
    ("matrix: 3\n", [], "job.yaml:7:1: matrix: expected a mapping of keys to lists of values"),
    (
        "matrix:\n  decoding.temperature: 0.7\n",
        [],
        "job.yaml:8:3: decoding.temperature: expected a list of values; found 0.7",
    ),
    (
        "matrix:\n  decoding: {temperature: [0, 1]}\n",
        [],
        "hint: Write the whole key on one line: decoding.temperature: [VALUE, ...].",
    ),
    ("matrix: {run.seed: []}\n", [], "run.seed: an empty list; expected one or more values"),
    ("matrix: {run.seed: [1, 2, 1]}\n", [], "run.seed: the value 1 is listed twice"),
    (
        "matrix:\n  decoding.temperature:\n    - 0\n    - hot\n",
        [],
        "job.yaml:10:7: decoding.temperature: expected a number from 0 to 10; found the text 'hot'; "
        "in the combination decoding.temperature=hot",
    ),
    ("matrix: {decoding.temprature: [0]}\n", [], "hint: Did you mean temperature?"),
    ("", ["run.seed"], "--matrix run.seed: expected KEY=[VALUE, ...]"),
    ("", ["run.seed=[1, 2"], "run.seed: not valid YAML"),
    ("", ["run.seed=3"], "run.seed: expected a list of values; found 3 (given by --matrix)"),
    ("", ["run.seed=[1]", "run.seed=[2]"], "run.seed: given twice (given by --matrix)"),
    ("", ["run.seed=[-1]"], "found -1 (given by --matrix)"),
    ("", ["evaluate.judges[0].model=[a]"], "expected a key such as decoding.temperature"),
    ("", ["input.path=[a.csv]"], "input.path: cannot vary: the runs are compared row by row"),
    ("", ["input=[a.csv]"], "hint: Multiply rows with input.cross, or write a job for each input."),
    ("", ["output.path=[a]"], "output.path: cannot vary: each combination has a folder of its own"),
    ("", ["evaluate.metrics=[[exact]]"], "cannot vary: the runs are compared by the same scores"),
    ("", ["batching.max_rows=[1]"], "batching.max_rows: cannot vary: it decides no answer"),
    ("", ["run.workers=[1, 2]"], "hint: Set it once; of run, only seed may vary."),
    ("", ["matrix=[1]"], "matrix: cannot vary: it is the matrix itself"),
    ("", ["vars=[1]"], "vars: expected vars.NAME"),
    (
        "",
        ["decoding=[{top_k: 3}]", "decoding.top_k=[1]"],
        "decoding.top_k: varies together with decoding, which contains it",
    ),
    (
        "",
        [f"run.seed={list(range(40))}", f"decoding.top_k={list(range(1, 41))}"],
        "run.seed: 1,600 combinations; expected at most 1,000",
    ),
]


@pytest.mark.parametrize(("added", "options", "message"), REJECTED)
def test_what_is_rejected(write: Write, added: str, options: list[str], message: str) -> None:
    with pytest.raises(JobFileError) as found:
        load_matrix(write(added), options=options)
    assert message in str(found.value)


def test_a_key_is_not_given_twice(write: Write) -> None:
    with pytest.raises(JobFileError) as found:
        load_matrix(write(TWO), overrides=["run.seed=3"])
    assert "job.yaml:9:3: run.seed: varies in the matrix and is given by --set" in str(found.value)
    with pytest.raises(JobFileError, match=r"matrix\.run\.seed: not allowed in --set"):
        load_matrix(write(TWO), overrides=["matrix.run.seed=3"])


def test_a_problem_of_all_combinations_is_reported_once(write: Write) -> None:
    with pytest.raises(JobFileError) as found:
        load_matrix(write(TWO + "batching: {max_rows: 0}\n"))
    assert len(found.value.problems) == 1
    assert "combination" not in str(found.value)
