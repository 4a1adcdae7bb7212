"""Facts about a model from its JSON files and the headers of its weights; takes milliseconds."""

import hashlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ModelError
from batchgen.models.config_check import EMBEDDINGS, check_against_weights, text_section
from batchgen.models.find_model import ResolvedModel
from batchgen.models.formats.marker import read_marker
from batchgen.models.hash_cache import HashCache
from batchgen.models.model_folder import (
    CONFIG_FILE,
    GENERATION_CONFIG_FILE,
    INDEX_FILE,
    TEMPLATE_FILES,
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILES,
    check_config,
    weight_files,
)
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.entries import exists, is_file
from batchgen.storage.json_file import read_json
from batchgen.storage.openvino_header import (
    WeightFormat,
    read_openvino_header,
)
from batchgen.storage.safetensors_header import SafetensorsHeader, read_safetensors_header

UNLIMITED = sys.maxsize
"""Context length of a model that states none, such as a state-space model."""
CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "max_seq_length",
    "model_max_length",
)
"""Keys of the longest sequence in configs, the usual one first."""
SANE_LENGTH = 10**9
"""A larger model_max_length of a tokenizer (often 10**30) means that none is stated."""
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts about a model.

    Attributes:
        model_type: as in config.json, such as llama.
        parameters: elements in the weight files; tied ones count once. Fewer than the model has if a quantiser packed
            them.
        weight_bytes: bytes of the tensors on disk.
        dtype: of config.json, else the most frequent one of the weights, such as bfloat16.
        context_length: tokens of prompt and response together; `UNLIMITED` if neither config nor tokenizer states it.
        vocab_size: rows of the output; every token id is smaller. `UNLIMITED` if the weights are not read and the config
            does not state it.
        generation_config: generation_config.json; empty if the model has none.
        end_token_sources: ids of end tokens by source: config, generation_config, tokenizer.
        chat_template: the file that contains it; None without one, as in base models.
        remote_code: whether config or tokenizer name Python code of the model.
        files: names of the weight files.
    """

    model_type: str
    architectures: tuple[str, ...]
    parameters: int
    weight_bytes: int
    dtype: str
    context_length: int
    vocab_size: int
    is_encoder_decoder: bool
    generation_config: Mapping[str, object]
    end_token_sources: Mapping[str, int | tuple[int, ...]]
    chat_template: str | None
    remote_code: bool
    files: tuple[str, ...]
    folder: Path

    @property
    def identity(self) -> dict[str, str]:
        """Digests by kind of file; part of the generation fingerprint. Reads every byte of files that are not known yet."""
        return _identity(self.folder, self.files)

    @property
    def has_chat_template(self) -> bool:
        """False for base models."""
        return self.chat_template is not None


def read_model_info(
    resolved: ResolvedModel, *, weights: WeightFormat | None = "safetensors"
) -> ModelInfo:
    """Read the facts from the model's folder. Without `weights`, those files are not read, and config.json may be missing.

    Raises:
        ModelError: a file is missing or damaged, or the files contradict each other.
    """
    folder = resolved.folder
    check_config(folder)
    config = read_json(folder / CONFIG_FILE) if weights else _optional(folder / CONFIG_FILE)
    generation = _optional(folder / GENERATION_CONFIG_FILE)
    tokenizer = _optional(folder / TOKENIZER_CONFIG_FILE)
    text = text_section(config)
    graph = read_openvino_header(folder) if weights == "openvino" else None
    files = weight_files(folder) if weights == "safetensors" else ()
    headers = [read_safetensors_header(file) for file in files]
    _require_every_tensor(folder, headers)
    if headers:
        check_against_weights(folder / CONFIG_FILE, config, headers)
    return ModelInfo(
        model_type=str(config.get("model_type", "")),
        architectures=tuple(str(name) for name in _list(config.get("architectures"))),
        parameters=sum(tensor.elements for header in headers for tensor in header.tensors)
        + (graph.parameters if graph else 0),
        weight_bytes=sum(header.size - header.data_start for header in headers)
        + (graph.weight_bytes if graph else 0),
        dtype=_dtype(config, text, headers),
        context_length=_context_length(config, text, tokenizer),
        vocab_size=vocabulary_size(folder, weights=weights is not None),
        is_encoder_decoder=config.get("is_encoder_decoder") is True,
        generation_config=generation,
        end_token_sources=_end_tokens(folder, (config, text), generation, tokenizer),
        chat_template=_chat_template(folder, tokenizer),
        remote_code="auto_map" in config or "auto_map" in tokenizer,
        files=tuple(file.name for file in files) or (graph.files if graph else ()),
        folder=folder,
    )


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What the JSON files of a model state about lengths; see `ModelInfo`."""

    context_length: int
    generation_config: Mapping[str, object]


def read_limits(folder: Path) -> ModelLimits:
    """Read the limits from JSON files alone, of which any may be missing. Raises ModelError if one is damaged."""
    config, tokenizer = _optional(folder / CONFIG_FILE), _optional(folder / TOKENIZER_CONFIG_FILE)
    length = _context_length(config, text_section(config), tokenizer)
    return ModelLimits(length, _optional(folder / GENERATION_CONFIG_FILE))


def vocabulary_size(folder: Path, *, weights: bool = True) -> int:
    """As `ModelInfo.vocab_size`; raises ModelError if neither config nor weights state it."""
    read = read_json if weights else _optional
    text = text_section(read(folder / CONFIG_FILE))
    if size := _whole(text.get("vocab_size")):
        return size
    if not weights:
        return UNLIMITED
    for file in weight_files(folder):
        for tensor in read_safetensors_header(file).tensors:
            if tensor.name.endswith(EMBEDDINGS) and len(tensor.shape) == 2:
                return tensor.shape[0]
    raise ModelError(f"{folder / CONFIG_FILE}: not a language model: no vocab_size")


