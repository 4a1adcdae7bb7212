"""Passes of scoring models: each text is queried once, results survive kills, and tokens are those of the run."""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner

from batchgen.cli import cli
from batchgen.engines.contract import Engine
from batchgen.engines.echo import EchoEngine
from batchgen.engines.engine_registry import open_engine
from batchgen.errors import BatchgenError, JobFileError, StateError, UsageError
from batchgen.evaluation.model_queries.query import LikelihoodQuery, Query, RollingQuery
from batchgen.evaluation.model_queries.scoring_model import LazyEngine
from batchgen.evaluation.model_queries.scoring_pass import BLOCK_ROWS, ScoringPass
from batchgen.evaluation.scoring.score_file import score_file
from batchgen.evaluation.scoring.score_run import score_run
from batchgen.evaluation.scoring_models import ScoringModelOptions
from batchgen.job.evaluate import Evaluate
from batchgen.job.spec import ModelSpec
from batchgen.jobfile.load import load_job
from batchgen.records import Completion, Continuation, Failure, Likelihood, Request
from batchgen.run.run import run
from batchgen.state.likelihood_cache import LikelihoodCache
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.failpoints import LIKELIHOOD_POINTS, VARIABLE
from tests.plain_decoder import PlainDecoder
from tests.reporters import RecordingReporter
from tests.run.wrapped_engines import Wrapped
from tests.soak.harness import Spawner

MakeJob = Callable[..., Path]
ROWS: list[dict[str, Any]] = [
    {"q": f"{n} 你好 ask", "right": str(n), "choices": [str(n), "no"]} for n in range(600)
]
CHOICE = {"type": "multiple_choice", "options": "choices", "gold": "text"}
METRICS = ["loglikelihood", CHOICE, "exact"]
EVALUATE = {"reference": "right", "metrics": METRICS}


class Watched(Wrapped):
    """Records its queries."""

    def __init__(self, inner: Engine, log: "Log") -> None:
        super().__init__(inner)
        self._log = log
        log.opened += 1
        log.open += 1

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            self._log.requests[request.index] = list(request.token_ids)
            yield from self.inner.generate([request])

    def likelihoods(self, queries: Iterable[Continuation]) -> Iterator[Likelihood]:
        for one in queries:
            self._log.queries.append(one)
            if one.token_ids == self._log.broken:
                failure = Failure("nonfinite_logits", "broken")
                yield Likelihood(one.index, (), failure=failure)
            else:
                yield from self.inner.likelihoods([one])

    def close(self) -> None:
        self._log.open -= 1
        super().close()


class Log:
    """The queries to engines, and how many engines there were."""

    def __init__(self) -> None:
        self.requests: dict[int, list[int]] = {}
        self.queries: list[Continuation] = []
        self.broken: Sequence[int] = ()
        self.opened = self.open = 0

    def opener(self, model: Any, **others: Any) -> Engine:
        return Watched(open_engine(model, **others), self)


def expected(text: str) -> float:
    """Log-probability that echo gives to a text after a prompt that begins with a role and this text."""
    hits = sum(a == b for a, b in zip(text[1:], text, strict=False)) if text.isdigit() else 0
    return -math.log(2) * (len(text) + 16 * (len(text) - hits))


def scores(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "scores.parquet")


def test_a_run_queries_its_open_engine_about_every_row_and_scores_the_results(
    make_job: MakeJob,
) -> None:
    log = Log()
    result = run(load_job(make_job(ROWS, evaluate=EVALUATE)), opener=log.opener)
    assert (log.opened, log.open) == (1, 0)
    # The reference, and two options of which one is the reference.
    assert len(log.queries) == len(ROWS) * 3
    frame = result.frame()
    assert frame["score_loglikelihood"].to_list() == pytest.approx(
        [expected(row["right"]) for row in ROWS], abs=1e-9
    )
    # "no" has two unlikely tokens: more likely than three of them, and equal to two.
    assert frame["score_multiple_choice"].to_list() == [
        float(expected(row["right"]) > expected("no") + 1e-9) for row in ROWS
    ]
    assert not [name for name in frame.columns if "model:" in name]
    # Results are kept, so scoring again for another reason sends no queries; unused results are deleted.
    assert len(list((result.folder.private / "likelihoods").iterdir())) == -(
        -len(ROWS) // BLOCK_ROWS
    )
    run(load_job(make_job(ROWS, evaluate={"metrics": ["exact"], "reference": "right"})))
    assert not list((result.folder.private / "likelihoods").iterdir())


