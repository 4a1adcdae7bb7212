import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.decoding.reasoning import SplitAnswer, split_reasoning, without_reasoning

PLAIN = [
    pytest.param("<think>2 and 2</think>\n\nFour.", "Four.", "2 and 2", id="thought-then-answer"),
    pytest.param("<thinking>hm</thinking>Yes", "Yes", "hm", id="the-other-mark"),
    pytest.param("\n <think>\na\nb\n</think>\nc", "c", "a\nb", id="white-space-around"),
    pytest.param("<think>\n\n</think>\n\nFour.", "Four.", None, id="empty-thought-is-none"),
    pytest.param("<think>a</think><think>b</think>c", "c", "a\n\nb", id="two-blocks-in-front"),
    pytest.param("x <think>a</think> y", "x  y", "a", id="block-in-the-middle"),
    pytest.param("<think>a</think>x<think>b</think>y", "xy", "a\n\nb", id="interleaved"),
    pytest.param("<think>a <think> b</think> c", "c", "a <think> b", id="first-closing-mark-ends"),
    pytest.param(
        "<think>a</thinking>b</think>c", "c", "a</thinking>b", id="closed-by-its-own-name-only"
    ),
    pytest.param("<think>cut by the limit", "", "cut by the limit", id="unclosed-at-the-start"),
    pytest.param("<think>a</think> <think>b", "", "a\n\nb", id="unclosed-after-thoughts-only"),
    pytest.param("<think>", "", None, id="nothing-but-a-mark"),
    pytest.param("<think>思考</think>四。", "四。", "思考", id="chinese"),
    pytest.param("a</think>b", "b", "a", id="closing-tag-alone"),
    pytest.param("a</think>b</think>c", "b</think>c", "a", id="second-closing-tag-is-text"),
    pytest.param("<think>a</think>b</think>c", "b</think>c", "a", id="closing-tag-in-the-response"),
    pytest.param(
        "<think>a</think>The literal </think> tag is stray.",
        "The literal </think> tag is stray.",
        "a",
        id="closing-tag-called-a-tag",
    ),
    pytest.param(
        "<think>write `</think>` at the end</think>Four.",
        "Four.",
        "write `</think>` at the end",
        id="closing-tag-in-code-in-the-thought",
    ),
    pytest.param(
        "<think>the </think> tag comes last</think>Four.",
        "Four.",
        "the </think> tag comes last",
        id="called-a-tag-in-the-thought",
    ),
    pytest.param(
        "<think>wrap it in `<think>x</think>`</think>Use `<think>x</think>`.",
        "Use `<think>x</think>`.",
        "wrap it in `<think>x</think>`",
        id="code-in-thought-and-response",
    ),
    pytest.param("<think>a ` b</think>`c` d", "`c` d", "a ` b", id="odd-backtick-in-the-thought"),
    pytest.param('<think>5" or 6</think>"Six".', '"Six".', '5" or 6', id="inches-in-the-thought"),
    pytest.param("<think>a</think> tags: x, y", "tags: x, y", "a", id="response-begins-with-tags"),
    pytest.param("<think>write `</think>` and", "", "write `</think>` and", id="mention-and-cut"),
    pytest.param("<THINK>a</Think>b", "b", "a", id="upper-case"),
    pytest.param("<thought>a</thought>b", "b", "a", id="thought"),
    pytest.param("<seed:think>a</seed:think>b", "b", "a", id="seed-think"),
    pytest.param("[THINK]a[/THINK]b", "b", "a", id="brackets"),
    pytest.param("◁think▷a◁/think▷b", "b", "a", id="triangles"),
    pytest.param("<think >a</think >b", "b", "a", id="space-in-the-tag"),
]

UNCHANGED = [
    pytest.param("Four.", id="no-marks"),
    pytest.param("  Four.\n\n", id="white-space-is-kept"),
    pytest.param("", id="empty"),
    pytest.param("The tag <think> opens a thought.", id="a-mark-as-a-word"),
    pytest.param("Use `<think>draft</think>` as the example tag.", id="code-span"),
    pytest.param("End with `</think>`, then answer.", id="closing-tag-in-code"),
    pytest.param("Form: ``<think>a</think>b``", id="two-backticks"),
    pytest.param("Form:\n```xml\n<think>a</think>\nb\n```\nDone.", id="fenced-block"),
    pytest.param('Put it between "<think>" and "</think>".', id="quotation-marks"),
    pytest.param("标记是“<think>”和“</think>”。", id="chinese-quotation-marks"),
    pytest.param("The <think> tag and the </think> tag mark thoughts.", id="called-a-tag"),
    pytest.param("</think> 标签表示结束。", id="called-a-tag-in-chinese"),
    pytest.param("<think/>Visible answer", id="self-closing"),
    pytest.param("<rethink>a</rethink>b, <thinker>", id="longer-names"),
    pytest.param("I [think] so.", id="a-word-in-brackets"),
]

OPENED = [
    pytest.param("2 and 2</think>\n\nFour.", "Four.", "2 and 2", id="closed-later"),
    pytest.param("2 and", "", "2 and", id="never-closed"),
    pytest.param("</think>Four.", "Four.", None, id="closed-at-once"),
    pytest.param("<think>\na</think>b", "b", "a", id="mark-repeated"),
    pytest.param("a</think>b<think>c</think>d", "bd", "a\n\nc", id="another-block-later"),
    pytest.param("a</think>b <think> c", "b <think> c", "a", id="a-mark-as-a-word-later"),
    pytest.param("", "", None, id="empty"),
]


@pytest.mark.parametrize(("text", "response", "reasoning"), PLAIN)
def test_text_between_marks_is_reasoning(text: str, response: str, reasoning: str | None) -> None:
    assert split_reasoning(text) == SplitAnswer(response, reasoning)


@pytest.mark.parametrize("text", UNCHANGED)
def test_an_answer_without_a_block_is_unchanged(text: str) -> None:
    assert split_reasoning(text) == SplitAnswer(text, None)


@pytest.mark.parametrize(("text", "response", "reasoning"), OPENED)
def test_the_prompt_may_contain_the_opening_mark(
    text: str, response: str, reasoning: str | None
) -> None:
    assert split_reasoning(text, opened=True) == SplitAnswer(response, reasoning)


@given(st.lists(st.sampled_from(["<think>", "</think>", "<thinking>", "</thinking>", "a", " "])))
def test_no_word_is_lost_or_invented(pieces: list[str]) -> None:
    text = "".join(pieces)
    for opened in (True, False):
        answer = split_reasoning(text, opened=opened)
        assert (answer.response + (answer.reasoning or "")).count("a") == text.count("a")


@pytest.mark.parametrize(
    ("text", "response"),
    [
        ("<think>2 and 2</think>\n\n4", "4"),
        ("2 and 2</think>\n\n4", "4"),
        ("</think>4", "4"),
        ("4", "4"),
        (" 4 ", " 4 "),
        ("<think>never closed", ""),
        ("a </think> b <think>c</think> d", "b  d"),
    ],
)
def test_answers_of_unknown_origin_may_start_inside_a_block(text: str, response: str) -> None:
    assert without_reasoning(text) == response
