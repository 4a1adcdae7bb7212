"""Jobs with only the sections that prompts use, and tokenizers small enough to count tokens by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from batchgen.job.spec import Job

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + (m['content'] | trim) + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

AskJob = Callable[..., Job]
MakeTokenizer = Callable[..., PreTrainedTokenizerBase]


@pytest.fixture
def ask() -> AskJob:
    """A job; keywords are keys of `prompt`, except the sections `input` and `decoding`."""

    def make(
        *,
        input: dict[str, Any] | None = None,
        decoding: dict[str, Any] | None = None,
        **prompt: Any,
    ) -> Job:
        return Job.model_validate(
            {
                "version": 1,
                "name": "test",
                "input": {"path": "rows.jsonl", **(input or {})},
                "prompt": prompt,
                "decoding": decoding or {},
                "model": {"engine": "echo"},
                "output": {"path": "out"},
            }
        )

    return make


@pytest.fixture(scope="session")
def make_tokenizer() -> MakeTokenizer:
    """A fast tokenizer with a token for each byte, and special tokens."""

    def make(
        special: tuple[str, ...],
        *,
        template: str | None,
        added: tuple[AddedToken, ...] = (),
        bos_by_itself: bool = False,
        nfkc: bool = False,
    ) -> PreTrainedTokenizerBase:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        if nfkc:
            backend.normalizer = normalizers.NFKC()
        backend.add_special_tokens([AddedToken(text, normalized=False) for text in special])
        backend.add_special_tokens([t for t in added if t.special])
        backend.add_tokens([t for t in added if not t.special])
        if bos_by_itself:
            backend.post_processor = processors.TemplateProcessing(
                single=f"{special[0]} $A",
                special_tokens=[(special[0], backend.token_to_id(special[0]))],
            )
        return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # transformers has no types here
            tokenizer_object=backend,
            bos_token=special[0],
            eos_token=special[-1],
            chat_template=template,
        )

    return make


@pytest.fixture(scope="session")
def chatml(make_tokenizer: MakeTokenizer) -> PreTrainedTokenizerBase:
    """Like Qwen and SmolLM: turns between two special tokens, no BOS."""
    return make_tokenizer(("<|im_start|>", "<|im_end|>"), template=CHATML)


@pytest.fixture(scope="session")
def llama3(make_tokenizer: MakeTokenizer) -> PreTrainedTokenizerBase:
    """Like Llama 3: BOS both in the template and from the tokenizer itself; the template trims messages."""
    return make_tokenizer(
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        template=LLAMA3,
        bos_by_itself=True,
    )


@pytest.fixture(scope="session")
def base_model(make_tokenizer: MakeTokenizer) -> PreTrainedTokenizerBase:
    """Like a base model: BOS from the tokenizer itself, no chat template."""
    return make_tokenizer(("<s>", "</s>"), template=None, bos_by_itself=True)


@pytest.fixture(scope="session")
def demo_tokenizer(demo_folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of the demo model."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(demo_folder)
    return tokenizer