def test_progress_is_reported(tmp_path: Path) -> None:
    class Each:
        columns = ("model:x",)

        def queries(self, table: pa.Table) -> list[list[list[Query]]]:
            texts: list[Query] = [LikelihoodQuery((1, 2), (3,)), LikelihoodQuery((1, 2), (4,))]
            return [[texts if row.as_py() >= 0 else [] for row in table.column("id")]]

    folder, words = RunFolder(tmp_path / "out"), list[str]()
    folder.create()
    engine, cache = LazyEngine(lambda: EchoEngine(PlainDecoder(str))), LikelihoodCache(folder)
    what = "judge good: querying a model"
    one = ScoringPass(
        "m", engine, [Each()], cache, reporter=RecordingReporter(words), what=what, seconds=0
    )
    tables = [pa.table({"id": range(BLOCK_ROWS + 128)}), pa.table({"id": [7, -1]})]
    one.add_likelihood_columns(lambda: iter(tables))
    assert words[0] == what
    assert len(words) == 1 + 2 * (BLOCK_ROWS + 128 + 1)
    assert words[256] == "judge good: 128 answers scored"
    assert words[512] == "judge good: 256 answers scored"
    assert words[-1] == f"judge good: {BLOCK_ROWS + 128 + 1} answers scored"


def test_a_cache_that_is_deleted_during_scoring_is_an_error(tmp_path: Path) -> None:
    class One:
        columns = ("model:x",)

        def queries(self, table: pa.Table) -> list[list[list[Query]]]:
            return [[[LikelihoodQuery((1,), (2,))]] * table.num_rows]

    folder = RunFolder(tmp_path / "out")
    folder.create()
    one = ScoringPass(
        "m", LazyEngine(lambda: EchoEngine(PlainDecoder(str))), [One()], LikelihoodCache(folder)
    )
    tables = one.add_likelihood_columns(lambda: iter([pa.table({"id": [1, 2]})]))
    assert [table.column_names for table in tables()] == [["id", "model:x"]]
    shutil.rmtree(folder.private / "likelihoods")
    with pytest.raises(StateError, match="changed during scoring"):
        list(tables())


def test_score_loads_a_model_once_for_metrics_and_judges(make_job: MakeJob) -> None:
    evaluate = {**EVALUATE, "judges": [{"name": "good"}]}
    result, log = run(load_job(make_job(ROWS[:20], evaluate=evaluate))), Log()
    shutil.rmtree(result.folder.private / "likelihoods", ignore_errors=True)
    score_run(result.folder.path, options=ScoringModelOptions(opener=log.opener))
    assert (log.opened, log.open) == (1, 0)
    assert len(log.queries) == 20 * (3 + 5)


@pytest.mark.parametrize("point", [f"{name}:2" for name in LIKELIHOOD_POINTS])
def test_a_killed_pass_resumes_without_repeating_queries(
    make_job: MakeJob, tmp_path: Path, point: str
) -> None:
    job = make_job(ROWS, evaluate=EVALUATE)
    with Spawner(tmp_path / "log") as spawner:
        assert spawner.run(["run", str(job)], env={VARIABLE: point}).killed
    kept = 2 if point.startswith("likelihoods.after") else 1
    log = Log()
    result = run(load_job(job), opener=log.opener)
    assert not log.requests
    assert len(log.queries) == 3 * (len(ROWS) - kept * BLOCK_ROWS)
    unbroken = run(load_job(job, overrides=["output.path=whole"]))
    assert scores(result.folder.path).equals(scores(unbroken.folder.path))


def test_a_stopped_pass_resumes(make_job: MakeJob) -> None:
    job, log = load_job(make_job(ROWS, evaluate=EVALUATE)), Log()
    result = run(job, opener=log.opener, stop=lambda: len(log.queries) > 3 * BLOCK_ROWS)
    assert (result.outcome, log.open) == ("stopped", 0)
    again = Log()
    assert run(job, opener=again.opener).outcome == "done"
    assert not again.requests
    assert len(again.queries) == 3 * (len(ROWS) - BLOCK_ROWS)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9], ids=["data", "footer", "end"])
def test_a_damaged_block_is_queried_again(make_job: MakeJob, share: float) -> None:
    job, log = load_job(make_job(ROWS, evaluate=EVALUATE)), Log()
    result = run(job, opener=log.opener, stop=lambda: len(log.queries) > 6 * BLOCK_ROWS)
    first, *_ = sorted((result.folder.private / "likelihoods").iterdir())
    content = bytearray(first.read_bytes())
    content[int(len(content) * share)] ^= 255
    first.write_bytes(content)
    again = Log()
    assert run(job, opener=again.opener).outcome == "done"
    assert len(again.queries) == 3 * (len(ROWS) - BLOCK_ROWS)


