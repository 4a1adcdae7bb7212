import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import JobFileError, Problem
from batchgen.jobfile.load import LoadedJob, load_job

Write = Callable[..., Path]
DATE = dt.date(2026, 3, 9)


def value(loaded: LoadedJob, key: str) -> object:
    found: object = loaded.job
    for name in key.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    return found


def test_a_small_job_is_its_text_and_defaults(write: Write, tmp_path: Path) -> None:
    path = write()
    loaded = load_job(path, date=DATE)
    job = loaded.job
    assert (job.name, job.prompt.user, job.model.path) == (
        "demo",
        "{{ question }}",
        "demo:smollm2-135m",
    )
    assert (job.input.path, job.output.path) == (
        str(tmp_path / "data.csv"),
        str(tmp_path / "out/demo"),
    )
    assert (job.decoding.max_new_tokens, job.decoding.temperature) == (256, None)
    assert (loaded.file, loaded.text, loaded.date) == (path, path.read_text(), DATE)
    assert loaded.origins == dict.fromkeys(
        ("version", "name", "input.path", "prompt.user", "model.path", "output.path"), "job"
    )


def test_the_last_layer_with_a_value_is_used(write: Write) -> None:
    write(
        name="low.yaml",
        text="run: {seed: 1, max_error_rate: 1}\ndecoding: {top_k: 1, min_p: 0.1}\n",
    )
    path = write(
        "extends: low.yaml\n"
        "run: {seed: 2}\n"
        "decoding: {temperature: 1, top_k: 2}\n"
        "profiles: {night: {decoding: {top_k: 3, top_p: 0.3}, batching: {part_rows: 3}}}\n"
    )
    loaded = load_job(
        path, profile="night", overrides=["decoding.top_p=0.4", "decoding.min_p=null"]
    )
    found = {
        key: (value(loaded, key), loaded.origin(key))
        for key in (
            *(
                "run.max_error_rate",
                "run.seed",
                "decoding.top_k",
                "decoding.top_p",
                "decoding.min_p",
            ),
            *("batching.part_rows", "batching.sort"),
        )
    }
    assert found == {
        "run.max_error_rate": (1.0, "low.yaml"),
        "run.seed": (2, "job"),
        "decoding.top_k": (3, "profile night"),
        "decoding.top_p": (0.4, "--set"),
        "decoding.min_p": (None, "default"),
        "batching.part_rows": (3, "profile night"),
        "batching.sort": ("length", "default"),
    }


def test_base_files_are_layered_in_order(write: Write) -> None:
    write(
        name="common/deep.yaml", text="run: {seed: 1, max_error_rate: 1}\nbatching: {sort: none}\n"
    )
    write(name="common/first.yaml", text="extends: deep.yaml\nrun: {seed: 2}\n")
    write(name="second.yaml", text="run: {seed: 3}\n")
    loaded = load_job(write("extends: [common/first.yaml, second.yaml]\n"))
    assert (loaded.job.run.seed, loaded.job.run.max_error_rate) == (3, 1.0)
    assert loaded.origin("run.seed") == "second.yaml"
    assert (
        loaded.origin("run.max_error_rate") == loaded.origin("batching.sort") == "common/deep.yaml"
    )


def test_a_base_file_may_be_used_twice_but_not_in_a_circle(write: Write) -> None:
    write(name="base.yaml", text="run: {seed: 1}\n")
    write(name="a.yaml", text="extends: base.yaml\n")
    write(name="b.yaml", text="extends: base.yaml\n")
    assert load_job(write("extends: [a.yaml, b.yaml]\n")).job.run.seed == 1


def test_lists_replace_and_null_unsets(write: Write) -> None:
    path = write(
        "decoding: {stop: [a, b], generation_kwargs: {x: 1, y: {z: 1}}}\n"
        "profiles:\n"
        "  p: {decoding: {stop_strings: [c], generation_kwargs: {x: null, y: {w: 2}}}, prompt: null}\n"
    )
    assert load_job(path).job.decoding.stop_strings == ("a", "b")
    chosen = load_job(path, profile="p", overrides=["prompt.user=x"]).job
    assert chosen.decoding.stop_strings == ("c",)
    assert chosen.decoding.generation_kwargs == {"y": {"z": 1, "w": 2}}


