"""Instructions like those of IFEval: each followed and not followed, in English and Chinese."""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from batchgen.metrics.base import Answer
from batchgen.metrics.ifeval.instructions import INSTRUCTIONS
from tests.metrics.conftest import MakeMetrics

COLLECTED = (
    Path(__file__).parents[4]
    / "shared"
    / "cases"
    / "evaluation"
    / "ifeval_synthetic_disagreements.jsonl"
)
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["sea", "Sun"]}, "The SUN over the sea", "The sun"),
    ("keywords:existence", {"keywords": ["海洋"]}, "我爱海洋", "我爱大海"),
    ("keywords:frequency", {"keyword": "go", "frequency": 2, "relation": "at least"}, "Go, go!", "go"),
    ("keywords:frequency", {"keyword": "茶", "frequency": 2, "relation": "less than"}, "喝茶", "茶和茶"),
    ("keywords:forbidden_words", {"forbidden_words": ["no"]}, "I know", "Oh no."),
    ("keywords:forbidden_words", {"forbidden_words": ["禁止"]}, "可以", "这里禁止吸烟"),
    ("keywords:letter_frequency", {"letter": "e", "let_frequency": 3, "let_relation": "at least"}, "Eleven e", "two"),
    ("language:response_language", {"language": "zh"}, "你好，世界", "Hello, world"),
    ("language:response_language", {"language": "fr"}, "Il fait très beau aujourd'hui, n'est-ce pas ?", "The weather is very nice today."),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "Dr. Lee left. He ran.", "Dr. Lee left."),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}, "你好。再见！", "一。二。三。"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo", "One\n\nTwo"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo\n***", "One\n***\n***\nTwo"),
    ("length_constraints:number_words", {"num_words": 4, "relation": "at least"}, "one two three four", "one two three"),
    # By \w+ this is two words.
    ("length_constraints:number_words", {"num_words": 8, "relation": "at least"}, "今天很好，我们去玩", "今天，好"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weekend"}, 'Hi.\n\n"Weekend, at last."', "Hi.\n\nThe weekend"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "周末"}, "周末到了", "到周末了"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "Dear [name], on [date]", "Dear [name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np. s. call me", "Bye."),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S call", "P.S. call"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* only **"),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2}, "Section 1\nx\nSection 2\ny", "Section 1\nx"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<My day>>\nIt was", "<< >>\nIt was"),
    ("combination:two_responses", {}, "One.\n******\nTwo.", "One.\n******\nOne."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi"}, "say hi\nHi!", "Hi!"),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, 'Done. "any questions?"', "Any questions? No."),
    ("startend:quotation", {}, '"Hello."', 'He said "hello"'),
    ("startend:quotation", {}, "“你好。”", "“你好。"),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "NASA and ESA", "Nasa and ESA"),
    ("change_case:english_capital", {}, "HELLO, WORLD", "HELLO, World"),
    ("change_case:english_lowercase", {}, "hello, world", "Hello, world"),
    ("change_case:english_capital", {}, "THE SEA IS CALM TODAY AND THE SUN IS WARM", "LA MER EST CALME ET LE SOLEIL EST CHAUD"),
    ("change_case:english_lowercase", {}, "the sea is calm today and the sun is warm", "das meer ist heute ruhig und die sonne warm"),
    ("change_case:capital_word_frequency", {"capital_frequency": 4, "capital_relation": "at least"}, "DON'T use WELL-KNOWN A1.", "DON'T use WELL-KNOWN a1"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "## a", "# a"),
    ("language:response_language", {"language": "it"}, "...", "今天"),
    ("language:response_language", {"language": "Urdu"}, "یہ ایک خوبصورت دن ہے اور ہم باہر جا رہے ہیں", "Hello"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "It is 5 p.m. in New York\n\nand warm", "See Fig. 2. Go."),
    ("punctuation:no_comma", {}, "one and two", "one, two"),
    ("punctuation:no_comma", {}, "好。", "好，走"),
    # The other instructions in Chinese.
    ("keywords:letter_frequency", {"letter": "的", "let_frequency": 2, "let_relation": "at least"}, "我的你的", "我的"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "天晴了。我们走吧！", "天晴了，我们走吧！"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "第一段\n***\n第二段", "第一段第二段"),
    ("length_constraints:number_words", {"num_words": 6, "relation": "less than"}, "今天天气好。", "今天天气真好。"),
    ("length_constraints:number_words", {"num_words": 5, "relation": "at least"}, "我用 GPT 写诗", "用 GPT 写"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "然后"}, "先走。\n\n“然后”再说。", "先走。\n\n最后再说。"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "尊敬的【姓名】，于[日期]", "尊敬的【姓名】"),
    ("detectable_content:postscript", {"postscript_marker": "附言："}, "再见。\n附言：回电。", "再见。"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "- 苹果\n* 梨", "- 苹果\n• 梨"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "请看**重点**。", "请看重点。"),
    ("detectable_format:multiple_sections", {"section_spliter": "章节", "num_sections": 2}, "章节 1\n甲\n章节 2\n乙", "章节 1\n甲"),
    ("detectable_format:json_format", {}, '{"城市": "北京"}', "城市：北京"),
    ("detectable_format:title", {}, "<<我的一天>>\n天晴。", "《我的一天》\n天晴。"),
    ("combination:two_responses", {}, "甲。\n******\n乙。", "甲。\n乙。"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "写一首诗"}, "写一首诗\n春眠不觉晓", "春眠不觉晓"),
    ("startend:end_checker", {"end_phrase": "还有问题吗？"}, "完成。“还有问题吗？”", "还有问题吗？没有。"),
    ("startend:quotation", {}, "「你好」", "你好」"),
    ("change_case:capital_word_frequency", {"capital_frequency": 1, "capital_relation": "at least"}, "使用 NASA 数据", "使用数据"),
    ("change_case:english_capital", {}, "OK", "好的"),
    ("change_case:english_lowercase", {}, "ok", "好的"),
    # Zero is a number like any other.
    ("keywords:frequency", {"keyword": "go", "frequency": 0, "relation": "at least"}, "stay", " "),
    ("keywords:letter_frequency", {"letter": "z", "let_frequency": 0, "let_relation": "at least"}, "stay", " "),
    ("detectable_format:number_bullet_lists", {"num_bullets": 0}, "none", "- one"),
]  # fmt: skip


