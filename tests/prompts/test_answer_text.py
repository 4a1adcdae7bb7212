"""The text of an answer is what its tokens add to the text of its prompt, with tokenizers of several kinds."""

import pickle
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from batchgen.decoding.stopping import Stopper
from batchgen.job.spec import PromptSpec
from batchgen.prompts.answer_text import AnswerText
from batchgen.prompts.tokenize import ContinuedPrompt, ModelTokenizer
from batchgen.records import Failure, Message, Prompt, ResolvedDecoding
from tests.prompts.small_tokenizers import byte_level, ids_of, sentencepiece, word_piece

BROKEN = "\N{REPLACEMENT CHARACTER}"
TOKENIZERS = {
    "llama 2": sentencepiece(metaspace=False),
    "metaspace": sentencepiece(metaspace=True),
    "byte level": byte_level(),
    "word piece": word_piece(),
}
SENTENCEPIECE = ["llama 2", "metaspace"]


@pytest.mark.parametrize("name", SENTENCEPIECE)
@pytest.mark.parametrize(
    ("prompt", "answer", "text"),
    [
        pytest.param(["▁def", "▁foo", "():", "\n"], ["▁▁▁▁", "return", "▁", "1"], "    return 1", id="indentation"),
        pytest.param(["▁def", "▁is"], ["▁red"], " red", id="a word"),
        pytest.param(["▁def", "▁is"], ["red"], "red", id="the rest of a word"),
        pytest.param(["<s>", "▁def", "[/INST]"], ["▁red"], "red", id="behind a special token"),
        pytest.param([], ["▁red"], "red", id="no prompt"),
        pytest.param(["▁"], ["▁red"], " red", id="behind a space"),
        pytest.param(["▁def"], ["</s>", "▁red"], " red", id="begins with a special token"),
        pytest.param(["龘"], ["▁red"], " red", id="behind bytes"),
        pytest.param(["龘"] * 9, ["龘", "▁red"], "龘 red", id="behind many bytes"),
        pytest.param(["▁", "龘"], ["<0xE9>"], BROKEN, id="half a character behind a whole one"),
        pytest.param(["▁is"] * 40, ["▁▁▁▁", "x"], "    x", id="a long prompt"),
    ],
)  # fmt: skip
def test_nothing_of_an_answer_is_dropped(
    name: str, prompt: list[str], answer: list[str], text: str
) -> None:
    tokenizer = TOKENIZERS[name]
    decode = AnswerText(tokenizer)
    before, after = ids_of(tokenizer, *prompt), ids_of(tokenizer, *answer)
    assert decode(after, before) == text
    assert pickle.loads(pickle.dumps(decode))(after, before) == text


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_text_token_by_token_is_that_of_the_whole(name: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[name]
    decode = AnswerText(tokenizer)
    tokens = st.integers(0, len(tokenizer) - 1)
    prompt = data.draw(st.lists(tokens, max_size=30))
    answer = data.draw(st.lists(tokens, min_size=1, max_size=70))
    stop = data.draw(st.text("redis 1=)\n", min_size=1, max_size=3))
    decoding = ResolvedDecoding(max_new_tokens=len(answer) + 1, stop_strings=(stop,))
    stopper = Stopper(decoding, decode, prompt)
    end = next((n for n, token in enumerate(answer, 1) if stopper.push(token)), None)
    whole = decode(answer[:end], prompt)
    expected = whole.partition(stop)[0]
    assert stopper.finish() == expected
    assert (end is None) == (stop not in whole.rstrip(BROKEN))
    earlier = answer[: (end or len(answer)) - 1]
    assert stop not in decode(earlier, prompt).rstrip(BROKEN)


@pytest.mark.parametrize("name", SENTENCEPIECE)
@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["▁red", "<0xE9>", "<0xBE>"], " red"),
        (["▁red", "<0xF0>"], " red"),
        (["▁red", "龘", "<0xE9>"], " red龘"),
        (["<0xED>", "<0x9F>"], ""),
        (["<0xE0>"], ""),
        (["<0xF4>", "<0x8F>", "<0xBF>"], ""),
        (["▁red", "<0x80>"], " red" + BROKEN),
        (["▁red", BROKEN], " red" + BROKEN),
        (["▁red", "龘"], " red龘"),
    ],
)  # fmt: skip
def test_half_a_character_at_the_limit_is_dropped(name: str, pieces: list[str], text: str) -> None:
    tokenizer = TOKENIZERS[name]
    decode = AnswerText(tokenizer)
    before, tokens = ids_of(tokenizer, "▁is"), ids_of(tokenizer, *pieces)
    assert decode.decode_complete(tokens, before) == text
    stopper = Stopper(ResolvedDecoding(max_new_tokens=len(tokens)), decode, before)
    assert [stopper.push(token) for token in tokens][-1] == "length"
    assert stopper.finish() == text