@pytest.mark.parametrize(
    ("synonym", "name", "written", "meant"),
    [
        ("max_tokens", "max_new_tokens", "7", 7),
        ("max_completion_tokens", "max_new_tokens", "7", 7),
        ("n", "num_return_sequences", "7", 7),
        ("stop", "stop_strings", "[x, y]", ("x", "y")),
        ("stop", "stop_strings", "x", ("x",)),
    ],
)
def test_synonyms_override_and_are_overridden(
    write: Write, synonym: str, name: str, written: str, meant: object
) -> None:
    hot = "decoding: {temperature: 1}\n"
    in_job = load_job(write(hot.replace("}", f", {synonym}: {written}}}")))
    by_set = load_job(write(hot), overrides=[f"decoding.{synonym}={written}"])
    other = "[z]" if synonym == "stop" else "9"
    over = load_job(
        write(hot.replace("}", f", {name}: {other}}}")), overrides=[f"decoding.{synonym}={written}"]
    )
    for loaded in (in_job, by_set, over):
        assert getattr(loaded.job.decoding, name) == meant


def test_a_model_by_its_path_alone_merges_like_a_mapping(write: Write) -> None:
    path = write("profiles: {p: {model: {dtype: float32}}, q: {model: other}}\n")
    loaded = load_job(path, profile="p", overrides=["model.device=cpu"])
    assert loaded.job.model.model_dump(include={"path", "dtype", "device"}) == {
        "path": "demo:smollm2-135m",
        "dtype": "float32",
        "device": "cpu",
    }
    assert load_job(path, profile="q").job.model.path == "other"
    assert load_job(path, profile="p", overrides=["model=third"]).job.model.path == "third"
    assert (
        load_job(path, overrides=["model={path: x, dtype: float16}"]).job.model.dtype == "float16"
    )


@pytest.mark.parametrize(
    ("given", "key", "meant"),
    [
        ("decoding.temperature=1e-1", "decoding.temperature", 0.1),
        ("decoding.logprobs=true", "decoding.logprobs", True),
        ("decoding.stop=[a, 'b c']", "decoding.stop_strings", ("a", "b c")),
        ("decoding.generation_kwargs={a: {b: 1}}", "decoding.generation_kwargs", {"a": {"b": 1}}),
        ("decoding.generation_kwargs.a.b=1", "decoding.generation_kwargs", {"a": {"b": 1}}),
        ("decoding.columns.top_k=k", "decoding.columns", {"top_k": "k"}),
        ("batching.max_rows=auto", "batching.max_rows", "auto"),
        ("batching.max_rows=12", "batching.max_rows", 12),
        # Text needs no quotes, even where YAML would read another type.
        ("description=12", "description", "12"),
        ("description=no: really # yes", "description", "no: really # yes"),
        ("description=*.csv", "description", "*.csv"),
        ("prompt.user={{ question }}", "prompt.user", "{{ question }}"),
        ("prompt.user=a=b", "prompt.user", "a=b"),
        ("description='a: b'", "description", "a: b"),
        ('description="a\\nb"', "description", "a\nb"),
        ("description=null", "description", None),
        ("description=", "description", None),
        ("input.csv.delimiter=|", "input.csv.delimiter", "|"),
        ("input.csv.delimiter=,", "input.csv.delimiter", ","),
        ("run=null", "run.seed", 0),
    ],
)
def test_set_infers_the_type_of_values(write: Write, given: str, key: str, meant: object) -> None:
    hot = write("decoding: {temperature: 1}\nrun: {seed: 5}\n")
    loaded = load_job(hot, overrides=[given])
    assert value(loaded, key) == meant
    assert type(value(loaded, key)) is type(meant)


def test_set_accepts_globs_and_lists_of_paths(write: Write, tmp_path: Path) -> None:
    assert load_job(write(), overrides=["input.path=*.csv"]).job.input.path == str(
        tmp_path / "*.csv"
    )
    assert load_job(write(), overrides=["input.path=[a, b/*.csv]"]).job.input.path == (
        str(tmp_path / "a"),
        str(tmp_path / "b/*.csv"),
    )


def test_the_last_set_of_a_key_is_used(write: Write) -> None:
    loaded = load_job(
        write(), overrides=["run.seed=1", "run=null", "run.seed=3", "run.max_error_rate=0.5"]
    )
    assert (loaded.job.run.seed, loaded.job.run.max_error_rate) == (3, 0.5)


def test_profiles_and_variables_work_together(write: Write) -> None:
    path = write(
        "vars: {rows: 10, day: '${date:%d}'}\n"
        "input: {path: 'data-${vars.day}.csv', limit: '${vars.rows}'}\n"
        "profiles: {smoke: {vars: {rows: 2}}}\n",
        text="version: 1\nname: d\nprompt: {user: x}\nmodel: m\noutput: {path: out}\n",
    )
    assert load_job(path, date=DATE).job.input.limit == 10
    assert load_job(path, date=DATE).job.input.path == str(path.parent / "data-09.csv")
    assert load_job(path, profile="smoke").job.input.limit == 2
    assert load_job(path, profile="smoke", overrides=["vars.rows=3"]).job.input.limit == 3