def tokenizer_identity(folder: Path) -> str:
    """A SHA-256 of all files that define the tokenizer, chat template included."""
    digest = hashlib.sha256()
    for name in (*TOKENIZER_FILES, *_further_tokenizer_files(folder)):
        if is_file(folder / name):
            digest.update(f"{name} {_sha256(folder / name)}\n".encode())
    return digest.hexdigest()


def _further_tokenizer_files(folder: Path) -> list[str]:
    """Named chat templates, tokenizers for one version of transformers, and code of the model."""
    patterns = ("additional_chat_templates/*", "tokenizer.*.json", "*.py")
    return sorted(str(f.relative_to(folder)) for pattern in patterns for f in folder.glob(pattern))


def token_id(folder: Path, token: str) -> int | None:
    """The id of a token by its text, from the tokenizer's files; None if they do not state it."""
    listed = _optional(folder / TOKENIZER_CONFIG_FILE).get("added_tokens_decoder")
    if isinstance(listed, dict):
        for number, entry in listed.items():
            if isinstance(entry, dict) and entry.get("content") == token and number.isdecimal():
                return int(number)
    whole = _optional(folder / "tokenizer.json")
    for entry in _list(whole.get("added_tokens")):
        if isinstance(entry, dict) and entry.get("content") == token:
            return _whole(entry.get("id"))
    for vocabulary in (
        _optional(folder / "vocab.json"),
        _section(_section(whole, "model"), "vocab"),
    ):
        if token in vocabulary:
            return _whole(vocabulary[token])
    return None


def _optional(file: Path) -> Mapping[str, object]:
    return read_json(file) if exists(file) else {}


def _section(mapping: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = mapping.get(key)
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _require_every_tensor(folder: Path, headers: Sequence[SafetensorsHeader]) -> None:
    if not is_file(folder / INDEX_FILE) or len(headers) == 0:
        return
    named = _section(read_json(folder / INDEX_FILE), "weight_map")
    held = {header.file.name: {t.name for t in header.tensors} for header in headers}
    for tensor, file in named.items():
        if str(file) in held and tensor not in held[str(file)]:
            raise ModelError(
                f"{folder / str(file)}: tensor {tensor} is missing, but listed in {INDEX_FILE}",
                hint="Download or copy the model again; the files are of different versions.",
            )


def _dtype(
    config: Mapping[str, object], text: Mapping[str, object], headers: Sequence[SafetensorsHeader]
) -> str:
    for section in (config, text):
        for key in ("dtype", "torch_dtype"):
            if isinstance(stated := section.get(key), str):
                return stated.removeprefix("torch.")
    sizes: Counter[str] = Counter()
    for header in headers:
        for tensor in header.tensors:
            sizes[tensor.dtype] += tensor.elements
    most = sizes.most_common(1)[0][0] if sizes else "F32"
    return DTYPES.get(most, most.lower())


def _context_length(
    config: Mapping[str, object], text: Mapping[str, object], tokenizer: Mapping[str, object]
) -> int:
    for section in (text, config):
        for key in CONTEXT_KEYS:
            if length := _whole(section.get(key)):
                return length
    stated = tokenizer.get("model_max_length")
    if isinstance(stated, int | float) and 0 < stated < SANE_LENGTH:
        return int(stated)
    return UNLIMITED


def _end_tokens(
    folder: Path,
    configs: tuple[Mapping[str, object], Mapping[str, object]],
    generation: Mapping[str, object],
    tokenizer: Mapping[str, object],
) -> dict[str, int | tuple[int, ...]]:
    whole, text = configs
    token = tokenizer.get("eos_token")
    if isinstance(token, dict):
        token = token.get("content")
    stated: dict[str, object] = {
        "config": text.get("eos_token_id", whole.get("eos_token_id")),
        "generation_config": generation.get("eos_token_id"),
        "tokenizer": token_id(folder, token) if isinstance(token, str) else None,
    }
    found: dict[str, int | tuple[int, ...]] = {}
    for source, value in stated.items():
        one = _whole(value)
        several = tuple(n for n in map(_whole, _list(value)) if n is not None)
        if one is not None:
            found[source] = one
        elif several:
            found[source] = several
    return found


def _chat_template(folder: Path, tokenizer: Mapping[str, object]) -> str | None:
    for name in TEMPLATE_FILES:
        if is_file(folder / name):
            return name
    return TOKENIZER_CONFIG_FILE if tokenizer.get("chat_template") else None


def _identity(folder: Path, weight_names: Sequence[str]) -> dict[str, str]:
    identity = {"tokenizer_sha256": tokenizer_identity(folder)}
    if source := read_marker(folder).get("gguf_sha256"):
        identity["gguf_sha256"] = str(source)
    for file in (CONFIG_FILE, GENERATION_CONFIG_FILE):
        if is_file(folder / file):
            identity[f"{file.removesuffix('.json')}_sha256"] = _sha256(folder / file)
    if weight_names:
        # Every byte counts; unchanged files are read once.
        hashes, weights = HashCache(cache_folder() / "hashes"), hashlib.sha256()
        for name in weight_names:
            weights.update(hashes.sha256(folder / name).encode())
        identity["weights_sha256"] = weights.hexdigest()
    return identity


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror or error}") from error
