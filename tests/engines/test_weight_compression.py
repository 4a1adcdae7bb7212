"""A compressed checkpoint is rejected with its method and the engine or program that runs it."""

from dataclasses import replace
from pathlib import Path

import pytest

from batchgen.engines.contract import EngineEntry
from batchgen.engines.echo import ECHO, INFO
from batchgen.engines.engine_registry import ENGINES
from batchgen.engines.weight_compression import check_compression
from batchgen.errors import ModelError
from batchgen.job.spec import ModelSpec

FILE = Path("model/config.json")
HINTS = {
    "gptq": "Give the checkpoint before compression; outside batchgen, this program runs it: OpenVINO.",
    "mxfp4": "Give the checkpoint before compression.",
    "vptq": "Give the checkpoint before compression.",
}


def spec(engine: str = "transformers") -> ModelSpec:
    return ModelSpec(path="model", engine=engine)


@pytest.mark.parametrize(("method", "hint"), HINTS.items())
def test_no_engine_loads_it(method: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "batchgen.engines.weight_compression.ENGINES", {"transformers": ENGINES["transformers"]}
    )
    with pytest.raises(ModelError) as caught:
        check_compression(spec(), method, FILE)

    assert caught.value.message == (
        f"model/config.json: the weights are compressed by {method}, which engine transformers cannot "
        "compute with; expected float32, float16 or bfloat16"
    )
    assert caught.value.hint == hint


def test_an_engine_that_loads_it_is_named_and_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    info = replace(INFO, name="kernels", needs="weights", compressed_weights=frozenset({"vptq"}))
    monkeypatch.setitem(ENGINES, "kernels", EngineEntry(info, ECHO.open))

    check_compression(spec("kernels"), "vptq", FILE)
    with pytest.raises(ModelError) as caught:
        check_compression(spec(), "vptq", FILE)
    assert caught.value.hint == (
        "Set model.engine: kernels, or give the checkpoint before compression."
    )


@pytest.mark.parametrize(("engine", "method"), [("transformers", None), ("echo", "gptq")])
def test_plain_weights_and_engines_without_weights(engine: str, method: str | None) -> None:
    check_compression(spec(engine), method, FILE)
