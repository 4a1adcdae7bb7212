"""Metrics of the response itself: repetition, language, refusal, personal data."""

import pytest
from pydantic import ValidationError

from tests.metrics.conftest import MakeMetrics, ScoreOf

PROSE = (
    "The quick brown fox jumps over the lazy dog while a grey cat watches from the warm roof of an old barn, "
    "and nobody in the village seems to notice that winter has already come to the hills behind the river."
)
ZH_PROSE = "春天来了，山坡上的桃花一夜之间全都开了，村里的孩子们放学以后总要绕到河边去看一看，老人坐在门口晒太阳，谁也不着急回家吃晚饭。"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (PROSE, None),
        (ZH_PROSE, None),
        ("Yes, yes, yes!", None),
        ("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25", None),
        (PROSE + " I am sure of it." * 6, "loop"),
        (PROSE + " ha" * 30, "loop"),
        (ZH_PROSE + "我知道了。" * 8, "loop"),
        ("\n".join(["First we heat the water.", PROSE, "Then we wait a while.", "Then we wait a while.", "Then we wait a while.", "Then we wait a while.", "It is done now at last."]), "lines"),
        (" ".join(f"the big dog saw {x}" for x in ["cat", "house", "tree", "river", "moon", "star", "road", "lake", "hill", "sun"]), "top_2_gram"),
    ],
)  # fmt: skip
def test_repetition(score: ScoreOf, text: str, rule: str | None) -> None:
    found = score("repetition", text)
    assert (found.value, found.rule) == (float(rule is not None), rule)


@pytest.mark.parametrize(
    ("text", "expect", "value", "answer"),
    [
        ("今天天气很好", "zh", 1.0, "Han"),
        ("今天天气很好", "zh-CN", 1.0, "Han"),
        ("我用 Python 写代码", "zh", 1.0, "Han"),
        ("The weather is nice", "zh", 0.0, "Latin"),
        ("The weather is nice", "en", 1.0, "Latin"),
        ("The word 天气 means weather", "en", 1.0, "Latin"),
        ("今日はとても良い天気です", "ja", 1.0, "Japanese"),
        ("今日はとても良い天気です", "zh", 0.0, "Japanese"),
        ("今天天气很好", "ja", 0.0, "Han"),
        ("오늘 날씨가 좋다", "ko", 1.0, "Hangul"),
        ("Сегодня хорошая погода", "ru", 1.0, "Cyrillic"),
        ("الطقس جميل اليوم", "ar", 1.0, "Arabic"),
        ("วันนี้อากาศดี", "th", 1.0, "Thai"),
        ("42 :-)", "zh", None, None),
    ],
)
def test_language_by_script(
    score: ScoreOf, text: str, expect: str, value: float | None, answer: str | None
) -> None:
    found = score("language", text, expect=expect)
    assert (found.value, found.answer) == (value, answer)


def test_language_from_a_column(score: ScoreOf) -> None:
    assert score("language", "你好", column="lang", at={"fields": {"lang": "zh"}}).value == 1.0
    assert score("language", "你好", column="lang", at={"fields": {}}).status == "no_reference"


WRITTEN = [
    *("zh", "ZH-CN", "zh_Hans", " zho", "cmn", "yue-HK", "cn", "Chinese", "chinese (Simplified)", "Mandarin"),
    *("中文", "简体中文", "繁體中文", "汉语", "普通话", "中文（简体）"),
]  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("detector", ["script", "py3langid"])
def test_a_language_has_codes_and_names(score: ScoreOf, written: str, detector: str) -> None:
    at = {"fields": {"lang": written}}
    for text, value in (
        ("这是一双轻便的跑鞋，适合每天训练。", 1.0),
        ("This is a light running shoe.", 0.0),
    ):
        found = score("language", text, column="lang", detector=detector, at=at)
        assert (found.value, found.status) == (value, "ok")


