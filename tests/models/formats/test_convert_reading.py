"""How the process of a conversion reads a GGUF file."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from batchgen.models.formats import convert
from tests.models.formats.gguf_bytes import write_gguf_bytes


def test_a_file_is_read_once_as_a_plain_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library: Any = gguf
    usual = library.GGUFReader
    for name in ("GGUFReader", "get_tensor_name_map"):
        monkeypatch.setattr(library, name, getattr(library, name))
    file = write_gguf_bytes(tmp_path / "m.gguf")
    convert._read_once()
    read = library.GGUFReader(file)
    assert read is library.GGUFReader(file)
    assert type(read.data) is np.ndarray
    assert {name: field.contents() for name, field in read.fields.items()} == {
        name: field.contents() for name, field in usual(file).fields.items()
    }
