from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from batchgen.job.spec import Job
from batchgen.prompts.byte_tokenizer import ByteTokenizer
from batchgen.prompts.prepare import Prepared, Preparer
from batchgen.prompts.tokenize import ModelTokenizer
from batchgen.records import Failure, Prompt, Row

Ask = Callable[..., Job]
DATE = date(2026, 3, 7)


class CountingTokenizer(ByteTokenizer):
    """Counts the prompts it is given."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def encode(self, prompts: Sequence[Prompt]) -> list[list[int] | Failure]:
        self.calls.append(len(prompts))
        return super().encode(prompts)


def rows(*texts: object, **more: object) -> list[Row]:
    return [Row(k, f"id{k}", {"q": text, **more}) for k, text in enumerate(texts)]


def user_text(prepared: Prepared) -> str:
    assert prepared.prompt is not None
    return next(m.content for m in reversed(prepared.prompt.messages) if m.role == "user")


def test_every_row_comes_back_in_order_from_one_batch(ask: Ask) -> None:
    tokenizer = CountingTokenizer()
    found = Preparer(ask(user="{{ q }}"), tokenizer, 100).prepare(rows("a", None, "bb", "", "c"))
    assert [(p.index, p.id) for p in found] == [(k, f"id{k}") for k in range(5)]
    assert [p.failure.code if p.failure else None for p in found] == [
        None, "prompt_null", None, "prompt_empty", None,
    ]  # fmt: skip
    assert [len(p.token_ids) for p in found] == [4, 0, 5, 0, 4]
    assert tokenizer.calls == [3]
    assert Preparer(ask(user="{{ q }}"), tokenizer, 100).prepare([]) == []


EMPTY = [
    pytest.param({"user": "{{ q }}"}, "", "prompt_empty", True, id="empty"),
    pytest.param({"user": "{{ q }}"}, " \n\u3000", "prompt_empty", True, id="white-space"),
    pytest.param({"user": "{{ q }}"}, None, "prompt_null", True, id="null"),
    pytest.param({"user": "{{ q }} {{ r }}"}, None, "prompt_null", False, id="null-and-a-value"),
    pytest.param({"user": "Go.", "system": "{{ q }}"}, None, "prompt_null", True, id="null-in-system"),
    pytest.param({"input": {"columns": {"prompt": "q"}}}, None, "prompt_null", True, id="null-prompt-column"),
    pytest.param({"input": {"columns": {"prompt": "q"}}}, " ", "prompt_empty", True, id="blank-prompt-column"),
    pytest.param({"input": {"columns": {"messages": "q"}}}, None, "prompt_null", True, id="null-messages-column"),
    pytest.param({"input": {"columns": {"messages": "q"}}}, [{"role": "user", "content": ""}], "prompt_empty", True, id="empty-message"),
    pytest.param({"input": {"columns": {"messages": "q"}}}, "[]", "invalid_messages", False, id="no-messages"),
    pytest.param({"user": "{{ q }}", "prefill": "A"}, "", "prompt_empty", True, id="empty-with-prefill"),
]  # fmt: skip


@pytest.mark.parametrize("policy", ["error", "skip"])
@pytest.mark.parametrize(("prompt", "text", "code", "is_empty"), EMPTY)
def test_empty_prompts(
    ask: Ask, prompt: dict[str, Any], text: object, code: str, is_empty: bool, policy: str
) -> None:
    job = ask(**{**prompt, "input": {**prompt.get("input", {}), "on_empty_prompt": policy}})
    (found,) = Preparer(job, ByteTokenizer(), 100).prepare(rows(text, r="value"))
    assert found.failure is not None
    assert found.failure.code == code
    assert (found.failure.finish_reason == "skipped") == (policy == "skip" and is_empty)
    assert not found.token_ids


@pytest.mark.parametrize(("policy", "reason"), [("error", "error"), ("skip", "skipped")])
def test_too_long(ask: Ask, policy: str, reason: str) -> None:
    preparer = Preparer(ask(user="{{ q }}", on_overflow=policy), ByteTokenizer(), 1000)
    fits, long = preparer.prepare(rows("x" * 997, "x" * 998))
    assert fits.failure is None
    assert len(fits.token_ids) == 1000
    assert long.failure == Failure("prompt_too_long", "the prompt has 1,001 tokens, more than 1,000", reason)  # type: ignore[arg-type] # from a table  # fmt: skip
    assert long.prompt is not None
    assert not long.token_ids


TEXT = "一二三 four 五六 seven! " * 40
FRAME = len("Q: \n") + len("Be brief.") + 5

CUTS = [
    pytest.param("truncate_right", 100, TEXT, id="right"),
    pytest.param("truncate_left", 100, TEXT, id="left"),
    pytest.param("truncate_right", FRAME + 2, "ab" * 9, id="one-or-two-characters"),
    pytest.param("truncate_left", FRAME + 400, TEXT, id="about-half"),
    pytest.param("truncate_right", FRAME + len(TEXT.encode()) - 1, TEXT, id="one-token-too-many"),
    pytest.param("truncate_right", 64, "x" * 100_000, id="one-in-a-thousand"),
    pytest.param("truncate_right", 200, "x" * 150 + "字" * 500, id="uneven-at-the-end"),
    pytest.param("truncate_left", 200, "字" * 500 + "x" * 150, id="uneven-at-the-start"),
]


@pytest.mark.parametrize(("policy", "limit", "text"), CUTS)
def test_truncation_keeps_the_longest_text_that_fits(
    ask: Ask, policy: str, limit: int, text: str
) -> None:
    tokenizer = CountingTokenizer()
    job = ask(user="Q: {{ q }}\n", system="Be brief.", on_overflow=policy)
    (found,) = Preparer(job, tokenizer, limit).prepare(rows(text))
    assert found.failure is None
    kept = user_text(found).removeprefix("Q: ").removesuffix("\n")
    assert kept
    left = policy == "truncate_left"
    assert text.endswith(kept) if left else text.startswith(kept)
    longer = text[-len(kept) - 1 :] if left else text[: len(kept) + 1]
    assert FRAME + len(kept.encode()) <= limit < FRAME + len(longer.encode())
    assert list(found.token_ids) == ByteTokenizer().encode([found.prompt])[0]  # type: ignore[list-item] # not None: it has a text
    assert len(tokenizer.calls) <= 16


def test_the_template_around_the_text_is_never_truncated(ask: Ask) -> None:
    job = ask(user="{{ a }}|{{ b }}|end", on_overflow="truncate_right")
    table = [
        Row(0, "0", {"a": "x" * 50, "b": "y" * 90}),
        Row(1, "1", {"a": "x" * 90, "b": "y" * 50}),
    ]
    found = Preparer(job, ByteTokenizer(), 100).prepare(table)
    assert [user_text(p) for p in found] == [
        "x" * 50 + "|" + "y" * 42 + "|end",
        "x" * 42 + "|" + "y" * 50 + "|end",
    ]


def test_the_column_that_the_job_names_is_truncated(ask: Ask) -> None:
    job = ask(user="{{ a }}|{{ b }}", on_overflow="truncate_right", truncate_column="a")
    table = [Row(0, "0", {"a": "x" * 50, "b": "y" * 60}), Row(1, "1", {"a": "x", "b": "y" * 200})]
    found, hopeless = Preparer(job, ByteTokenizer(), 100).prepare(table)
    assert user_text(found) == "x" * 36 + "|" + "y" * 60
    assert hopeless.failure is not None
    assert hopeless.failure.code == "prompt_too_long"


@pytest.mark.parametrize(
    ("prompt", "fields"),
    [
        ({"user": "x" * 200 + "{{ q }}"}, {"q": "row-text" * 9}),
        ({"user": "{{ q }}"}, {"q": ["row-text"] * 90}),
        ({"user": "{{ q | default('x' * 200) }}"}, {"q": None}),
        ({"user": "x{{ q.split('z')[1] }}" + "y" * 97}, {"q": "a" * 99 + "z" + "row-text" * 9}),
        ({"user": "{{ q }}"}, {"q": " " * 200 + "row-text"}),
        (
            {"input": {"columns": {"messages": "q"}}},
            {"q": [{"role": "system", "content": "s" * 200}, {"role": "user", "content": "row-text"}]},
        ),
        ({"input": {"columns": {"messages": "q"}}}, {"q": [{"role": "system", "content": "s" * 200}]}),
    ],
)  # fmt: skip
def test_prompts_that_truncation_cannot_shorten(
    ask: Ask, prompt: dict[str, Any], fields: dict[str, object]
) -> None:
    job = ask(**prompt, on_overflow="truncate_right")
    (found,) = Preparer(job, ByteTokenizer(), 100).prepare([Row(0, "0", fields)])
    assert found.failure is not None
    assert found.failure.code == "prompt_too_long"
    assert "more than 100, even if" in found.failure.message
    assert "row-text" not in found.failure.message
    assert not found.token_ids


def test_other_sources_are_truncated_too(ask: Ask) -> None:
    column = ask(
        input={"columns": {"prompt": "q"}}, system="Be brief.", on_overflow="truncate_left"
    )
    (found,) = Preparer(column, ByteTokenizer(), 50).prepare(rows("a" * 99 + "z"))
    assert user_text(found) == "a" * 35 + "z"

    chat = ask(input={"columns": {"messages": "q"}}, on_overflow="truncate_right")
    turns = [("user", "first"), ("assistant", "yes"), ("user", "z" + "a" * 99), ("system", "now")]
    cell = [{"role": role, "content": content} for role, content in turns]
    (found,) = Preparer(chat, ByteTokenizer(), 50).prepare(rows(cell))
    assert found.prompt is not None
    kept = [message.content for message in found.prompt.messages]
    assert kept == ["first", "yes", "z" + "a" * 29, "now"]
    assert len(found.token_ids) == 50


def test_many_long_rows_are_truncated_together(ask: Ask) -> None:
    tokenizer = CountingTokenizer()
    job = ask(user="{{ q }}", on_overflow="truncate_right")
    table = rows(*("x" * (50 + 61 * k) for k in range(40)))
    found = Preparer(job, tokenizer, 100).prepare(table)
    assert [len(p.token_ids) for p in found] == [53] + [100] * 39
    assert len(tokenizer.calls) <= 12


@pytest.mark.parametrize("policy", ["truncate_left", "truncate_right"])
def test_with_a_real_tokenizer(
    ask: Ask, demo_tokenizer: PreTrainedTokenizerBase, policy: str
) -> None:
    job = ask(user="Summarize: {{ q }}\nSummary:", on_overflow=policy)
    tokenizer = ModelTokenizer(demo_tokenizer, job.prompt, DATE)
    text = "Tokenization of unbelievably long words, 12345.678 和中文 <|im_end|> too. " * 9
    (found,) = Preparer(job, tokenizer, 120).prepare(rows(text))
    kept = user_text(found).removeprefix("Summarize: ").removesuffix("\nSummary:")
    assert kept
    longer = text[-len(kept) - 1 :] if policy == "truncate_left" else text[: len(kept) + 1]
    (one_more,) = Preparer(job, tokenizer, 10_000).prepare(rows(longer))
    assert len(found.token_ids) <= 120 < len(one_more.token_ids)
    assert tokenizer.show(found.token_ids).endswith("\nSummary:<|im_end|>\n<|im_start|>assistant\n")
