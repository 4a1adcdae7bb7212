from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import ModelError
from batchgen.job.spec import ModelSpec
from batchgen.models.find_model import ResolvedModel
from batchgen.models.tokenizer import find_tokenizer, load_tokenizer

Write = Callable[..., Path]
Load = Callable[..., Any]


@pytest.fixture
def load(tmp_path: Path, write_model: Write) -> Load:
    """Loads the tiny model's tokenizer after changes to its folder."""

    def load_changed(changes: dict[str, object] | None = None, **spec: object) -> Any:
        folder = write_model(tmp_path / "model", changes)
        resolved = ResolvedModel("tiny", folder, "folder", "")
        return load_tokenizer(resolved, ModelSpec.model_validate({"path": "tiny", **spec}))

    return load_changed


def test_a_tokenizer_pads_left_with_the_end_token_by_default(load: Load) -> None:
    tokenizer = load()

    padded = tokenizer(["ab", "a"], padding=True)

    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 257
    assert padded["attention_mask"] == [[1, 1], [0, 1]]
    assert padded["input_ids"][1][0] == 257


def test_a_padding_token_of_its_own_is_kept(load: Load) -> None:
    settings = {"eos_token": "<|im_end|>", "pad_token": "<|im_start|>", "padding_side": "right"}

    tokenizer = load({"tokenizer_config.json": settings})

    assert tokenizer.pad_token_id == 256
    assert tokenizer.padding_side == "left"


def test_without_end_token_there_is_no_padding_token(load: Load) -> None:
    assert load({"tokenizer_config.json": {}}).pad_token is None


def test_the_chat_template_is_loaded(load: Load) -> None:
    text = load().apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)

    assert text == "<|im_start|>user\nhi<|im_end|>\n"


@pytest.mark.parametrize("content", ["{}", "not JSON", '{"model": {"type": "Unknown"}}'])
def test_the_error_names_a_damaged_tokenizer(load: Load, tmp_path: Path, content: str) -> None:
    with pytest.raises(ModelError, match="the tokenizer cannot be loaded") as caught:
        load({"tokenizer.json": content})

    assert str(tmp_path / "model") in caught.value.message
    assert "\n" not in caught.value.message
    assert "model.tokenizer" in caught.value.hint


def test_model_code_is_not_run_without_trust(load: Load, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(ran)!r}).touch()\nclass Own: pass\n"

    with pytest.raises(ModelError, match="Python code of the model") as caught:
        load(
            {
                "tokenizer.json": None,
                "own.py": code,
                "tokenizer_config.json": {
                    "tokenizer_class": "Own",
                    "auto_map": {"AutoTokenizer": ["own.Own", None]},
                },
            }
        )

    assert "model.trust_remote_code: true" in caught.value.hint
    assert not ran.exists()


def test_the_error_names_tokens_outside_the_vocabulary(load: Load, config: dict[str, Any]) -> None:
    with pytest.raises(
        ModelError, match=r"6 tokens beyond the vocabulary of tiny: '.*' has id 250, .* 249"
    ):
        load({"config.json": {**config, "vocab_size": 250}})


@pytest.mark.parametrize("size", [256, 257])
def test_added_tokens_may_be_outside_the_vocabulary(
    load: Load, config: dict[str, Any], size: int
) -> None:
    assert "<|im_end|>" in load({"config.json": {**config, "vocab_size": size}}).get_vocab()


def test_another_tokenizer_is_loaded_from_its_own_folder(
    load: Load, write_model: Write, tmp_path: Path
) -> None:
    other = write_model(
        tmp_path / "other",
        {"config.json": None, "model.safetensors": None, "chat_template.jinja": "other"},
    )

    assert load({"tokenizer.json": None}, tokenizer=str(other)).chat_template == "other"


def test_a_folder_without_a_tokenizer_is_an_error(load: Load) -> None:
    with pytest.raises(ModelError, match="no tokenizer"):
        load({"tokenizer.json": None})


def test_the_error_of_a_missing_tokenizer_is_like_that_of_a_model(tmp_path: Path) -> None:
    resolved = ResolvedModel("tiny", tmp_path, "folder", "")
    spec = ModelSpec(path="tiny", tokenizer=str(tmp_path / "gone"))

    with pytest.raises(ModelError, match=r"folder .*gone does not exist"):
        find_tokenizer(resolved, spec)