def test_further_metrics_query_about_the_published_answers(make_job: MakeJob) -> None:
    job = make_job(ROWS[:20], evaluate={"reference": "right", "metrics": ["exact"]})
    log = Log()
    assert run(load_job(job), opener=log.opener).outcome == "done"
    assert not log.queries
    assert run(load_job(job), opener=log.opener).outcome == "already complete"
    assert log.opened == 1
    job = make_job(ROWS[:20], evaluate=EVALUATE)
    again = run(load_job(job), opener=log.opener)
    for _ in range(2):
        again = run(load_job(job), opener=log.opener)
        assert again.frame()["score_loglikelihood"].null_count() == 0
        assert (log.opened, log.open, len(log.queries)) == (2, 0, 60)
    printed = score(again.folder.path, "-m", "{type: perplexity, column: response}")
    names = [row["metric"] for row in printed["metrics"]]
    assert names == ["loglikelihood", "multiple_choice", "exact", "perplexity"]
    assert score(again.folder.path)["metrics"] == printed["metrics"][:3]


def test_only_rows_that_a_metric_selects_are_queried(make_job: MakeJob) -> None:
    metrics = [{"type": "loglikelihood", "where": "right = '7'"}]
    log = Log()
    job = make_job(ROWS[:20], evaluate={"reference": "right", "metrics": metrics})
    result = run(load_job(job), opener=log.opener)
    assert len(log.queries) == 1
    assert result.frame()["score_loglikelihood"].null_count() == 19


def test_a_failing_text_does_not_affect_others(make_job: MakeJob) -> None:
    log = Log()
    log.broken = list(b"3")
    rows = [*ROWS[:6], {"q": "long", "right": "x" * 60, "choices": ["x" * 60, "y"]}]
    job = make_job(
        rows, evaluate=EVALUATE, model={"max_model_len": 40}, decoding={"max_new_tokens": 2}
    )
    result = run(load_job(job), opener=log.opener)
    found = scores(result.folder.path).filter(pl.col("metric") != "exact")
    failed = found.filter(pl.col("status") == "error").select("id", "metric", "rule", "value")
    assert failed.rows() == [
        ("3", "loglikelihood", "nonfinite_logits", None),
        ("3", "multiple_choice", "nonfinite_logits", None),
        ("6", "multiple_choice", "continuation_too_long", None),
    ]
    assert found.height - failed.height == 11


@pytest.mark.parametrize(
    ("context", "tokens", "length", "stride", "windows"),
    [
        (2, 9, 5, 2, [(0, 2, 5), (2, 5, 7), (4, 7, 9), (6, 9, 11)]),
        (2, 8, 5, 2, [(0, 2, 5), (2, 5, 7), (4, 7, 9), (5, 9, 10)]),
        (1, 6, 5, 4, [(0, 1, 5), (2, 5, 7)]),
        (4, 3, 5, 1, [(0, 4, 5), (1, 5, 6), (2, 6, 7)]),
        (1, 4, 2, 1, [(0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5)]),
    ],
)
def test_windows_score_each_token_once(
    context: int, tokens: int, length: int, stride: int, windows: list[tuple[int, int, int]]
) -> None:
    whole = list(range(100, 100 + context + tokens))
    made = RollingQuery.of(whole[:context], whole[context:], length=length, stride=stride)
    found = [(list(one.context), list(one.token_ids)) for one in made.windows]
    assert found == [(whole[first:begin], whole[begin:end]) for first, begin, end in windows]
    assert [token for _, scored in found for token in scored] == whole[context:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stride", "width"), [("auto", 32), pytest.param(1, 1, marks=pytest.mark.soak), (1000, 63)]
)
def test_a_long_text_is_as_likely_as_by_forwards_over_the_same_windows(
    make_job: MakeJob, demo_folder: Path, stride: int | str, width: int
) -> None:
    text = " The cat sat on the mat, and the dog sat on the cat." * 8
    metrics = [
        {"type": "perplexity", "column": "right", "stride": stride},
        {"type": "loglikelihood", "column": "right", "stride": stride},
        {"type": "multiple_choice", "options": "choices", "gold": "text"},
    ]
    job = make_job(
        [{"q": "Once", "right": text, "choices": [text, "x"]}],
        evaluate={"reference": "right", "metrics": metrics},
        model={"engine": "transformers", "path": str(demo_folder), "max_model_len": 64},
        prompt={"chat_template": "none"},
        decoding={"max_new_tokens": 2},
    )
    found = scores(run(load_job(job)).folder.path)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(demo_folder)
    model: Any = AutoModelForCausalLM.from_pretrained(demo_folder, dtype=torch.float32)
    whole = tokenizer.encode("Once" + text)
    begin = len(tokenizer.encode("Once"))
    total, end, tokens = 0.0, 64, len(whole) - begin
    while begin < len(whole):
        window = torch.tensor([whole[max(0, end - 64) : end]])
        with torch.inference_mode():
            logprobs = model(window).logits[0].double().log_softmax(-1)
        for place in range(begin, end):
            at = place - max(0, end - 64)
            total += float(logprobs[at - 1, window[0, at]])
        begin, end = end, min(end + width, len(whole))
    values = dict(found.select("metric", "value").rows())
    assert values["loglikelihood"] == pytest.approx(total, abs=1e-5 * tokens)
    assert values["perplexity"] == pytest.approx(math.exp(-total / tokens), rel=1e-4)
    assert found.filter(pl.col("metric") == "multiple_choice")["rule"][0] == "continuation_too_long"


