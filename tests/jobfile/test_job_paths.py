import os
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import JobFileError
from batchgen.jobfile.load import load_job

Write = Callable[..., Path]


def text(
    *, source: str = "data.csv", output: str = "out/x", model: str = "m", prompt: str = "user: x"
) -> str:
    return (
        f"version: 1\nname: d\ninput: {{path: {source}}}\nprompt: {{{prompt}}}\n"
        f"model: {{path: {model}}}\noutput: {{path: {output}}}\n"
    )


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    (problem,) = caught.value.problems
    return problem.key, problem.message.replace(str(path.parent), "HERE")


@pytest.mark.skipif(os.name != "posix", reason="names are bytes only there")
def test_a_folder_whose_name_is_not_utf8_is_named(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"sub\xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    job = folder / "job.yaml"
    job.write_text(text())
    with pytest.raises(JobFileError) as caught:
        load_job(job)
    assert {problem.key: problem.message for problem in caught.value.problems} == {
        key: f"the name of a folder is not UTF-8: {tmp_path}/sub\\xff/{name}"
        for key, name in {"input.path": "data.csv", "output.path": "out/x"}.items()
    }
    assert all(p.hint.startswith("Rename the folder") for p in caught.value.problems)


def test_paths_are_relative_to_the_file_that_contains_them(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(name="base/base.yaml", text="prompt: {file: ask.txt}\noutput: {path: ../out}\n")
    write(
        name="jobs/job.yaml",
        text="version: 1\nname: d\nextends: ../base/base.yaml\nmodel: m\n"
        "input: {path: [a.csv, ./b/*.csv, ../c]}\n"
        "prompt: {chat_template: t.jinja}\n",
    )
    monkeypatch.chdir(tmp_path / "base")
    job = load_job("../jobs/job.yaml", overrides=["model.path=./here"]).job
    assert job.input.path == tuple(str(tmp_path / p) for p in ("jobs/a.csv", "jobs/b/*.csv", "c"))
    assert job.prompt.file == str(tmp_path / "base/ask.txt")
    assert job.prompt.chat_template == str(tmp_path / "jobs/t.jinja")
    assert job.output.path == str(tmp_path / "out")
    assert job.model.path == str(tmp_path / "jobs/here")


def test_a_tilde_is_the_home_folder(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    job = load_job(write(text=text(source="~/d.csv", model="~/m", output="~/o"))).job
    assert (job.input.path, job.model.path) == ("/home/someone/d.csv", "/home/someone/m")
    assert job.output.path == "/home/someone/o"


@pytest.mark.parametrize("word", ["auto", "none"])
def test_a_chat_template_may_be_a_name(write: Write, word: str) -> None:
    (write().parent / word).mkdir()
    path = write(text=text(prompt=f"user: x, chat_template: {word}"))
    assert load_job(path).job.prompt.chat_template == word


@pytest.mark.parametrize(
    ("written", "is_folder"),
    [
        ("org/name", False),
        ("demo:smollm2-135m", False),
        ("gpt2", False),
        ("models/mine", True),
        ("./nowhere", True),
        ("../nowhere", True),
        (".", True),
        ("/models/x", True),
    ],
)
def test_a_model_is_a_folder_if_it_looks_like_one_or_is_one(
    write: Write, tmp_path: Path, written: str, is_folder: bool
) -> None:
    (tmp_path / "models/mine").mkdir(parents=True)
    model = load_job(write(text=text(model=written))).job.model.path
    expected = os.path.normpath(tmp_path / written) if is_folder else written
    assert model == expected


def test_parent_folders_of_symlinks_are_resolved_as_by_the_system(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "far/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/deep")
    job = load_job(write(text=text(source="link/../x.csv"))).job
    assert job.input.path == str(tmp_path / "far/x.csv")


@pytest.mark.parametrize(
    ("job", "key", "message"),
    [
        pytest.param(
            text(source="https://host/x"),
            "input.path",
            "a URL; expected a path on this machine",
            id="address",
        ),
        pytest.param(
            text(prompt="file: 'x-${date}'"),
            "prompt.file",
            "${...} is not replaced under prompt",
            id="placeholder under prompt",
        ),
        pytest.param(
            text(output="~nobody_here/x"),
            "output.path",
            "unknown user",
            id="unknown user",
        ),
    ],
)
def test_invalid_paths(write: Write, job: str, key: str, message: str) -> None:
    assert refusal(write(text=job)) == (key, message)


@pytest.mark.parametrize(
    ("source", "output", "why"),
    [
        ("data", "data", "HERE/data is the input HERE/data"),
        ("data/x.csv", "data/x.csv", "HERE/data/x.csv is the input HERE/data/x.csv"),
        ("data", "data/out", "HERE/data/out is inside the input HERE/data"),
        ("data", "data/../data/out", "HERE/data/out is inside the input HERE/data"),
        ("data/x.csv", "data", "HERE/data contains the input HERE/data/x.csv"),
        ("[other, data]", "data/out", "HERE/data/out is inside the input HERE/data"),
        ("link", "data/out", "HERE/data/out is inside the input HERE/link"),
        ("data/*.csv", "data", "HERE/data contains the input HERE/data/*.csv"),
        ("data/a*/*.csv", "data", "HERE/data contains the input HERE/data/a*/*.csv"),
    ],
)
def test_the_output_may_not_overwrite_the_input(
    write: Write, tmp_path: Path, source: str, output: str, why: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    assert refusal(write(text=text(source=source, output=output))) == (
        "output.path",
        f"the output folder {why}",
    )


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("data", "out"),
        ("data", "data2"),
        ("data/x.csv", "data/out"),
        ("'*.csv'", "out"),
        ("data/*.csv", "data/out"),
        ("data/*/*.csv", "data/out"),
        ("'**/*.csv'", "out"),
        ("out/other/responses.parquet", "out/mine"),
        ("out/a*/responses.parquet", "out/mine"),
        ("'**/d?ta/*.parquet'", "out/mine"),
    ],
)
def test_an_output_next_to_the_input_is_allowed(write: Write, source: str, output: str) -> None:
    loaded = load_job(write(text=text(source=source, output=output)))
    assert loaded.job.output.path == str(loaded.file.parent / output)


def test_a_name_with_brackets_is_a_file_if_it_exists(write: Write, tmp_path: Path) -> None:
    (tmp_path / "data[1]").mkdir()
    path = write(text=text(source="'data[1]'", output="'data[1]/out'"))
    assert refusal(path)[1].startswith("the output folder HERE/data[1]/out is inside the input")


def test_the_output_folder_may_not_contain_the_job_file(write: Write) -> None:
    assert refusal(write(text=text(output="."))) == (
        "output.path",
        "the output folder HERE contains the job file",
    )


def test_the_copy_in_a_run_folder_can_be_run(write: Write, tmp_path: Path) -> None:
    copied = text(source="/d.csv", output=str(tmp_path / "run"))
    path = write(name="run/job.yaml", text=copied)
    assert refusal(path)[0] == "output.path"
    (tmp_path / "run/.batchgen").mkdir()
    assert load_job(path).job.output.path == str(tmp_path / "run")


def test_an_output_folder_that_cannot_exist_is_an_error(write: Write, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for output, reason in (("x" * 5000, "File name too long"), ("a/x", "Too many levels")):
        key, message = refusal(write(text=text(output=output)))
        assert key == "output.path"
        assert message.startswith(f"cannot be used: {reason}")


@pytest.mark.parametrize(
    "address",
    ["s3://bucket/a.csv", "gs://bucket/day/*.jsonl", "az://box/数据/", "s3://bucket"],
)
def test_the_input_may_be_in_object_storage(write: Write, address: str) -> None:
    job = load_job(write(text=text(source=f"[a.csv, '{address}']"))).job
    assert job.input.path[1].rstrip("/") == address.rstrip("/")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://KEY:SECRETVALUE@bucket/a.csv", "the address contains credentials"),
        ("s3://bucket/a.csv?X-Amz-Signature=SECRETVALUE", "the address contains credentials"),
        ("az://box/a.csv?sv=1&sig=SECRETVALUE", "the address contains credentials"),
        ("s3://b/a.csv", "'b' is not the name of a bucket"),
        ("s3://bucket/a//b.csv", "the key has an empty part, or one of only dots"),
        ("s3://bucket/../b.csv", "the key has an empty part, or one of only dots"),
        ("https://host/a.csv?sig=SECRETVALUE", "a URL; expected a path on this machine"),
    ],
)
def test_an_unusable_address_is_refused_without_its_secret(
    write: Write, address: str, message: str
) -> None:
    path = write(text=text(source=f"'{address}'"))
    assert refusal(path) == ("input.path", message)
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    assert "SECRETVALUE" not in str(caught.value)
    assert (
        "s3://BUCKET/KEY" in str(caught.value)
        or message != "a URL; expected a path on this machine"
    )


@pytest.mark.parametrize(
    ("output", "key", "message"),
    [
        ("s3://bucket/x", "output.path", "a URL; expected a path on this machine"),
        ("x, upload: here", "output.upload", "expected an address in object storage"),
        ("x, upload: 's3://bucket/*'", "output.upload", "a glob; expected one address"),
    ],
)
def test_an_unusable_output_is_refused(write: Write, output: str, key: str, message: str) -> None:
    assert refusal(write(text=text(output=output))) == (key, message)
