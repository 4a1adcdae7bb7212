from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import ModelError
from batchgen.models.remote_code import refuse_external_code

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("file", "auto_map"),
    [
        ("config.json", {"AutoModelForCausalLM": "owner/other--modeling.Own"}),
        ("tokenizer_config.json", {"AutoTokenizer": [None, "owner/other--tokens.Own"]}),
    ],
)
def test_only_the_code_of_the_trusted_model_is_allowed(
    tmp_path: Path, write_model: Write, file: str, auto_map: dict[str, Any]
) -> None:
    with pytest.raises(
        ModelError, match=rf"{file}: auto_map\.\w+: 'owner/other--.* of another repository"
    ):
        refuse_external_code(write_model(tmp_path / "a", {file: {"auto_map": auto_map}}))
    own = {"auto_map": {"AutoConfig": "own.OwnConfig", "AutoTokenizer": ["own.Own", None]}}
    refuse_external_code(write_model(tmp_path / "b", {file: own}))
