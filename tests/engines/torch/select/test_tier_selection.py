"""A tier that is known from an earlier run answers as the one that was tried; whatever changed, it is tried again."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.model import LoadedModel, load_model
from batchgen.engines.torch.model_files import ModelFiles
from batchgen.engines.torch.select.environment import ComputeSettings, environment_key
from batchgen.engines.torch.select.tier_cache import TierCache
from batchgen.engines.torch.select.tier_selection import select_tier
from batchgen.job.spec import Batching, ModelSpec
from tests.engines.torch.tiny_models import CPU, by_row, prompts, requests, spell, tiny_model

ROOM = 10**9
SPEC = ModelSpec(path="model")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "verdicts"


class Folders:
    """Tiny models in folders that nobody has touched for a while; each test has its own."""

    def __init__(self, root: Path) -> None:
        self._left: dict[str, list[Path]] = {}
        for family, count in (("llama", 6), ("gpt2", 2), ("lfm2", 1), ("t5", 1)):
            self._left[family] = [root / f"{family}-{number}" for number in range(count)]
            for folder in self._left[family]:
                tiny_model(family, torch.float32).save_pretrained(folder)
        time.sleep(2.1)  # ctime cannot be set back, and files that are younger are not trusted

    def take(self, family: str) -> Path:
        return self._left[family].pop()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


def load(folder: Path, spec: ModelSpec = SPEC) -> LoadedModel:
    return load_model(folder, spec)


def known(model: LoadedModel, *, free: int = ROOM) -> bool:
    return select_tier(model, "slots", free).known


def engine_of(model: LoadedModel) -> TorchEngine:
    return TorchEngine(model, batching=Batching(), decode=spell, should_stop=lambda: False)


def forwards(model: LoadedModel) -> list[int]:
    """Counts the forwards of a model from now on."""
    seen: list[int] = []

    def note(_module: object, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0].numel())

    model.model.get_input_embeddings().register_forward_pre_hook(note)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "tier"),
    [
        ("llama", "slots, own forward"),
        ("gpt2", "slots"),
        ("lfm2", "cohort"),
        ("t5", "generate, padded"),
    ],
)
def test_the_second_start_tries_nothing_and_answers_the_same(
    family: str, tier: str, folders: Folders
) -> None:
    folder = folders.take(family)
    first = engine_of(load(folder))
    wanted = by_row(first.generate(requests(prompts())))
    again = load(folder)
    computed = forwards(again)
    second = engine_of(again)
    assert computed == []
    assert by_row(second.generate(requests(prompts()))) == wanted
    kept = [name for name in first.facts() if name.startswith(("tier", "batch_", "kv_", "state_"))]
    assert len(kept) == 7
    assert [second.facts()[name] for name in kept] == [first.facts()[name] for name in kept]
    assert second.facts()["tier"] == tier


@pytest.mark.slow
def test_whatever_may_change_the_outcome_has_it_tried_again(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders.take("llama")
    assert not known(load(folder))
    assert known(load(folder))
    # No room for packed weights: other products.
    assert not known(load(folder), free=1000)
    assert known(load(folder), free=1000)
    assert not known(load(folder, ModelSpec(path="model", attn_implementation="eager")))
    assert not known(load(folder, ModelSpec(path="model", dtype="bfloat16")))
    assert not select_tier(load(folder), "cohort", ROOM).known
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert not known(load(folder))
    monkeypatch.delenv("MKL_CBWR")
    weights = folder / "model.safetensors"
    seen = weights.stat()
    weights.write_bytes(weights.read_bytes())
    os.utime(weights, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert not known(load(folder)), "the time of writing was set back"
    assert not known(load(folder)), "and the files were too young for the outcome to be kept"


def test_files_that_change_while_they_are_read_are_not_kept(folders: Folders, cache: Path) -> None:
    folder = folders.take("llama")
    model = load(folder)
    (folder / "config.json").touch()
    assert not known(model)
    assert not cache.exists()


def test_a_file_that_goes_away_while_it_is_looked_at_leaves_nothing_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between listing and looking, which no other process can be made to hit."""
    monkeypatch.setattr(
        f"{environment_key.__module__}._files", lambda folder: iter([folder / "gone"])
    )
    seen = ModelFiles.look(tmp_path, SPEC)
    assert not seen.settled
    assert not seen.unchanged()


def test_of_a_models_own_code_nothing_is_kept(folders: Folders, cache: Path) -> None:
    folder = folders.take("llama")
    select_tier(load(folder, ModelSpec(path="model", trust_remote_code=True)), "slots", ROOM)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("family", "unheard_of"), [("gpt2", "slots, own forward"), ("llama", "mesh")]
)
def test_a_tier_that_cannot_be_made_is_tried_again(
    family: str, unheard_of: str, folders: Folders, cache: Path
) -> None:
    model = load(folders.take(family))
    ready = select_tier(model, "slots", ROOM)
    (file,) = cache.iterdir()
    now = json.loads(file.read_bytes())["circumstances"]
    TierCache(cache).keep(now, replace(ready.finding, tier=unheard_of))
    again = select_tier(model, "slots", ROOM)
    assert (again.known, again.finding.tier) == (False, ready.finding.tier)


CHANGES: dict[str, Callable[[], ComputeSettings]] = {
    "device": lambda: ComputeSettings(
        torch.device("meta"), torch.float32, packed=True, fastest="slots"
    ),
    "dtype": lambda: ComputeSettings(CPU, torch.float64, packed=True, fastest="slots"),
    "packing": lambda: ComputeSettings(CPU, torch.float32, packed=False, fastest="slots"),
    "search": lambda: ComputeSettings(CPU, torch.float32, packed=True, fastest="cohort"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_how_it_is_computed_is_among_the_circumstances(change: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    files = ModelFiles.look(tmp_path, SPEC)
    usual = ComputeSettings(CPU, torch.float32, packed=True, fastest="slots")
    assert environment_key(files, usual) == environment_key(files, usual)
    assert environment_key(files, usual) != environment_key(files, CHANGES[change]())


def test_libraries_and_threads_are_among_the_circumstances(tmp_path: Path) -> None:
    files = ModelFiles.look(tmp_path, SPEC)
    usual = ComputeSettings(CPU, torch.float32, packed=True, fastest="slots")
    before = environment_key(files, usual)
    assert before["torch"].startswith(torch.__version__)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert environment_key(files, usual)["computing"] != before["computing"]
    finally:
        torch.set_num_threads(threads)