@pytest.mark.parametrize(
    "text", ["is 龘", "😀", "é", "a", "\u0800", "\ud7ff", "\U0010ffff", BROKEN]
)
def test_byte_level_characters_are_dropped_only_where_bytes_are_missing(text: str) -> None:
    tokenizer = TOKENIZERS["byte level"]
    decode = AnswerText(tokenizer)
    names = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    tokens = [tokenizer.get_vocab()[letter] for word, _ in names for letter in word]
    assert decode.decode_complete(tokens) == text
    for cut in range(1, len(text[-1].encode())):
        assert decode.decode_complete(tokens[:-cut]) == text[:-1]


LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}<s>x{{ m.content }} =[/i]"
    "{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}"
)
UNSPACED = LLAMA2.replace("{% else %} {{", "{% else %}{{")


@pytest.mark.parametrize(
    ("template", "prefill", "text"),
    [(LLAMA2, "", "red"), (LLAMA2, "▁is", " red"), (UNSPACED, "", " red"), (None, "", " red")],
    ids=["the template's space", "prefill", "no space in the template", "no template"],
)
def test_a_space_of_the_chat_template_is_not_part_of_the_answer(
    template: str | None, prefill: str, text: str
) -> None:
    model = sentencepiece(metaspace=False, template=template)
    spec = PromptSpec(chat_template="auto" if template else "none", prefill=prefill or None)
    tokenizer = ModelTokenizer(model, spec, date(2026, 3, 7))
    (prompt,) = tokenizer.encode([Prompt(0, "0", (Message("user", "def"),), prefill)])
    assert not isinstance(prompt, Failure)
    assert tokenizer.decode(ids_of(model, "▁red"), prompt) == text


@pytest.mark.parametrize("name", [*SENTENCEPIECE, "byte level"])
@pytest.mark.parametrize("text", [" red", "red", "1", "    return", "red[/INST]", "\n", "é"])
def test_the_tokens_of_a_text_to_be_scored_are_its_text(name: str, text: str) -> None:
    tokenizer = ModelTokenizer(TOKENIZERS[name], PromptSpec(chat_template="none"), date(2026, 3, 7))
    (found,) = tokenizer.encode_after([Prompt(0, "0", (Message("user", "foo is"),))], [[text]])
    assert isinstance(found, ContinuedPrompt)
    assert tokenizer.decode(found.texts[0], found.context) == text


@pytest.mark.parametrize("name", [*SENTENCEPIECE, "byte level"])
@pytest.mark.parametrize("text", ["red", "1", "    return", "red[/INST]", "\n", "é"])
def test_the_tokens_of_a_label_are_its_text(name: str, text: str) -> None:
    tokenizer = ModelTokenizer(TOKENIZERS[name], PromptSpec(chat_template="none"), date(2026, 3, 7))
    (context,) = tokenizer.encode([Prompt(0, "0", (Message("user", "foo is"),))])
    assert not isinstance(context, Failure)
    (found,) = tokenizer.encode_labels(context, [text])
    assert tokenizer.decode(found, context) == text
