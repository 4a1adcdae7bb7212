"""The fake vllm is installed for a test, beside the tiny model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engines.vllm.fake_vllm import write_package
from tests.models.conftest import WriteModel
from tests.models.conftest import write_model as write_model

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Install:
    def installed(**changes: str) -> None:
        folder = tmp_path_factory.mktemp("site")
        write_package(folder, **changes)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("FAKE_VLLM_PIDS", str(folder / "pids"))

    return installed


@pytest.fixture
def model_folder(write_model: WriteModel, tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")