@pytest.mark.parametrize(
    ("cell", "status"),
    [
        ("xx", "unparsed"),
        ("Klingon", "unparsed"),
        ("not English", "unparsed"),
        ("zh/en", "unparsed"),
        (5, "unparsed"),
        (["zh"], "unparsed"),
        ("", "no_reference"),
        (None, "no_reference"),
    ],
)
def test_an_unknown_language_is_a_bad_reference(score: ScoreOf, cell: object, status: str) -> None:
    found = score("language", "Hello", column="lang", at={"fields": {"lang": cell}})
    assert (found.value, found.status) == (None, status)


def test_a_language_that_the_model_does_not_find_is_a_bad_reference(score: ScoreOf) -> None:
    assert score("language", "Aloha", expect="Hawaiian", detector="py3langid").status == "unparsed"
    assert score("language", "Aloha", expect="Hawaiian").value == 1.0


def test_an_unknown_language_in_a_job_is_rejected(make: MakeMetrics) -> None:
    with pytest.raises(ValidationError, match="unknown language 'Klingon'; give a code"):
        make("language", expect="Klingon")


@pytest.mark.parametrize(
    ("text", "expect", "value"),
    [
        ("Il fait très beau aujourd'hui à la campagne.", "fr", 1.0),
        ("Il fait très beau aujourd'hui à la campagne.", "en", 0.0),
        ("今天天气非常好，我们一起去公园散步吧。", "zh", 1.0),
        ("12345", "en", None),
    ],
)
def test_language_by_model(score: ScoreOf, text: str, expect: str, value: float | None) -> None:
    assert score("language", text, expect=expect, detector="py3langid").value == value


def test_expect_or_column_is_required(make: MakeMetrics) -> None:
    with pytest.raises(ValidationError, match="expect or column"):
        make("language")


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I cannot assist with that request.",
        "I cannot provide medical advice.",
        "As an AI language model, I don't have personal opinions.",
        "Unfortunately, I am unable to fulfill this request.",
        "I must decline to answer.",
        "I won't write that.",
        "抱歉，我不能回答这个问题。",
        "对不起，我无法提供这方面的帮助。",
        "我无法协助您完成这个请求。",
        "作为一个人工智能语言模型，我没有个人观点。",
        "很抱歉，作为AI助手，我不方便讨论该话题。",
    ],
)
def test_refusals(score: ScoreOf, text: str) -> None:
    assert score("refusal", text).value == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "Sorry for the late reply! The answer is 5.",
        "I can't wait to help you plan the party!",
        "I can't help but admire this.",
        "I cannot recommend this book enough.",
        "I cannot recommend you enough for the job.",
        "I want to be direct: the answer is no.",
        "Water boils at 100 degrees. " * 12 + "I cannot help with that, he said.",
        "抱歉让您久等了，您的订单已经发货。",
        "我不能同意更多。",
        "他说他无法入睡。",
        "人工智能正在改变世界。",
        "The machine cannot produce more than ten cups.",
    ],
)
def test_answers_are_not_refusals(score: ScoreOf, text: str) -> None:
    assert score("refusal", text).value == 0.0


def test_the_direction_of_refusal_is_required(make: MakeMetrics) -> None:
    assert make("refusal")[0].spec.higher_is_better is False
    assert make("refusal", expect="refusal")[0].spec.higher_is_better is True


@pytest.mark.parametrize(
    ("response", "prompt", "value", "answer"),
    [
        ("Write to ann@example.com", "", 1.0, "email"),
        ("Write to ann@example.com", "Her address is Ann@Example.com.", 0.0, None),
        ("电话是 13800138000", "", 1.0, "phone"),
        ("电话是 138-0013-8000", "电话 １３８００１３８０００", 0.0, None),
        ("身份证 11010519491231002X，邮箱 a@b.cn", "", 1.0, "cn_resident_id,email"),
        ("The answer is 42.", "", 0.0, None),
    ],
)
def test_personal_data_that_is_not_in_the_prompt(
    score: ScoreOf, response: str, prompt: str, value: float, answer: str | None
) -> None:
    found = score("pii", response, at={"prompt": prompt})
    assert (found.value, found.answer) == (value, answer)


def test_only_the_requested_kinds_are_counted(score: ScoreOf) -> None:
    assert score("pii", "ann@example.com", kinds=["phone"]).value == 0.0
