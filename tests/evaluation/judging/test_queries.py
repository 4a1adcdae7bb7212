"""A block of answers and a judge: the queries, their order, and the results."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen.evaluation.answers import ColumnMap
from batchgen.evaluation.judging.baseline_answers import AnswerKey
from batchgen.evaluation.judging.prepare_judges import PreparedJudge, prepare_judges
from batchgen.evaluation.judging.queries import JudgedAnswer, JudgeQueries, queries_of
from batchgen.evaluation.judging.scores import JudgeResult, judge_metrics
from batchgen.evaluation.judging.verdicts import verdict_reader
from batchgen.evaluation.model_queries.query import KnownResult, LikelihoodQuery, Query
from batchgen.job.judge import Judge
from batchgen.jobfile.load import load_job
from batchgen.metrics.base import Answer
from batchgen.progress import SILENT
from batchgen.prompts.byte_tokenizer import ByteTokenizer
from batchgen.records import Continuation, Failure, Likelihood

MakeJob = Callable[..., Path]
Model = Callable[[Continuation], Likelihood]


QUESTION = [{"role": "user", "content": "q"}]
ROWS = [{"q": "x", "other": "y"}]


@pytest.fixture
def ready(make_job: MakeJob) -> Callable[..., PreparedJudge]:
    """A judge without a model, from its options."""

    def made(**judge: Any) -> PreparedJudge:
        section = {"judges": [{"name": "j", **judge}], "reference": "q"}
        (one,) = prepare_judges(load_job(make_job(ROWS, evaluate=section)), None, SILENT)
        return one

    return made


def by_hash(one: Continuation) -> Likelihood:
    """Any log-probability that depends only on context and label."""
    seen = hashlib.blake2b(repr((list(one.context), list(one.token_ids))).encode(), digest_size=4)
    chance = 0.25 + 0.24 * int.from_bytes(seen.digest()) / 2**32
    return Likelihood(one.index, (math.log(chance),))


def with_messages(answered: Answer, *turns: tuple[str, str]) -> JudgedAnswer:
    messages = [{"role": role, "content": content} for role, content in turns or [("user", "q")]]
    return JudgedAnswer(answered, messages, AnswerKey(answered.id, answered.sample, None))


def judged(
    one: PreparedJudge, answers: Sequence[Answer], model: Model = by_hash
) -> list[JudgeResult | None]:
    """The judgements of answers by a model of log-probabilities."""
    rows = [{**a.fields, "response": a.response, "messages": QUESTION} for a in answers]
    table = pa.Table.from_pylist(rows)
    source = JudgeQueries(one, ColumnMap("response", messages="messages"), table.schema)
    (texts,) = source.queries(table)
    cells = [[entry(text, model) for text in of_row] for of_row in texts]
    fields = [{**a.fields, source.columns[0]: c} for a, c in zip(answers, cells, strict=True)]
    return [verdict_reader(one)(Answer("1", 0, "", fields=of_row)) for of_row in fields]


def contexts(one: PreparedJudge, about: JudgedAnswer) -> list[str]:
    """The judge's prompt before each of its labels."""
    (queries,) = queries_of(one, [about])
    return [
        ByteTokenizer().decode(text.context)
        for text in queries
        if isinstance(text, LikelihoodQuery)
    ]


def read(one: PreparedJudge, about: JudgedAnswer) -> str:
    return contexts(one, about)[0]


def entry(text: Query, model: Model) -> dict[str, Any]:
    """A text as the judge stores it."""
    likelihood = (
        model(Continuation(0, text.context, text.token_ids))
        if isinstance(text, LikelihoodQuery)
        else None
    )
    failure = text if isinstance(text, Failure) else likelihood.failure if likelihood else None
    return {
        "logprob": likelihood.total if likelihood else 0.0,
        "tokens": 1,
        "greedy": False,
        "failure": failure.code if failure else None,
        "note": None if isinstance(text, Failure) else text.note,
    }


def values(judge: Judge, found: JudgeResult | None) -> dict[str, float]:
    """The numbers of a judgement, by the suffix of their names."""
    scores = [metric.score(ANSWER) for metric in judge_metrics(judge, lambda _: found, "")]
    return {s.metric.removeprefix("j"): s.value for s in scores if s.value is not None}


def answer(response: str, other: str | None = None, **more: Any) -> Answer:
    return Answer("1", 0, response, fields={"other": other}, **more)


ANSWER = answer("said")


