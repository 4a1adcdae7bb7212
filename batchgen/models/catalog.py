"""What `batchgen models` shows: the models at hand, and what a look at one finds, without loading its weights.

Knows nothing of how it is printed.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batchgen.errors import ModelError
from batchgen.job.spec import ModelSpec
from batchgen.models.demo.demo_model import DEMO_MODELS
from batchgen.models.demo.marker import is_intact
from batchgen.models.find_model import ResolvedModel, resolve_model
from batchgen.models.hub import Hub
from batchgen.models.info import UNLIMITED, ModelInfo, read_model_info
from batchgen.models.model_folder import check_model_folder, check_tokenizer_folder
from batchgen.models.tokenizer import load_tokenizer
from batchgen.progress import SILENT, Reporter
from batchgen.storage.cache_folder import cache_folder

ModelState = Literal["ready", "to be fetched", "incomplete"]
CheckStatus = Literal["ok", "note", "problem"]
ROUND_TRIP = "Hello, wörld! 12  34\n你好，世界。 🙂"
"""Blanks, digits, an umlaut, Chinese and a character outside the basic plane."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that a job can name.

    Attributes:
        name: what to write into `model.path`.
        source: a starter, or the hub's cache.
        folder: where it is; None if it has to be fetched first.
        bytes: on disk; of a model to be fetched, those of the download.
        note: licence of a starter, commit of a hub model, or what is missing.
    """

    name: str
    source: Literal["demo", "cache"]
    state: ModelState
    folder: Path | None
    bytes: int
    note: str


@dataclass(frozen=True, slots=True)
class CheckItem:
    """One thing that a check looked at. "note" is worth knowing, "problem" keeps a job from running."""

    topic: str
    verdict: CheckStatus
    text: str


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What was found about a model; the weights themselves were not read."""

    resolved: ResolvedModel
    card: ModelInfo
    findings: tuple[CheckItem, ...]

    @property
    def usable(self) -> bool:
        """Whether nothing stands in the way of a run."""
        return all(finding.verdict != "problem" for finding in self.findings)


def list_models(*, cache: Path | None = None, hub: Hub | None = None) -> tuple[KnownModel, ...]:
    """The starters, fetched or not, and every model in the hub's cache. Touches no network."""
    hub = hub or Hub.from_environment(os.environ)
    starters = _starters(cache or cache_folder())
    return (*starters, *(_cached(hub, model_id) for model_id in hub.models()))


def get_model(
    name: str,
    *,
    revision: str | None = None,
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> ResolvedModel:
    """Fetch a model now, so that a run tonight finds it. What is here already is left alone.

    Raises:
        ModelError: as `resolve.resolve_model`.
        ResourceError: no room to fetch it.
    """
    return resolve_model(name, revision=revision, cache=cache, reporter=reporter)


def check_model(
    name: str,
    *,
    revision: str | None = None,
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> ModelCheck:
    """Look at a model's files and its tokenizer: what a run would need, and whether it is there.

    Raises:
        ModelError: it cannot be found, or files are missing or damaged.
    """
    resolved = resolve_model(name, revision=revision, cache=cache, reporter=reporter)
    card = read_model_info(resolved)
    return ModelCheck(resolved, card, tuple(_findings(resolved, card)))


def _starters(cache: Path) -> Iterator[KnownModel]:
    for starter in DEMO_MODELS.values():
        folder = starter.folder(cache)
        if is_intact(folder):
            yield KnownModel(starter.name, "demo", "ready", folder, _bytes(folder), starter.licence)
        else:
            yield KnownModel(
                starter.name, "demo", "to be fetched", None, starter.wheel.size, starter.licence
            )


def _cached(hub: Hub, model_id: str) -> KnownModel:
    folder = hub.snapshot(model_id, None)
    if folder is None:
        folder = max((hub.repository(model_id) / "snapshots").iterdir(), default=None)
    if folder is None:
        return KnownModel(model_id, "cache", "incomplete", None, 0, "no files")
    try:
        check_model_folder(folder)
        check_tokenizer_folder(folder)
    except ModelError as error:
        missing = error.message.removeprefix(f"{folder}: ")
        return KnownModel(model_id, "cache", "incomplete", folder, _bytes(folder), missing)
    return KnownModel(model_id, "cache", "ready", folder, _bytes(folder), folder.name)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _findings(resolved: ResolvedModel, card: ModelInfo) -> Iterator[CheckItem]:
    yield CheckItem(
        "weights",
        "ok",
        f"{card.parameters:,} parameters, {card.weight_bytes / 1e6:,.0f} MB as {card.dtype} "
        f"in {', '.join(card.files[:1])}{f' and {more} more' if (more := len(card.files) - 1) else ''}; "
        "headers checked, numbers not read",
    )
    yield _context(card)
    yield _end_tokens(card)
    yield _template(card)
    if card.remote_code:
        yield CheckItem(
            "code", "note", "brings Python code of its own; run only with model.trust_remote_code"
        )
    yield from _tokenizer(resolved)


def _context(card: ModelInfo) -> CheckItem:
    if card.context_length == UNLIMITED:
        return CheckItem("context", "note", "no length stated; model.max_model_len sets one")
    return CheckItem("context", "ok", f"{card.context_length:,} tokens")


def _end_tokens(card: ModelInfo) -> CheckItem:
    if not card.end_token_sources:
        return CheckItem("end tokens", "note", "none stated: every answer runs to max_new_tokens")
    said = "; ".join(f"{source}: {ids}" for source, ids in card.end_token_sources.items())
    return CheckItem("end tokens", "ok", said)


def _template(card: ModelInfo) -> CheckItem:
    if card.chat_template is None:
        return CheckItem(
            "chat template", "note", "none, as with base models: set prompt.chat_template: none"
        )
    return CheckItem("chat template", "ok", card.chat_template)


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
        return CheckItem("pad token", "note", "none; masked positions get id 0")
    same = tokenizer.pad_token == tokenizer.eos_token
    text = f"{tokenizer.pad_token} ({tokenizer.pad_token_id})"
    return CheckItem("pad token", "ok", f"{text}, the end token" if same else text)


def _round_trip(tokenizer: Any) -> CheckItem:  # noqa: ANN401  (as tokenizer.load_tokenizer)
    ids = tokenizer.encode(ROUND_TRIP, add_special_tokens=False)
    if tokenizer.decode(ids) == ROUND_TRIP:
        return CheckItem(
            "round trip", "ok", f"{len(ROUND_TRIP)} characters, {len(ids)} tokens, equal"
        )
    return CheckItem(
        "round trip",
        "note",
        "text does not come back unchanged from tokens: some characters are lost",
    )
