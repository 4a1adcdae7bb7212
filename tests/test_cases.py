"""Small inputs collected outside the project, each through the commands that its user would type."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import batchgen
from batchgen.__main__ import call
from batchgen.decoding.reasoning import split_reasoning, without_reasoning

CASES = Path(__file__).parents[2] / "shared" / "cases"

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases"),
]


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and what it must do.

    Attributes:
        words: a pattern that the output contains.
        answers: the responses of the run in `out`, by id.
        lacks: a pattern that the output does not contain.
    """

    command: str
    code: int = 0
    words: str = ""
    answers: Mapping[str, str | None] | None = None
    out: str = "out"
    lacks: str = "Traceback"


def run(
    path: str = "",
    *,
    code: int = 0,
    words: str = "",
    answers: Mapping[str, str | None] | None = None,
) -> Step:
    """`batchgen run job.yaml --fresh`, of another input with `path`."""
    return Step(f"run job.yaml --fresh{path and f' -s input.path={path}'}", code, words, answers)


def questions(*numbers: int) -> dict[str, str]:
    return {str(number): f"question {number}" for number in numbers}


SIX, FOUR = questions(*range(6)), questions(*range(4))
MANY_BRACES = {"1": "V ABC", "2": "V DEF"}
REUSED = 'run job.yaml --fresh -s input.path={0} -s "vars.n={0}" --incremental-from out/n1'


def reused(name: str, count: int) -> Step:
    return Step(
        REUSED.format(name), words=rf"reused {count} · generated {3 - count}", out=f"out/{name}"
    )