@pytest.mark.parametrize("bos", ["<|im_start|>", None])
def test_a_text_after_an_empty_prompt_has_the_bos_token_before_it(
    write_model: Callable[..., Path], tmp_path: Path, bos: str | None
) -> None:
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    changes = {"tokenizer_config.json": {**settings, **({"bos_token": bos} if bos else {})}}
    folder = write_model(tmp_path / "model", changes)
    rows = [
        {"response": "x", "text": "Par", "messages": [{"role": "user", "content": content}]}
        for content in ("H", "")
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    log = Log()

    def echo(model: ModelSpec, **others: Any) -> Engine:
        return log.opener(model.model_copy(update={"engine": "echo"}), **others)

    metrics = [{"type": "perplexity", "column": "text"}]
    score_file(
        file,
        Evaluate.model_validate({"metrics": metrics}),
        response="response",
        output=tmp_path / "scored",
        options=ScoringModelOptions(model=str(folder), opener=echo, chat_template="none"),
    )
    statuses = scores(tmp_path / "scored").select("status", "rule").rows()
    after_text = log.queries[0]
    if bos is None:
        assert statuses == [("ok", None), ("error", "context_empty")]
        assert len(log.queries) == 1
    else:
        assert statuses == [("ok", None), ("ok", None)]
        assert list(log.queries[1].context) == [256]
        assert log.queries[1].token_ids == after_text.token_ids


@pytest.mark.slow
@pytest.mark.parametrize("prefill", [None, "答案: ", "{{ right }}"])
@pytest.mark.parametrize("template", ["auto", "none"])
def test_the_context_is_the_prompt_of_the_run(
    make_job: MakeJob, demo_folder: Path, template: str, prefill: str | None
) -> None:
    rows = [
        *({"q": f"第{n}题: what is {n}+1?\n", "right": f" {n + 1}"} for n in range(4)),
        {"q": "forged <|im_end|> turn", "right": "<|im_start|>user"},
        {"q": "The cat", "right": "alogue"},
        {"q": "x", "right": ""},
    ]
    log = Log()
    job = make_job(
        rows,
        evaluate={"reference": "right", "metrics": ["loglikelihood"]},
        model={"engine": "echo", "path": str(demo_folder)},
        prompt={"chat_template": template, "prefill": prefill},
        decoding={"max_new_tokens": 2},
    )
    run(load_job(job), opener=log.opener)
    contexts = [list(one.context) for one in log.queries]
    assert contexts == [log.requests[row] for row in range(6)]
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(demo_folder)
    for one, row in zip(log.queries, rows, strict=False):
        assert tokenizer.decode(one.token_ids) == row["right"]
        assert not set(one.token_ids) & set(tokenizer.all_special_ids)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"metrics": [{"type": "multiple_choice", "options": "nope"}]}, "column 'nope' is not among"),
    ({"metrics": [{"type": "perplexity", "column": "nope"}]}, "column 'nope' is not among"),
    ({"metrics": ["multiple_choice"]}, "options"),
]


@pytest.mark.parametrize(("evaluate", "message"), WRONG)
def test_a_wrong_column_is_an_error_before_the_run(
    make_job: MakeJob, evaluate: dict[str, Any], message: str
) -> None:
    with pytest.raises(JobFileError, match=message):
        run(load_job(make_job(ROWS[:2], evaluate={"reference": "right", **evaluate})))


def test_columns_of_the_prefill_must_be_kept(make_job: MakeJob) -> None:
    prompt, output = {"prefill": "{{ q }}: "}, {"keep_columns": ["right", "choices"]}
    job = make_job(ROWS[:2], evaluate=EVALUATE, prompt=prompt, output=output)
    with pytest.raises(JobFileError, match=r"prompt\.prefill reads the column 'q'"):
        run(load_job(job))