def test_a_schema_key_for_editors_is_ignored(write: Write) -> None:
    assert load_job(write("$schema: ./job.schema.json\n")).job.name == "demo"


def test_a_byte_order_mark_is_ignored(tmp_path: Path, job_text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + job_text.encode())
    assert load_job(path).job.version == 1


def test_later_problems_get_their_place_from_the_key(write: Write) -> None:
    path = write(
        "decoding:\n  max_tokens: 3\nprofiles: {p: {run: {seed: 1}}}\n",
        text="version: 1\nname: d\ninput: {path: x}\nprompt:\n  messages:\n"
        "    - {role: user,\n       content: x}\nmodel: m\noutput: {path: out}\n",
    )
    loaded = load_job(path, profile="p", overrides=["run.max_error_rate=1"])
    keys = (
        *("prompt.messages[0].content", "prompt.messages[0]", "prompt.user", "model.path"),
        *("decoding.max_new_tokens", "run.seed", "run.max_error_rate", "input.columns.id"),
    )
    error = loaded.error([Problem(key, "is wrong") for key in keys])
    assert {p.key: (p.line, p.column, p.message) for p in error.problems} == {
        "run.max_error_rate": (0, 0, "is wrong (given by --set)"),
        "input.columns.id": (3, 1, "is wrong"),
        "prompt.user": (4, 1, "is wrong"),
        "prompt.messages[0]": (6, 7, "is wrong"),
        "prompt.messages[0].content": (7, 8, "is wrong"),
        "model.path": (8, 1, "is wrong"),
        "decoding.max_new_tokens": (11, 3, "is wrong"),
        "profiles.p.run.seed": (12, 22, "is wrong"),
    }
    assert f"{path}:11:3: decoding.max_new_tokens: is wrong\n    11 |   max_tokens: 3" in str(error)


def test_loading_imports_neither_pyarrow_nor_torch(write: Write) -> None:
    code = (
        "import sys; from batchgen.jobfile.load import load_job; load_job(sys.argv[1]); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(write())], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "transformers", "pyarrow", "polars", "jinja2", "click"}
    assert heavy.isdisjoint(done.stdout.split())
    assert {"pydantic", "yaml"} <= set(done.stdout.split())


SHORT = """\
version: 1
name: {name}
input: {input}
prompt: "{{{{ question }}}}"
model: demo:smollm2-135m
output: out/x
"""


@pytest.mark.parametrize(
    ("written", "paths"),
    [("data.csv", "data.csv"), ("[data.csv, data2.csv]", ("data.csv", "data2.csv"))],
)
def test_a_text_in_place_of_a_section_is_its_main_key(
    write: Write, tmp_path: Path, written: str, paths: str | tuple[str, ...]
) -> None:
    job = load_job(write(text=SHORT.format(name="a", input=written))).job
    names = [paths] if isinstance(paths, str) else paths
    found = [job.input.path] if isinstance(job.input.path, str) else list(job.input.path)
    assert found == [str(tmp_path / name) for name in names]
    assert job.prompt.user == "{{ question }}"
    assert job.output.path == str(tmp_path / "out/x")


def test_a_section_extends_a_short_form(write: Write) -> None:
    path = write(text=SHORT.format(name="a", input="data.csv") + "profiles: {p: {prompt: Hi}}\n")
    job = load_job(path, overrides=["input.limit=3", "output=out/y", "prompt.system=S"]).job
    assert (job.input.limit, Path(job.output.path).name, job.prompt.system) == (3, "y", "S")
    assert load_job(path, profile="p", overrides=["prompt={{ q }}"]).job.prompt.user == "{{ q }}"


@pytest.mark.parametrize("name", ["作业-1", "prüfung", "тест.2", "नमस्ते", "a_b.c-d", "1"])
def test_a_name_has_letters_of_any_script(write: Write, name: str) -> None:
    job = load_job(write(text=SHORT.format(name=f"'{name}'", input="data.csv"))).job
    assert job.name == name


@pytest.mark.parametrize(
    "name",
    ["a b", "a/b", "..", "-a", ".a", "a\u3000b", "a\u200bb", "你" * 65, "𠀀" * 64, "a\u202eb"],
)
def test_a_name_is_usable_as_a_folder(write: Write, name: str) -> None:
    path = write(text=SHORT.format(name=f"'{name}'", input="data.csv"))
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    (problem,) = caught.value.problems
    assert problem.key == "name"
