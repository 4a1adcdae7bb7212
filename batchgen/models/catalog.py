"""The commands of `batchgen models`: list models, download one, check one without loading its weights."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batchgen.errors import ModelError
from batchgen.job.spec import ModelSpec
from batchgen.lora.adapter_folder import Adapter, is_adapter_folder, read_adapter
from batchgen.models.demo.demo_model import DEMO_MODELS
from batchgen.models.find_model import ResolvedModel, resolve_model
from batchgen.models.formats.compressed_weights import find_compression
from batchgen.models.formats.gguf_model import list_gguf_models, remove_gguf_model
from batchgen.models.formats.marker import is_intact
from batchgen.models.hubs.hub import Hub
from batchgen.models.hubs.model_scope import ModelScope
from batchgen.models.info import UNLIMITED, ModelInfo, read_model_info
from batchgen.models.model_folder import (
    check_model_folder,
    check_tokenizer_folder,
    format_of,
)
from batchgen.models.tokenizer import load_tokenizer
from batchgen.progress import SILENT, Reporter
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.entries import is_file, is_folder, list_folder

ModelState = Literal["ready", "not downloaded", "incomplete"]
CheckStatus = Literal["ok", "note", "problem"]
_LEAST_OF_HASH = 8
ROUND_TRIP = "Hello, wörld! 12  34\n你好，世界。 🙂"
"""Blanks, digits, an umlaut, Chinese and a character outside the Basic Multilingual Plane."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that a job can name.

    Attributes:
        name: the value for `model.path`, or of an adapter for `model.adapter`; of a GGUF file only its name.
        folder: None if it is not downloaded.
        bytes: on disk, or of the download.
        note: licence of a demo model, hash of a GGUF file, commit of a hub model, the base model of an adapter, or what is
            missing.
    """

    name: str
    source: Literal["demo", "gguf", "cache"]
    state: ModelState
    folder: Path | None
    bytes: int
    note: str


@dataclass(frozen=True, slots=True)
class CheckItem:
    """One line of a check; a job cannot run with a "problem"."""

    topic: str
    verdict: CheckStatus
    text: str


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """The result of `check_model`."""

    resolved: ResolvedModel
    items: tuple[CheckItem, ...]

    @property
    def usable(self) -> bool:
        """Whether there is no problem."""
        return all(item.verdict != "problem" for item in self.items)


def list_models(
    *, cache: Path | None = None, hubs: Sequence[Hub] | None = None
) -> tuple[KnownModel, ...]:
    """The demo models, downloaded or not, converted GGUF files, and all models in the caches of hubs; does not connect."""
    hubs = _hubs() if hubs is None else hubs
    cache = cache or cache_folder()
    demos, converted = _demo_models(cache), list_gguf_models(cache)
    ggufs = (
        KnownModel(one.name, "gguf", "ready", one.folder, one.bytes, f"sha256 {one.sha256[:16]}")
        for one in reversed(converted)
    )
    cached = (_cached(hub, model_id) for hub in hubs for model_id in hub.models())
    return (*demos, *ggufs, *cached)


def remove_models(
    name: str, *, cache: Path | None = None, hubs: Sequence[Hub] | None = None
) -> tuple[Path, ...]:
    """Delete a demo model, a model in the cache of a hub, or the conversions of a GGUF file.

    Args:
        name: as `list_models` shows it; of a GGUF file also the start of its sha256.
        cache: folder of demo models and converted files; default: `cache_folder()`.
        hubs: default: the hub and ModelScope, of this environment.

    Raises:
        ModelError: there is none on this machine, or it cannot be deleted.
    """
    cache, hubs = cache or cache_folder(), _hubs() if hubs is None else hubs
    converted = [
        one
        for one in list_gguf_models(cache)
        if one.name == name or (len(name) >= _LEAST_OF_HASH and one.sha256.startswith(name))
    ]
    for one in converted:
        remove_gguf_model(one)
    folders = [demo.folder(cache) for demo in DEMO_MODELS.values() if demo.name == name]
    folders += [hub.repository(name) for hub in hubs if name in hub.models()]
    found = [folder for folder in folders if is_folder(folder)]
    for folder in found:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise ModelError(f"{folder}: {error.strerror or error}") from error
    if not converted and not found:
        known = [model.name for model in list_models(cache=cache, hubs=hubs) if model.folder]
        raise ModelError(
            f"no model {name} in the caches of this machine; found {', '.join(known) or 'none'}",
            hint="`batchgen models list` lists them. A folder of your own is not deleted by this command.",
        )
    return (*(one.folder for one in converted), *found)


def get_model(
    name: str,
    *,
    revision: str | None = None,
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> ResolvedModel:
    """Download a model or an adapter if it is not on this machine, so that later runs can work offline; as `resolve_model`."""
    return resolve_model(name, revision=revision, cache=cache, wanted="any", reporter=reporter)


def check_model(
    name: str,
    *,
    revision: str | None = None,
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> ModelCheck:
    """Check a model's files and tokenizer, or an adapter's files.

    Raises:
        ModelError: it is not found, or files are missing or damaged.
    """
    resolved = resolve_model(name, revision=revision, cache=cache, wanted="any", reporter=reporter)
    if is_adapter_folder(resolved.folder):
        return ModelCheck(resolved, tuple(_adapter_items(read_adapter(resolved.folder))))
    info = read_model_info(resolved, weights=format_of(resolved.folder))
    return ModelCheck(resolved, tuple(_items(resolved, info)))


def _hubs() -> tuple[Hub, ...]:
    return Hub.from_environment(os.environ), ModelScope.from_environment(os.environ)


def _demo_models(cache: Path) -> Iterator[KnownModel]:
    for demo in DEMO_MODELS.values():
        folder = demo.folder(cache)
        if is_intact(folder):
            yield KnownModel(demo.name, "demo", "ready", folder, _bytes(folder), demo.licence)
        else:
            yield KnownModel(
                demo.name, "demo", "not downloaded", None, demo.wheel.size, demo.licence
            )


def _cached(hub: Hub, model_id: str) -> KnownModel:
    folder = hub.snapshot(model_id, None)
    if folder is None:
        folder = max(list_folder(hub.repository(model_id) / "snapshots"), default=None)
    if folder is None:
        return KnownModel(model_id, "cache", "incomplete", None, 0, "no files")
    if hub.is_unfinished(folder):
        note = "its download was interrupted"
        return KnownModel(model_id, "cache", "incomplete", folder, _bytes(folder), note)
    note = folder.name
    try:
        if is_adapter_folder(folder):
            note = f"adapter for {read_adapter(folder).base_model or 'an unnamed model'} · {note}"
        else:
            check_model_folder(folder, "any")
            check_tokenizer_folder(folder)
    except ModelError as error:
        missing = error.message.removeprefix(f"{folder}: ")
        return KnownModel(model_id, "cache", "incomplete", folder, _bytes(folder), missing)
    return KnownModel(model_id, "cache", "ready", folder, _bytes(folder), note)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if is_file(file))


def _adapter_items(adapter: Adapter) -> Iterator[CheckItem]:
    yield CheckItem("adapter", "ok", f"{adapter.describe()}; header checked, data not read")
    base = adapter.base_model
    yield CheckItem("base model", "ok" if base else "note", base or "not stated")


def _items(resolved: ResolvedModel, info: ModelInfo) -> Iterator[CheckItem]:
    yield CheckItem(
        "weights",
        "ok",
        f"{info.parameters:,} parameters, {info.weight_bytes / 1e6:,.0f} MB as {info.dtype} "
        f"in {', '.join(info.files[:1])}{f' and {more} more' if (more := len(info.files) - 1) else ''}; "
        "headers checked, data not read",
    )
    if compression := find_compression(resolved.folder):
        text = f"compressed by {compression.method}, which engine transformers cannot compute with"
        yield CheckItem("compression", "note", text)
    yield _context(info)
    yield _end_tokens(info)
    yield _template(info)
    if info.remote_code:
        yield CheckItem(
            "code", "note", "contains Python code, which runs only with model.trust_remote_code"
        )
    yield from _tokenizer(resolved)


def _context(info: ModelInfo) -> CheckItem:
    if info.context_length == UNLIMITED:
        return CheckItem("context", "note", "not stated; model.max_model_len sets it")
    return CheckItem("context", "ok", f"{info.context_length:,} tokens")


def _end_tokens(info: ModelInfo) -> CheckItem:
    if not info.end_token_sources:
        return CheckItem("end tokens", "note", "none stated: every response runs to max_new_tokens")
    stated = "; ".join(f"{source}: {ids}" for source, ids in info.end_token_sources.items())
    return CheckItem("end tokens", "ok", stated)


def _template(info: ModelInfo) -> CheckItem:
    if info.chat_template is None:
        return CheckItem(
            "chat template", "note", "none, as in base models; needs prompt.chat_template: none"
        )
    return CheckItem("chat template", "ok", info.chat_template)


def _tokenizer(resolved: ResolvedModel) -> Iterator[CheckItem]:
    try:
        tokenizer = load_tokenizer(resolved, ModelSpec(path=resolved.name))
    except ModelError as error:
        yield CheckItem("tokenizer", "problem", str(error))
        return
    kind = "fast" if tokenizer.is_fast else "slow"
    yield CheckItem("tokenizer", "ok", f"{len(tokenizer):,} tokens, {kind}, pads on the left")
    yield _padding(tokenizer)
    yield _round_trip(tokenizer)


def _padding(tokenizer: Any) -> CheckItem:  # noqa: ANN401  (as tokenizer.load_tokenizer)
    if tokenizer.pad_token is None:
        return CheckItem("pad token", "note", "none; masked positions have id 0")
    same = tokenizer.pad_token == tokenizer.eos_token
    text = f"{tokenizer.pad_token} ({tokenizer.pad_token_id})"
    return CheckItem("pad token", "ok", f"{text}, the end token" if same else text)


def _round_trip(tokenizer: Any) -> CheckItem:  # noqa: ANN401  (as tokenizer.load_tokenizer)
    ids = tokenizer.encode(ROUND_TRIP, add_special_tokens=False)
    if tokenizer.decode(ids) == ROUND_TRIP:
        text = f"{len(ROUND_TRIP)} characters, {len(ids)} tokens, equal"
        return CheckItem("round trip", "ok", text)
    return CheckItem("round trip", "note", "decoded tokens differ from the text")