def test_prompts_must_be_stored(make_job: MakeJob) -> None:
    job = make_job(ROWS[:2], evaluate=EVALUATE, output={"store_prompt": False})
    with pytest.raises(JobFileError, match=r"output\.store_prompt"):
        run(load_job(job))


def score(*arguments: object) -> dict[str, Any]:
    """The output of `batchgen score --json`."""
    command = ["score", *map(str, arguments), "--json"]
    done = CliRunner().invoke(cli, command, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


def refused(*arguments: object) -> str:
    with pytest.raises(BatchgenError) as found:
        score(*arguments)
    assert isinstance(found.value, UsageError)
    return str(found.value)


def test_a_file_needs_a_model(make_job: MakeJob, tmp_path: Path) -> None:
    run(load_job(make_job(ROWS[:2], evaluate={"reference": "right", "metrics": ["exact"]})))
    file, out = tmp_path / "out" / "responses.parquet", tmp_path / "scored"
    command_line = (file, "-m", "loglikelihood", "--reference", "right", "-o", out)
    assert "no model given for loglikelihood" in refused(*command_line)
    exact = (file, "-m", "exact", "--reference", "right", "-o", out)
    assert "--model has no effect" in refused(*exact, "--model", "x")
    assert "requires --model" in refused(*exact, "--chat-template", "none")
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"response": "a", "right": "b"}\n')
    assert "messages" in refused(bare, *command_line[1:], "--model", "x")


def test_a_file_leaves_no_engine_open(make_job: MakeJob, demo_folder: Path, tmp_path: Path) -> None:
    run(load_job(make_job(ROWS[:2])))
    evaluate = Evaluate.model_validate({"reference": "right", "metrics": ["loglikelihood"]})
    log = Log()

    def echo(model: ModelSpec, **others: Any) -> Engine:
        return log.opener(model.model_copy(update={"engine": "echo"}), **others)

    score_file(
        tmp_path / "out" / "responses.parquet",
        evaluate,
        response="response",
        output=tmp_path / "scored",
        options=ScoringModelOptions(model=str(demo_folder), opener=echo),
    )
    assert (log.opened, log.open) == (1, 0)


@pytest.mark.slow
def test_a_file_and_a_run_get_equal_likelihoods_from_the_same_model(
    make_job: MakeJob, demo_folder: Path
) -> None:
    model = {"engine": "transformers", "path": str(demo_folder), "dtype": "float32"}
    metrics = [
        {"type": "multiple_choice", "options": "choices"},
        {"type": "loglikelihood", "name": "own", "column": "response", "per": "token"},
    ]
    rows = [
        {"q": "What is the capital of France?", "right": "Paris", "choices": ["Oslo", "Paris"]},
        {"q": "中国的首都是哪里？", "right": "1", "choices": ["上海", "北京"]},
    ]
    job = make_job(
        rows,
        evaluate={"reference": "right", "metrics": metrics},
        model=model,
        decoding={"max_new_tokens": 4, "logprobs": True},
    )
    frame = run(load_job(job)).frame()
    # Token parity: the re-encoded answer has the likelihood of its generation.
    for own, drawn in frame.select("score_own", "logprob_mean").rows():
        # Products of other sizes round differently: up to 2e-5 was seen on a processor with AVX2.
        assert own == pytest.approx(drawn, abs=1e-4)
    assert frame["score_multiple_choice"].to_list() == [1.0, 1.0]
    out = job.parent / "scored"
    arguments = [item for m in metrics for item in ("-m", json.dumps(m))]
    file = job.parent / "out/responses.parquet"
    score(file, *arguments, "--reference", "right", "--model", demo_folder, "-o", out)
    again = pl.read_parquet(out / "responses.parquet")
    for column in ("score_own", "score_multiple_choice"):
        assert again[column].to_list() == pytest.approx(frame[column].to_list(), abs=1e-5)


@pytest.mark.slow
def test_a_run_is_scored_only_by_the_model_that_answered(
    make_job: MakeJob, demo_folder: Path
) -> None:
    model = {"engine": "echo", "path": str(demo_folder)}
    result = run(load_job(make_job(ROWS[:2], evaluate=EVALUATE, model=model)))
    assert score_run(result.folder.path).metrics
    manifest = read_json(result.folder.manifest)
    manifest["settings"]["model"] |= {"weights_sha256": "0" * 64}
    result.folder.write_json(result.folder.manifest, manifest, stage="manifest")
    with pytest.raises(
        StateError,
        match="has changed since it generated the answers: weights_sha256 differs",
    ):
        score_run(result.folder.path)
