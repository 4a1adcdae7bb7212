"""Finds and loads the tokenizer of a model.

Loading never connects to the hub, and runs code of the model only if the job trusts it.
"""

from pathlib import Path
from typing import Any

from batchgen.errors import ModelError
from batchgen.job.spec import ModelSpec
from batchgen.models.find_model import ResolvedModel, Resolver
from batchgen.models.hubs.hub import go_offline
from batchgen.models.info import vocabulary_size
from batchgen.models.model_folder import (
    CONFIG_FILE,
    TOKENIZER_CONFIG_FILE,
    check_tokenizer_folder,
)
from batchgen.models.model_names import hub_of
from batchgen.planning.address_space import require_room_for_torch
from batchgen.progress import SILENT, Reporter
from batchgen.storage.entries import exists, is_file
from batchgen.storage.json_file import read_json


def load_tokenizer(resolved: ResolvedModel, spec: ModelSpec, *, reporter: Reporter = SILENT) -> Any:  # noqa: ANN401  (a PreTrainedTokenizerBase: its module is imported only when one is loaded)
    """The tokenizer of a model, or the one of `model.tokenizer`: a transformers `PreTrainedTokenizerBase`.

    It pads on the left, and has a padding token if it has an end token. It is a fast one if the model has one.

    Raises:
        ModelError: files or packages are missing, its code is not trusted, or it has token ids beyond the model's
            vocabulary.
    """
    folder = find_tokenizer(resolved, spec, reporter=reporter).folder
    return load_from(folder, resolved, spec, vocabulary_size(resolved.folder))


def load_from(folder: Path, resolved: ResolvedModel, spec: ModelSpec, vocab_size: int) -> Any:  # noqa: ANN401  (as load_tokenizer)
    """As `load_tokenizer`, from the folder of `find_tokenizer`; `vocab_size` is that of the model."""
    check_tokenizer_folder(folder)
    tokenizer = _load(folder, trust_remote_code=spec.trust_remote_code)
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    _check_vocabulary(tokenizer, folder, resolved, vocab_size)
    return tokenizer


def find_tokenizer(
    resolved: ResolvedModel,
    spec: ModelSpec,
    *,
    revision: str | None = None,
    reporter: Reporter = SILENT,
) -> ResolvedModel:
    """The model itself, or `model.tokenizer`, downloaded if needed in `revision` (default: the newest).

    Raises:
        ModelError: it cannot be found.
    """
    if spec.tokenizer is None:
        return resolved
    resolver = Resolver(hub=hub_of(spec.tokenizer), reporter=reporter, wanted="tokenizer")
    return resolver.resolve(spec.tokenizer, revision)


def _load(folder: Path, *, trust_remote_code: bool) -> Any:  # noqa: ANN401  (as load_tokenizer)
    go_offline()
    require_room_for_torch()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            folder,
            # None would prompt on standard input.
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            padding_side="left",
        )
    except Exception as error:  # the tokenizers library raises no narrower class
        raise _translated(error, folder, trust_remote_code=trust_remote_code) from error


def _translated(error: Exception, folder: Path, *, trust_remote_code: bool) -> ModelError:
    if not trust_remote_code and _own_code(folder):
        return ModelError(
            f"{folder}: the tokenizer is Python code of the model, which runs only if it is trusted",
            hint="Read its *.py files; if you trust them, set model.trust_remote_code: true.",
        )
    if isinstance(error, ImportError):
        return ModelError(
            f"{folder}: the tokenizer needs a package that is not installed: {_first_line(error)}",
            hint="Install it, or give a folder that contains tokenizer.json.",
        )
    if (reason := _config_error(folder)) is not None:
        return ModelError(
            f"{folder / CONFIG_FILE}: transformers cannot read it: {_first_line(reason)}",
            hint="Copy or download config.json again, or install the version of transformers that it names.",
        )
    return ModelError(
        f"{folder}: the tokenizer cannot be loaded: {_first_line(error)}",
        hint="Download the tokenizer files again, or set model.tokenizer to another tokenizer.",
    )


def _config_error(folder: Path) -> Exception | None:
    """Why transformers rejects config.json, which it reads to choose the class of the tokenizer; None if it does not."""
    from transformers import AutoConfig

    if not is_file(folder / CONFIG_FILE) or _own_code(folder):
        return None
    try:
        AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # noqa: BLE001  (as in _load)
        return error
    return None


def _own_code(folder: Path) -> bool:
    files = [folder / name for name in (TOKENIZER_CONFIG_FILE, CONFIG_FILE)]
    return any("auto_map" in read_json(file) for file in files if exists(file))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [
        "no reason given"
    ]
    shown = lines[0] if not lines[0].endswith(":") else " ".join(lines[:2])
    return f"{type(error).__name__}: {shown[:300]}"


def _check_vocabulary(tokenizer: Any, folder: Path, resolved: ResolvedModel, rows: int) -> None:  # noqa: ANN401  (as load_tokenizer)
    """Reject the tokenizer of another model: one that has ordinary tokens beyond the vocabulary.

    Added ones, such as a `[PAD]` that a training needed, are common; only rows that use them fail.
    """
    added = tokenizer.added_tokens_decoder
    beyond = sorted(
        (number, token)
        for token, number in tokenizer.get_vocab().items()
        if number >= rows and number not in added
    )
    if beyond:
        number, token = beyond[0]
        raise ModelError(
            f"{folder}: the tokenizer has {len(beyond)} tokens beyond the vocabulary of {resolved.name}: "
            f"{token!r} has id {number}, expected at most {rows - 1}",
            hint="Set model.tokenizer to the tokenizer of this model.",
        )