@given(st.text(max_size=20), st.text(max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_pair_has_the_same_judgement_from_both_sides(
    ready: Callable[..., PreparedJudge], one: str, other: str
) -> None:
    """Swapped answers give the same two queries: a win of one side is a loss of the other."""
    pairwise = ready(mode="pairwise", column="other")
    found = judged(pairwise, [answer(one, other), answer(other, one)])
    here, there = (values(pairwise.judge, judgement) for judgement in found)
    for name in ("", "_preference"):
        assert here[name] + there[name] == pytest.approx(1)
    for name in ("_tie", "_position_flip", "_first_position", "_label_mass"):
        assert here.get(name) == there.get(name)


def test_both_orders_are_queried_with_each_label_after_the_same_context(
    ready: Callable[..., PreparedJudge],
) -> None:
    pairwise = ready(mode="pairwise", column="other")
    about = with_messages(answer("mine", "yours"))
    (queries,) = queries_of(pairwise, [about])
    labels = [bytes(one.token_ids) for one in queries if isinstance(one, LikelihoodQuery)]
    assert labels == [b"A", b"B", b"A", b"B"]
    texts = contexts(pairwise, about)
    assert texts[0] == texts[1]
    assert texts[0].index("mine") < texts[0].index("yours")
    assert texts[2].index("yours") < texts[2].index("mine")


@pytest.mark.parametrize(
    ("options", "judged_answer", "expected"),
    [
        pytest.param({}, answer(" \n"), JudgeResult("empty"), id="empty"),
        pytest.param(
            {"mode": "pairwise", "column": "other"},
            answer("", "x"),
            JudgeResult("empty"),
            id="empty against something",
        ),
        pytest.param(
            {"mode": "pairwise", "column": "other"},
            answer("x", ""),
            JudgeResult("empty_baseline"),
            id="something against empty",
        ),
        pytest.param(
            {"mode": "pairwise", "column": "other"},
            answer("", " "),
            JudgeResult("both_empty"),
            id="nothing against nothing",
        ),
        pytest.param(
            {"mode": "pairwise", "column": "other"},
            answer("x", None),
            JudgeResult("no_baseline"),
            id="no other",
        ),
        pytest.param(
            {"mode": "pairwise", "column": "other"},
            replace(answer("x"), fields={"other": {"text": "y"}}),
            JudgeResult("unreadable"),
            id="another of an unknown form",
        ),
    ],
)
def test_a_known_result_is_not_queried(
    ready: Callable[..., PreparedJudge],
    options: dict[str, Any],
    judged_answer: Answer,
    expected: JudgeResult,
) -> None:
    def nobody(one: Continuation) -> Likelihood:
        raise AssertionError(one.index)

    assert judged(ready(**options), [judged_answer], nobody) == [expected]


@pytest.mark.parametrize(("reference", "state"), [("show", "unreadable"), ("hide", None)])
def test_a_reference_of_an_unknown_form_is_not_shown(
    ready: Callable[..., PreparedJudge], reference: str, state: str | None
) -> None:
    about = with_messages(replace(ANSWER, readable=False))
    (queries,) = queries_of(ready(reference=reference), [about])
    known = [one.note for one in queries if isinstance(one, KnownResult)]
    assert known == ([state] if state else [])


def test_an_engine_failure_affects_only_its_answer(
    ready: Callable[..., PreparedJudge],
) -> None:
    failure = Failure("nonfinite_logits", "the model's logits are not finite")

    def fails(one: Continuation) -> Likelihood:
        broken = b"bad" in bytes(i for i in one.context if i < 256)
        return Likelihood(one.index, (), failure=failure) if broken else by_hash(one)

    found = judged(ready(), [answer("good"), answer("bad"), answer("good")], fails)
    assert found[1] == JudgeResult("failed", code="nonfinite_logits")
    assert found[0] == found[2]
    assert found[0] is not None
    assert found[0].state == "judged"


@pytest.mark.parametrize(
    ("turns", "shown"),
    [
        pytest.param([("user", "2 + 2?")], "\n2 + 2?\n</question", id="one question"),
        pytest.param(
            [("system", "Be short."), ("user", "1?"), ("assistant", "1"), ("user", "2?")],
            "\n[system]\nBe short.\n\n[user]\n1?\n\n[assistant]\n1\n\n[user]\n2?\n</question",
            id="solved examples",
        ),
    ],
)
def test_turns_are_distinguished(
    ready: Callable[..., PreparedJudge], turns: list[tuple[str, str]], shown: str
) -> None:
    assert shown in read(ready(), with_messages(ANSWER, *turns))


def test_without_messages_the_prompt_has_no_question(
    ready: Callable[..., PreparedJudge],
) -> None:
    assert "<question" not in read(ready(), JudgedAnswer(ANSWER, None, AnswerKey("1", 0, None)))


def test_the_reference_is_shown_only_if_the_job_sets_it(
    ready: Callable[..., PreparedJudge],
) -> None:
    answered = answer("a", references=("the truth", "another"))
    for reference, shown in (("hide", False), ("show", True)):
        text = read(ready(reference=reference), with_messages(answered))
        assert ("the truth" in text) == shown
        assert "another" not in text


def test_rows_outside_where_and_without_a_response_are_not_queried(
    ready: Callable[..., PreparedJudge],
) -> None:
    one = ready(where="other = 'y'")
    table = pa.table({"response": ["a", None, "b"], "other": ["y", "y", "n"]})
    source = JudgeQueries(one, ColumnMap("response"), table.schema)
    (texts,) = source.queries(table)
    assert list(map(len, texts)) == [5, 0, 0]


def test_a_label_that_begins_a_longer_one_excludes_its_probability(
    ready: Callable[..., PreparedJudge],
) -> None:
    """Byte by byte, 10 begins with 1."""
    chances = {b"1": 0.5, b"10": 0.3}

    def model(one: Continuation) -> Likelihood:
        return Likelihood(one.index, (math.log(chances.get(bytes(one.token_ids), 0.01)),))

    (found,) = judged(ready(scale=(0, 10)), [ANSWER], model)
    assert found is not None
    answered = dict(
        zip(Judge(name="j", scale=(0, 10)).labels, map(math.exp, found.logprobs), strict=True)
    )
    assert (round(answered["1"], 9), round(answered["10"], 9), round(answered["2"], 9)) == (
        0.2,
        0.3,
        0.01,
    )