STEPS: dict[str, list[Step]] = {
    "use/02-vars-in-prompt-silent": [
        Step("validate jobB.yaml", 2, r"jobB.yaml:12:3: prompt.system: \$\{vars.lang\} is not replaced"),
    ],
    "use/03-language-metric-names": [
        Step("score answers.csv --metric '{type: language, column: lang}' -o out", words="language +[01]"),
    ],
    "use/05-head-exit-1": [Step("metrics", words="^exact ")],
    "use/06-columns-with-spaces": [
        Step("validate t.yaml -s 'prompt.user={{ 题目1 }}'", 2, r'Write \{\{ row\["题目 1"\] \}\}'),
        Step("validate t.yaml -s 'prompt.user={{ 题目 1 }}'", 2, r'Write \{\{ row\["题目 1"\] \}\}'),
        Step("""run t.yaml --fresh -s 'prompt.user={{ row["题目 1"] }}'""", words=" ok"),
    ],
    "use/08-date-format-literal": [
        Step("plan same.yaml -s 'output.path=out/${date:-1d}' --date 2026-03-01", words="out/2026-02-28, new"),
        Step("plan same.yaml -s 'output.path=out/${date:-1x}'", 2, "unknown offset"),
        Step("plan same.yaml -s 'output.path=out/${date:YYYY}'", 2, "unknown date field"),
    ],
    "use/10-fullwidth-colon-wrong-line": [
        Step("validate q.yaml", 2, "q.yaml:6:.*(full-width|：)"),
        Step("validate q2.yaml", 2, "q2.yaml:1:.*(full-width|：)"),
    ],
    "use/12-hint-bad-folder": [
        Step("models check .", 5, "(?s)no config.json; found cmd.*Give the folder that contains config.json"),
    ],
    "input/01-pzstd": [run(answers=SIX), *(run(f"{name}.jsonl.zst", words=" ok") for name in ("multi", "real"))],
    "input/02-zstd-long": [run(answers=SIX)],
    "input/03-excel-sep": [
        run(answers={"1": "Was ist das?", "2": "Und das?"}),
        run("three.csv", answers={"1": "Was ist das?", "2": "Und das?"}),
    ],
    "input/04-excel-empty-columns": [
        run(name, answers={"1": "What is it?", "2": "And that?"}) for name in ("", "one.csv")
    ],
    "input/05-cp936-euro": [
        *(
            Step(f"run job.yaml --fresh -s input.csv.encoding={name}", words="3 ok")
            for name in ("gbk", "cp936", "gb18030")
        ),
        run(words="3 ok"),
    ],
    "input/06-mysql-backslash": [
        run(name, code=5, words=r"csv:2: field 2 contains a backslash before a quote")
        for name in ("", "in2.csv")
    ],
    "input/10-content-parts": [
        run(answers={"1": "Name a colour.", "2": "Name a fruit."}),
        run("parts.jsonl", answers={"2": "Name a fruit."}),
        run("roles.jsonl", words="failed"),
        Step("run job.yaml --fresh -s input.path=sharegpt.jsonl -s input.columns.messages=conversations", words="1 ok"),
        Step(
            "run job.yaml --fresh -s input.path=openai_batch.jsonl -s input.columns.messages=body.messages"
            " -s input.columns.id=custom_id",
            answers={"r-1": "Be brief.Name a colour.", "r-2": "Name a fruit."},
        ),
    ],
    "input/26-jinja-globals": [
        run(answers={
            "1": "Is glucose with reference range 3.9-6.1 normal?",
            "2": "Is sodium with reference range 135-145 normal?",
        }),
        Step("run job.yaml --fresh -s 'prompt.user=V {{ dict }}'", answers=MANY_BRACES),
        *(
            Step(f"run job.yaml --fresh -s 'prompt.user=V {{{{ {name} }}}}'", answers=dict.fromkeys("12", f"V {name[0]}"))
            for name in ("cycler", "self", "loop")
        ),
    ],
    "input/27-odd-column-names": [
        run(words="1 ok"),
        *(
            Step(f"run job.yaml --fresh -s 'prompt.user={{{{ {name} }}}}'", 2, re.escape(f'Write {{{{ row["{name}"] }}}}'))
            for name in ("user question", "order-no", "2nd", "q.1")
        ),
    ],
    "input/40-ids-pandas": [
        Step("run job.yaml --fresh", words="3 ok", out="out/n1"),
        *(reused(name, 3) for name in ("n2.parquet", "n3.parquet", "n4.csv", "n5.jsonl")),
        *(reused(name, 0) for name in ("n6.parquet", "n7.parquet")),
    ],
    "input/41-ids-nan": [
        run("one.parquet", code=5, words="has no id in .*one.parquet row 1"),
        run("two.parquet", code=5, words="has no id in .*row 1, .*row 2"),
        run("spaces.parquet", code=5, words="repeats ids"),
        run("nfc.parquet", code=5, words="repeats ids"),
        run("words.parquet", words="3 ok"),
        run("excel.csv", code=5, words="spreadsheet"),
    ],
    "input/45-case-twins": [
        run(code=2, words="(?s)output.prefix: .*Response .*apart from upper and lower case.*hint: Set output.prefix"),
        Step("run job.yaml --fresh -s output.prefix=bg_", words=" ok"),
    ],
    "input/46-promptfoo-json-in-csv": [run(words="2 ok")],
    "input/48-gzip-oddities": [
        *(run(f"{name}.jsonl.gz", answers=FOUR) for name in ("members", "zeros", "bom")),
        *(run(f"{name}.jsonl.gz", answers=questions(0, 1)) for name in ("empty_member", "two_boms")),
        run("upper.JSONL.GZ", answers=FOUR),
        run("garbage.jsonl.gz", code=5, words="7 bytes that are not gzip data follow", ),
        run("bgzf.jsonl.gz", code=5, words="is empty"),
        run("cat.csv", code=5, words="cat.csv:3: a second byte order mark"),
    ],
    "input/49-jsonl-lines": [
        run("u2028.jsonl", answers={"1": "a\u2028b", "2": "c\x85d\x7f"}),
        *(run(f"{name}.jsonl", answers={"1": "a", "2": "b"}) for name in ("crlf", "cr", "ff", "numtext")),
        run("tab.jsonl", code=5, words="tab.jsonl:1: is not JSON: text contains a tab"),
        run("nul.jsonl", code=5, words="nul.jsonl:2: contains a NUL byte"),
        run("trailing_comma.jsonl", code=5, words=r"comma.jsonl:1: is not JSON: a comma before \}"),
        run("pretty.jsonl", code=5, words="(?s)does not end on this line.*input.format: json"),
        run("concat.jsonl", code=5, words="a second object begins at character 20"),
        run("bigint.jsonl", answers={"18446744073709551615": "a"}),
        run("idmix.jsonl", answers={"1": "a", "b2": "b"}),
        run("exp.jsonl", answers={"1000": "a", "2.5": "b"}),
        run("emoji.jsonl", words="1 ok"),
        run("utf8x.jsonl", code=5, words="utf8x.jsonl:1: is not utf-8 text"),
        run("gbk.jsonl", code=5, words="iconv -f gb18030"),
        run("array.json", words="2 ok"),
        Step("run job.yaml --fresh -s input.path=array.json -s input.format=jsonl", 5, "is a JSON array"),
    ],
    "input/52-squad-answers": [
        run(words="3 ok"),
        *(
            Step(f"score in.{kind} --metric exact --metric contains --reference answers -o outf", words=r"exact +0\.667")
            for kind in ("parquet", "jsonl")
        ),
    ],
    "input/54-json-in-csv": [
        Step("score in.csv --metric exact --metric token_f1 --reference answers -o out", words=r"exact +1\.000"),
    ],
    "input/57-neighbours": [
        Step("run job.yaml --fresh -s input.path=alone.jsonl -s vars.n=alone", out="out/alone",
             answers={"1": "Is water wet? It costs 5.\nA. yes\nB. no\n\n"}),
        Step("run job.yaml --fresh -s input.path=both.jsonl -s vars.n=both", out="out/both",
             answers={"1": "Is water wet? It costs 5.\nA. yes\nB. no\n\n",
                      "2": "Capital of France? It costs 5.5.\nA. Paris\nB. Rome\nC. Oslo\nD. Bern\n\n"}),
        Step("run job.yaml --fresh -s input.path=both.jsonl -s vars.n=json -s 'prompt.user={{ price }} {{ options | tojson }}'",
             out="out/json", answers={"1": '5 {"A": "yes", "B": "no"}',
                                      "2": '5.5 {"A": "Paris", "B": "Rome", "C": "Oslo", "D": "Bern"}'}),
        Step("run job.yaml --fresh -s input.path=n1.jsonl -s vars.n=n1 -s 'prompt.user={{ q }} {{ price }}'", words="2 ok"),
        Step("run job.yaml --fresh -s input.path=n2.jsonl -s vars.n=n2 -s 'prompt.user={{ q }} {{ price }}' --incremental-from out/n1",
             words="reused 2 · generated 1"),
    ],
    "input/60-compare-edges": [
        *(
            Step(f"score {name}.jsonl --metric exact --metric length --reference gold -o s_{name}", code)
            for name, code in {"a": 0, "b": 0, "one": 0, "other": 0, "dup": 0, "dupapart": 5, "nullid": 5, "nogold": 0,
                               "noresp": 0, "floatid": 0, "strid": 0}.items()
        ),
        *(Step(f"compare s_{one} s_{other}") for one, other in ("ab", "aa")),
        *(
            Step(f"compare s_a s_{name} --fail-if-worse exact", 4, "failed exact")
            for name in ("other", "nogold", "noresp")
        ),
    ],
    "input/83-head-exit": [
        Step("run job.yaml --fresh", out="out/base"),
        Step("run job.yaml --fresh -s vars.v=new -s 'prompt.user=X {{ question }}'", 4, "GATE FAILED"),
        Step("run job.yaml -s vars.v=new -s 'prompt.user=X {{ question }}'", 4, "GATE FAILED"),
        Step("compare out/base out/new --fail-if-worse exact", 4, "failed exact"),
    ],
    "input/87-notepad-yaml": [
        *(
            Step(f"run {name}.yaml --fresh", words="1 ok|2 ok")
            for name in ("bom", "cr")
        ),
        Step("run utf16.yaml --fresh", 2, "utf16.yaml:1:1: not UTF-8 text"),
        Step("run tabs.yaml --fresh", 2, "tabs.yaml:5:.*tab"),
    ],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Folder:
    """A copy of a case's folder, which is the working directory."""

    path: Path
    capsys: pytest.CaptureFixture[str]

    def call(self, command: str) -> tuple[int, str]:
        """Exit code and output of a command."""
        self.capsys.readouterr()
        code = call(shlex.split(command))
        captured = self.capsys.readouterr()
        return code, captured.out + captured.err

    def scores(self, folder: str) -> dict[str, dict[str, Any]]:
        """The scores in a folder by id."""
        table = pl.read_parquet(self.path / folder / "scores.parquet")
        return {str(row["id"]): row for row in table.iter_rows(named=True)}


@pytest.fixture
def copied(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Folder:
    """The case's folder; its jobs with the key that `run.max_errors` has become."""
    folder = tmp_path / "case"
    shutil.copytree(CASES / request.param, folder)
    for path in folder.rglob("*.yaml"):
        content = path.read_bytes()
        renamed = re.sub(rb"max_errors: *", b"max_error_rate: 1, max_error_count: ", content)
        path.write_bytes(renamed)
    monkeypatch.chdir(folder)
    generate(folder)
    return Folder(folder, capsys)


def generate(folder: Path) -> None:
    """Make the inputs that a case does not store."""
    script = folder / "gen.py"
    if script.exists() and "zstd" not in script.read_text("utf-8"):
        subprocess.run([sys.executable, script.name], cwd=folder, check=True)


@pytest.mark.parametrize(("copied", "steps"), STEPS.items(), ids=STEPS.keys(), indirect=["copied"])
def test_commands_of_a_case(copied: Folder, steps: Sequence[Step]) -> None:
    failed = []
    for step in steps:
        code, printed = copied.call(step.command)
        problems = [] if code == step.code else [f"exit code {code}, expected {step.code}"]
        if not re.search(step.words, printed, re.MULTILINE):
            problems.append(f"does not print {step.words!r}")
        if re.search(step.lacks, printed):
            problems.append(f"prints {step.lacks!r}")
        if step.answers is not None and not problems:
            table = pl.read_parquet(copied.path / step.out / "responses.parquet")
            found = {str(row["id"]): row["response"] for row in table.iter_rows(named=True)}
            if found != dict(step.answers):
                problems.append(f"answers {found}")
        if problems:
            failed.append(f"{step.command}: {'; '.join(problems)}\n{printed[-1500:]}")
    assert not failed, "\n\n".join(failed)


@pytest.mark.parametrize("copied", ["evaluation"], indirect=True)
def test_labels_of_choices(copied: Folder) -> None:
    lines = read_lines(copied.path / "choice.jsonl")
    with_options = [line for line in lines if "options" in line]
    for name, chosen in (
        ("options", with_options),
        ("labels", [x for x in lines if "options" not in x]),
    ):
        scores = score_lines(
            copied,
            name,
            chosen,
            {"type": "choice"} | ({"options": "options"} if name == "options" else {}),
            "expected",
        )
        wrong = [
            (line["response"], scores[str(n)]["answer"])
            for n, line in enumerate(chosen)
            if scores[str(n)]["answer"] != line["expected"]
        ]
        assert not wrong  # fmt: skip


@pytest.mark.parametrize("copied", ["evaluation"], indirect=True)
def test_values_of_numbers(copied: Folder) -> None:
    lines = read_lines(copied.path / "number.jsonl")
    scores = score_lines(copied, "n", lines, {"type": "number"}, "gold")
    for number, line in enumerate(lines):
        value = scores[str(number)]["value"]
        expected = line["expected"]
        assert (value if expected is None else value or 0) == expected, line


@pytest.mark.parametrize("copied", ["evaluation"], indirect=True)
def test_exact_match_as_in_squad(copied: Folder) -> None:
    lines = read_lines(copied.path / "squad.jsonl")
    scores = score_lines(copied, "s", lines, {"type": "squad_em"}, "reference")
    assert [scores[str(n)]["value"] for n in range(len(lines))] == [x["squad_em"] for x in lines]


@pytest.mark.parametrize("copied", ["evaluation"], indirect=True)
def test_half_of_the_answers_lost_is_worse(copied: Folder) -> None:
    for name in ("missing_base", "missing_new"):
        copied.call(f"score {name}.jsonl --metric exact --reference gold -o {name}")
    code, printed = copied.call("compare missing_base missing_new --margin exact:0.02")
    assert (code, "equivalent" in printed) == (0, False)
    assert copied.call("compare missing_base missing_new --fail-if-worse exact")[0] == 4
    assert copied.call("compare missing_new missing_base --fail-if-worse exact")[0] == 0


@pytest.mark.parametrize("copied", ["evaluation"], indirect=True)
def test_equal_differences_are_no_evidence(copied: Folder) -> None:
    lines = read_lines(copied.path / "zero_variance_base.jsonl")
    for name, more in (("base", ""), ("new", " x")):
        worse = [{**line, "response": f"{line['response']}{more}"} for line in lines]
        score_lines(copied, name, worse, {"type": "token_f1"}, "gold")
    code, printed = copied.call("compare scored_base scored_new --margin token_f1:0.3")
    assert code == 0
    assert "inconclusive" in printed
    assert re.search("[0-9]+ such pairs", printed)


@pytest.mark.parametrize("copied", ["evaluation"], indirect=True)
def test_a_gate_on_few_rows_publishes_nothing(copied: Folder) -> None:
    code, printed = copied.call("run gate_missing.yaml --fresh -o gated")
    assert (code, "coverage 0.1" in printed) == (4, True)
    assert not (copied.path / "gated" / "responses.parquet").exists()


@pytest.mark.parametrize("copied", ["evaluation"], indirect=True)
@pytest.mark.parametrize(
    ("function", "words"),
    {
        "nan": r"line 3: nan returned nan",
        "inf": r"line 4: inf returned inf",
        "boom": r"line 5: ValueError: x",
        "big": r"line 6: big returned 1e\+308",
        "true": r"python +1\.000",
        "text": r"line 8: text returned",
        "frac2": r"line 9: frac2 returned 2; expected 0 to 1",
    }.items(),
)
def test_values_of_a_function_of_the_user(copied: Folder, function: str, words: str) -> None:
    metric = {"type": "python", "file": "mymetric.py", "function": function, "unit": "fraction"}
    code, printed = copied.call(
        f"score python_metric_fraction.jsonl -o out --metric {shlex.quote(json.dumps(metric))}"
    )
    assert code == 0
    assert re.search(words, printed)


@pytest.mark.parametrize("copied", ["input/50-numbers"], indirect=True)
def test_numbers_of_other_tools(copied: Folder) -> None:
    copied.call("score in.jsonl --metric number --reference gold --output out")
    scores = copied.scores("out")
    lines = read_lines(copied.path / "in.jsonl")
    wrong = {x["why"] for x in lines if (scores[str(x["id"])]["value"] or 0) != x["want"]}
    # More than one number, a point that is a decimal one elsewhere, an accountant's minus, a time.
    assert wrong == {
        "list of answers lm-eval#3652",
        "thousands by point",
        "accounting negative",
        "time",
    }


@pytest.mark.parametrize("copied", ["input/51-choices"], indirect=True)
def test_choices_of_other_tools(copied: Folder) -> None:
    lines = read_lines(copied.path / "in.jsonl")
    scores: dict[int, dict[str, dict[str, Any]]] = {}
    for count in (4, 10):
        labels = "ABCDEFGHIJ"[:count]
        batchgen.score(
            "in.jsonl",
            [{"type": "choice", "labels": list(labels)}],
            reference="gold",
            output=f"out{count}",
        )
        scores[count] = copied.scores(f"out{count}")
    wrong = [
        line["why"]
        for line in lines
        if (scores[10 if line["ten"] else 4][str(line["id"])]["value"] or 0) != line["want"]
    ]
    assert not wrong


@pytest.mark.parametrize("copied", ["input/53b-choice-options"], indirect=True)
def test_shapes_of_options(copied: Folder) -> None:
    for name in ("text.jsonl", "struct.jsonl", "kv.parquet", "map.parquet"):
        metric = {"type": "choice", "options": "options"}
        batchgen.score(name, [metric], reference="gold", output=f"out_{name}")
        scores = copied.scores(f"out_{name}").values()
        assert [(score["answer"], score["value"]) for score in scores] == [("A", 1), ("B", 1)], name


@pytest.mark.parametrize("copied", ["input/56-think"], indirect=True)
def test_marks_of_reasoning(copied: Folder) -> None:
    for line in read_lines(copied.path / "in.jsonl"):
        assert split_reasoning(line["response"]).response == line["gold"], line["why"]
        assert without_reasoning(line["response"]) == line["gold"], line["why"]


@pytest.mark.parametrize("copied", ["use/11-api-run-path"], indirect=True)
def test_a_job_runs_from_python(copied: Folder) -> None:
    assert "ok" in str(batchgen.run("ok.yaml"))
    assert "complete" in str(batchgen.run(batchgen.load_job("ok.yaml"), progress=True))
    assert (copied.path / "out" / "hurry" / "manifest.json").exists()


@pytest.mark.parametrize("copied", ["input/43-moved-project"], indirect=True)
def test_a_project_that_was_moved(copied: Folder) -> None:
    project = copied.path / "a"
    (project / "data").mkdir(parents=True)
    rows = [{"id": number, "q": f"question {number}"} for number in range(3)]
    write_lines(project / "data" / "in.jsonl", rows)
    script = (copied.path / "gen.sh").read_text("utf-8")
    (project / "job.yaml").write_text(script.split("<<'Y'\n")[1].split("\nY\n")[0], "utf-8")
    assert copied.call("run a/job.yaml")[0] == 0
    project.rename(copied.path / "b")
    for command in ("run b/job.yaml", "run b/job.yaml --retry-errors", "verify b/out", "score b/out --metric length"):  # fmt: skip
        code, printed = copied.call(command)
        assert code == 0, printed


def score_lines(
    folder: Folder, name: str, lines: Sequence[Mapping[str, object]], metric: object, reference: str
) -> dict[str, dict[str, Any]]:
    """Score answers whose ids are their positions."""
    write_lines(
        folder.path / f"{name}.jsonl",
        [{"id": n, **line} for n, line in enumerate(lines)],
    )
    out = f"scored_{name}"
    shown = shlex.quote(json.dumps(metric))
    code, printed = folder.call(
        f"score {name}.jsonl --metric {shown} --reference {reference} -o {out}"
    )
    assert code == 0, printed
    return folder.scores(out)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), "utf-8")
