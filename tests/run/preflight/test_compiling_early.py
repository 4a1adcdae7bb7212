"""A run lets its engine compile while its model is converted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from batchgen.engines.early_compilation import AttentionHeads
from batchgen.engines.engine_registry import find_engine
from batchgen.errors import ModelError
from batchgen.job.spec import ModelSpec
from batchgen.models.formats import gguf_model
from batchgen.run.preflight import compiling_early
from batchgen.run.run import run
from tests.models.formats.gguf_bytes import write_gguf_bytes


def test_a_run_that_converts_its_model_compiles_meanwhile(
    make_job: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {"llama.attention.head_count": 6, "llama.embedding_length": 48}
    file = write_gguf_bytes(tmp_path / "m.gguf", **heads, **{"llama.attention.head_count_kv": 2})
    happened: list[object] = []

    @contextmanager
    def compile_early(model: ModelSpec, heads: AttentionHeads) -> Iterator[None]:
        happened.append((model.path, heads))
        try:
            yield
        finally:
            happened.append("ended")

    def convert(*_: object) -> None:
        happened.append("converts")
        raise ModelError("not converted")

    entry = replace(find_engine("transformers"), compile_early=compile_early)
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling_early, "ENGINES", {"transformers": entry})
    monkeypatch.setattr(gguf_model.GgufTools.__init__, "__defaults__", (convert, lambda _: 1, 1))
    with pytest.raises(ModelError, match="not converted"):
        run(make_job(model={"path": str(file), "engine": "transformers"}))
    assert happened == [(str(file), AttentionHeads(3, 8)), "converts", "ended"]
