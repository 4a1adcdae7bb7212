"""Runs whose answers are judged: scores, intervals and gates; judged again only when the rubric changes."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.engines.contract import Engine
from batchgen.engines.echo import EchoEngine
from batchgen.errors import ExitCode, JobFileError
from batchgen.evaluation.judging.baseline_answers import baseline_record, open_baseline
from batchgen.evaluation.scoring.score_run import score_run
from batchgen.jobfile.load import load_job
from batchgen.prompts.byte_tokenizer import ByteTokenizer
from batchgen.records import AnswerDecoder, Completion, Continuation, InFlight, Likelihood, Request
from batchgen.run.result import RunResult
from batchgen.run.run import run
from batchgen.state.run_folder import read_json

MakeJob = Callable[..., Path]
ROWS: list[dict[str, Any]] = [
    {"q": "good", "other": "bad", "lang": "en"},
    {"q": "bad", "other": "good", "lang": "en"},
    {"q": "fair", "other": "fair", "lang": "zh"},
    {"q": "mute", "other": None, "lang": "zh"},
    {"q": None, "other": "good", "lang": "zh"},
]
WORTH = {"good": 5, "fair": 3, "bad": 1}


@dataclass
class Opinionated:
    """Answers like echo, and judges by a table of a few words; it gives no verdict on others and slightly favours A."""

    queries: list[str] = field(default_factory=list)
    opened: int = 0

    name = "opinionated"

    def __call__(self, *_: Any, decode: AnswerDecoder, **__: Any) -> Engine:
        """Opens it, as `engines.engine_registry.open_engine` does."""
        self.opened += 1
        self.echo = EchoEngine(decode)
        return self

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        return self.echo.generate(requests)

    def likelihoods(self, queries: Iterable[Continuation]) -> Iterator[Likelihood]:
        for one in queries:
            text = ByteTokenizer().decode(one.context)
            self.queries.append(text)
            label = ByteTokenizer().decode(one.token_ids)
            yield Likelihood(one.index, (math.log(_chance(text, label)),))

    def in_flight(self) -> InFlight:
        return InFlight()

    def facts(self) -> Mapping[str, object]:
        return {}

    def close(self) -> None:
        pass


def _chance(text: str, label: str) -> float:
    words = re.findall(r"<answer-\S+>\n(\w+)", text)
    worth = [WORTH.get(word, 0) for word in words]
    if not worth or not all(worth):
        return 0.01  # another token than a label
    if len(worth) == 1:
        return 0.8 if label == str(worth[0]) else 0.02
    first = {True: 0.8, False: 0.2}[worth[0] > worth[1]] if worth[0] != worth[1] else 0.6
    return first if label == "A" else 0.9 - first


def judged(
    make_job: MakeJob, engine: Opinionated, *judges: Mapping[str, Any], **more: Any
) -> RunResult:
    evaluate = {"judges": list(judges), **more.pop("evaluate", {})}
    job = make_job(ROWS, evaluate=evaluate, run={"max_error_rate": 1}, **more)
    return run(load_job(job), opener=engine)


def metrics(result: RunResult) -> dict[tuple[str, str], dict[str, Any]]:
    frame = pl.read_parquet(result.folder.metrics)
    return {(row["metric"], row["slice"]): row for row in frame.to_dicts()}


RUBRIC = {"name": "good"}
PAIRWISE = {"name": "vs", "mode": "pairwise", "column": "other"}
# 0.8 on one label, 0.02 on the four others.
FIVE, THREE, ONE = ((0.8 * w + 0.02 * (15 - w)) / 0.88 for w in (5, 3, 1))


def test_scores_by_a_rubric_are_columns_of_the_answers(make_job: MakeJob) -> None:
    result = judged(make_job, Opinionated(), RUBRIC, evaluate={"slices": ["lang"]})
    frame = result.frame()
    assert frame["score_good"].to_list() == pytest.approx([FIVE, ONE, THREE, None, None])
    assert frame["score_good_label_mass"].to_list() == pytest.approx([0.88, 0.88, 0.88, 0.05, None])
    found = metrics(result)
    assert found["good", "all"]["value"] == pytest.approx(3)
    assert (found["good", "all"]["n"], found["good", "all"]["coverage"]) == (3, 0.6)
    assert (found["good", "lang=en"]["n"], found["good", "lang=zh"]["n"]) == (2, 1)
    assert found["good", "all"]["method"] == "t"
    detail = pl.read_parquet(result.folder.scores).filter(pl.col("metric") == "good")
    assert detail["status"].to_list() == ["ok", "ok", "ok", "unparsed", "skipped"]
    assert detail["answer"].to_list() == ["5", "1", "3", None, None]


def test_a_pair_is_won_only_in_both_orders(make_job: MakeJob) -> None:
    result = judged(make_job, Opinionated(), PAIRWISE)
    frame = result.frame()
    assert frame["score_vs"].to_list() == [1.0, 0.0, 0.5, None, None]
    found = {name: row for (name, _), row in metrics(result).items()}
    values = {
        name: None if row["value"] is None else round(row["value"], 6)
        for name, row in found.items()
    }
    assert values == {
        "vs": 0.5,
        "vs_preference": 0.5,
        "vs_tie": 0.333333,
        "vs_position_flip": 0.333333,
        "vs_first_position": 0.666667,
        "vs_label_mass": 0.9,
    }
    assert found["vs"]["coverage"] == 0.6
    assert found["vs"]["ci_low"] is not None


def test_several_answers_to_one_prompt_are_a_cluster(make_job: MakeJob) -> None:
    result = judged(make_job, Opinionated(), RUBRIC, decoding={"n": 2, "temperature": 1})
    row = metrics(result)["good", "all"]
    assert (row["n"], row["method"]) == (6, "t, clustered")


def test_answers_are_paired_with_another_run_by_id_and_prompt(make_job: MakeJob) -> None:
    rows = [{"id": str(k), "q": q} for k, q in enumerate(["bad", "good", "fair", "good"])]
    base = run(load_job(make_job(rows, output={"path": "base"}, prompt={"user": "{{ q }}"})))
    assert base.outcome == "done"
    rows = [{"id": str(k), "q": q} for k, q in enumerate(["bad", "fair", "fair", "good", "good"])]
    judge = {"name": "vs", "mode": "pairwise", "baseline": "base"}
    job = make_job(rows, evaluate={"judges": [judge]})
    result = run(load_job(job), opener=Opinionated())
    detail = pl.read_parquet(result.folder.scores).filter(pl.col("metric") == "vs")
    # The prompt of the second row changed, the last row is new.
    assert detail["status"].to_list() == ["ok", "skipped", "ok", "ok", "skipped"]
    assert detail["rule"].to_list()[1::3] == ["different_prompt", "no_baseline"]
    assert metrics(result)["vs", "all"]["coverage"] == 0.6


def test_a_baseline_whose_answers_changed_is_judged_again(make_job: MakeJob) -> None:
    rows = [{"id": "1", "q": "bad"}]
    base = run(load_job(make_job(rows, output={"path": "base"}, prompt={"user": "{{ q }}"})))
    before = baseline_record(open_baseline(base.folder.path))
    assert baseline_record(open_baseline(base.folder.path)) == before
    manifest = read_json(base.folder.manifest)
    # As `--retry-errors` leaves it, whose failed rows have answers now.
    later = {**manifest, "finished_at": "2100-01-01T00:00:00+00:00"}
    base.folder.write_json(base.folder.manifest, later, stage="manifest")
    assert baseline_record(open_baseline(base.folder.path)) != before


def test_a_judge_without_a_verdict_gives_unparsed_not_zero(make_job: MakeJob) -> None:
    """The engine echo gives no verdict."""
    result = run(load_job(make_job(ROWS[:3], evaluate={"judges": [RUBRIC, PAIRWISE]})))
    detail = pl.read_parquet(result.folder.scores)
    assert set(detail.filter(pl.col("metric").is_in(["good", "vs"]))["status"]) == {"unparsed"}
    assert metrics(result)["good", "all"]["value"] is None
    assert metrics(result)["good", "all"]["coverage"] == 0


def test_answers_are_judged_again_only_by_another_rubric(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text("Is it good?")
    judge = {"name": "good", "rubric_file": "good.md"}
    first = Opinionated()
    judged(make_job, first, judge)
    assert len(first.queries) == 4 * 5
    assert all("Is it good?" in text for text in first.queries)
    again = Opinionated()
    assert judged(make_job, again, judge).outcome == "already complete"
    assert again.opened == 0
    more = Opinionated()
    result = judged(make_job, more, judge, evaluate={"metrics": ["length"]})
    assert (more.opened, more.queries) == (0, [])
    assert result.frame()["score_good"].to_list()[0] == pytest.approx(FIVE)
    (tmp_path / "good.md").write_text("Is it short?")
    other = Opinionated()
    judged(make_job, other, judge)
    assert len(other.queries) == 4 * 5
    assert all("Is it short?" in text for text in other.queries)


def test_the_command_score_judges_again(make_job: MakeJob) -> None:
    result = judged(make_job, Opinionated(), RUBRIC)
    scored = score_run(result.folder.path)
    values = {row.metric: row.value for row in scored.metrics}
    assert values["good"] == pytest.approx(3)


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        pytest.param(
            {"metric": "good", "min": 2.9, "min_coverage": 0.6}, ExitCode.DONE, id="good enough"
        ),
        pytest.param(
            {"metric": "good", "min": 3.1, "min_coverage": 0.6},
            ExitCode.GATE_FAILED,
            id="not good enough",
        ),
        pytest.param({"metric": "good", "min": 2.9}, ExitCode.GATE_FAILED, id="too few scores"),
        pytest.param({"metric": "good_label_mass", "min": 0.9}, ExitCode.GATE_FAILED, id="mass"),
        pytest.param({"metric": "good", "min_coverage": 0.9}, ExitCode.GATE_FAILED, id="coverage"),
    ],
)
def test_gates_may_use_judges(make_job: MakeJob, gate: dict[str, Any], code: ExitCode) -> None:
    result = judged(make_job, Opinionated(), RUBRIC, evaluate={"gates": [gate]})
    assert result.exit_code == code


def test_all_contradictions_are_reported_together(make_job: MakeJob) -> None:
    judges = [
        {"name": "a", "rubric_file": "gone.md"},
        {"name": "b", "mode": "pairwise", "baseline": "gone"},
        {"name": "c", "mode": "pairwise", "column": "gone"},
        {"name": "length_words", "where": "lang = 'en'"},
    ]
    evaluate = {
        "judges": judges,
        "metrics": [{"type": "length", "units": ["words"]}],
        "gates": [{"metric": "a_position_flip", "max": 0}],
    }
    with pytest.raises(JobFileError) as caught:
        run(load_job(make_job(ROWS, evaluate=evaluate)))
    assert [p.key for p in caught.value.problems] == [
        "evaluate.gates[0].metric",
        "evaluate.judges[0].rubric_file",
        "evaluate.judges[1].baseline",
        "evaluate.judges[2].column",
        "evaluate.judges[3]",
    ]


def test_a_run_that_is_stopped_while_judging_resumes(make_job: MakeJob) -> None:
    rows = [{"q": f"{word} {k}"} for k in range(300) for word in ("good", "bad")]
    job = make_job(rows, evaluate={"judges": [RUBRIC]})
    first = Opinionated()
    stopped = run(load_job(job), opener=first, stop=lambda: len(first.queries) >= 5 * 300)
    assert stopped.outcome == "stopped"
    assert not stopped.folder.manifest.exists()
    again = Opinionated()
    result = run(load_job(job), opener=again)
    assert result.outcome == "done"
    assert result.frame()["score_good"].to_list() == pytest.approx([FIVE, ONE] * 300)
    # A block of 256 answers was complete.
    assert len(again.queries) == 5 * (600 - 256)


def test_judges_of_one_model_share_its_engine(make_job: MakeJob) -> None:
    engine = Opinionated()
    other = {**RUBRIC, "name": "other", "language": "zh", "model": {"engine": "echo"}}
    judged(make_job, engine, RUBRIC, other, PAIRWISE)
    assert engine.opened == 1