@pytest.mark.parametrize(("identifier", "args", "good", "bad"), CASES)
def test_each_instruction_is_checked(
    make: MakeMetrics, identifier: str, args: dict[str, Any], good: str, bad: str
) -> None:
    (metric,) = make("ifeval", variants=["prompt_strict"], checks=[{"id": identifier, **args}])
    for text, value in ((good, 1.0), (bad, 0.0), (" ", 0.0)):
        assert metric.score(Answer("a", 0, text)).value == value, text  # type: ignore[union-attr] # a row metric


def test_every_instruction_is_tested() -> None:
    assert {identifier for identifier, *_ in CASES} == set(INSTRUCTIONS)


def published(*instructions: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Columns as in the published data: every row has every argument, null where it is absent."""
    every = dict.fromkeys(["num_words", "relation", "keywords"])
    return {
        "fields": {
            "instruction_id_list": [identifier for identifier, _ in instructions],
            "kwargs": [{**every, **args} for _, args in instructions],
        }
    }


COLUMNS = {"instructions": "instruction_id_list", "kwargs": "kwargs"}
TWO = published(
    ("punctuation:no_comma", {}),
    ("length_constraints:number_words", {"num_words": 0, "relation": "at least"}),
)


def test_rows_may_have_their_own_instructions(make: MakeMetrics) -> None:
    strict, each = make("ifeval", **COLUMNS)
    answer = Answer("a", 0, "one, two", **TWO)
    assert strict.score(answer).value == 0.0  # type: ignore[union-attr] # a row metric
    assert each.score(answer).value == 0.5  # type: ignore[union-attr] # a row metric


@pytest.mark.parametrize("as_text", [False, True])
def test_an_argument_of_a_row_may_be_zero_or_empty(make: MakeMetrics, as_text: bool) -> None:
    args: dict[str, Any] = published(
        ("detectable_format:number_bullet_lists", {"num_bullets": 0}),
        ("keywords:existence", {"keywords": []}),
    )
    if as_text:
        args["fields"] = {name: json.dumps(cell) for name, cell in args["fields"].items()}
    (each,) = make("ifeval", variants=["instruction_strict"], **COLUMNS)
    for text, value in (("none", 1.0), ("- one", 0.5)):
        assert each.score(Answer("a", 0, text, **args)).value == value  # type: ignore[union-attr] # a row metric


def test_an_argument_of_the_wrong_type_gives_no_score(make: MakeMetrics) -> None:
    (each,) = make("ifeval", variants=["instruction_strict"], **COLUMNS)
    for wrong in (False, "", None, "two"):
        args = published(("detectable_format:number_bullet_lists", {"num_bullets": wrong}))
        found = each.score(Answer("a", 0, "- one", **args))  # type: ignore[union-attr] # a row metric
        assert (found.value, found.status) == (None, "unparsed")


def test_the_corpus_metric_counts_each_instruction_once(make: MakeMetrics) -> None:
    each: Any
    (each,) = make("ifeval", variants=["instruction_strict"], **COLUMNS)
    answers = [
        Answer("a", 0, "one, two", **TWO),
        Answer("b", 0, "one", **published(("punctuation:no_comma", {}))),
    ]
    sums = np.sum([each.row_stats(answer) for answer in answers], axis=0)
    assert each.finalize(sums) == pytest.approx(2 / 3)


def test_loose_ignores_a_frame_and_asterisks(make: MakeMetrics) -> None:
    strict, loose = make(
        "ifeval",
        variants=["prompt_strict", "prompt_loose"],
        checks=[{"id": "change_case:english_lowercase"}, {"id": "startend:end_checker", "end_phrase": "bye"}],
    )  # fmt: skip
    framed = Answer("a", 0, "Sure, here it is:\nhello\nand **bye**")
    assert strict.score(framed).value == 0.0  # type: ignore[union-attr] # a row metric
    assert loose.score(framed).value == 1.0  # type: ignore[union-attr] # a row metric


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"instruction_id_list": [], "kwargs": []}, "no_reference"),
        ({"instruction_id_list": '["punctuation:no_comma"]', "kwargs": "[{}]"}, "ok"),
        ({"instruction_id_list": ["no:such"], "kwargs": [{}]}, "unparsed"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}, "ok"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}, {}]}, "unparsed"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": None}]}, "unparsed"),
        ({"instruction_id_list": "no JSON", "kwargs": None}, "unparsed"),
        ({"instruction_id_list": 3, "kwargs": None}, "unparsed"),
    ],
)  # fmt: skip
def test_rows_whose_instructions_cannot_be_read_are_not_scored(
    make: MakeMetrics, fields: dict[str, Any], status: str
) -> None:
    (metric,) = make("ifeval", variants=["prompt_strict"], **COLUMNS)
    found = metric.score(Answer("a", 0, "text", fields=fields))  # type: ignore[union-attr] # a row metric
    assert (found.status, found.value is None) == (status, status != "ok")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give instructions"),
        ({"instructions": "a"}, "go together"),
        ({"checks": [{"id": "no:such"}]}, "unknown instruction"),
        ({"checks": [{"id": "startend:end_checker"}]}, "needs exactly the keys id, end_phrase"),
    ],
)
def test_a_job_without_instructions_is_rejected(
    make: MakeMetrics, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        make("ifeval", **options)


@pytest.mark.skipif(not COLLECTED.exists(), reason="the collected cases are not here")
def test_disagreements_with_the_reference_implementation_are_of_these_kinds(
    make: MakeMetrics,
) -> None:
    kinds: Counter[str] = Counter()
    for line in COLLECTED.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        identifier, args, text = row["instruction"], row["kwargs"], row["response"]
        (metric,) = make("ifeval", variants=["prompt_strict"], checks=[{"id": identifier, **args}])
        value = metric.score(Answer("a", 0, text)).value  # type: ignore[union-attr] # a row metric
        if value == float(row["reference"]):
            continue
        if identifier == "keywords:letter_frequency" and not args["letter"].isalpha():
            kinds["the reference draws a random letter"] += 1
        elif re.search(r"[\u4e00-\u9fff]", text):
            kinds["Chinese words, sentences and commas, which the reference does not count"] += 1
        else:
            kinds[identifier] += 1
    # `(a + b) / c. How`: Punkt takes every single letter for an initial.
    assert kinds.pop("length_constraints:number_sentences") == 1
    assert sorted(kinds) == [
        "Chinese words, sentences and commas, which the reference does not count",
        "the reference draws a random letter",
    ]


def test_an_unknown_language_gives_no_score(make: MakeMetrics) -> None:
    checks = [{"id": "language:response_language", "language": "Klingon"}]
    (metric,) = make("ifeval", variants=["prompt_strict"], checks=checks)
    assert metric.score(Answer("a", 0, "tlhIngan")).status == "unparsed"  # type: ignore[union-attr] # a row metric


def test_without_py3langid_only_rows_that_need_it_are_not_scored(
    make: MakeMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "py3langid", None)
    rows = [
        ("punctuation:no_comma", {}, "one", "ok", 1.0),
        ("change_case:english_capital", {}, "THE SEA", "error", None),
        ("change_case:english_capital", {}, "The sea", "ok", 0.0),
        ("language:response_language", {"language": "zh"}, "你好", "ok", 1.0),
        ("language:response_language", {"language": "fr"}, "Bonjour", "error", None),
    ]
    for identifier, args, text, status, value in rows:
        (metric,) = make("ifeval", variants=["prompt_strict"], checks=[{"id": identifier, **args}])
        found = metric.score(Answer("a", 0, text))  # type: ignore[union-attr] # a row metric
        assert (found.status, found.value) == (status, value)
