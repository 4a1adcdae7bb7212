"""Rejects weights that are incomplete or of another model, by the report of transformers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchgen.errors import ModelError

_SHOWN_TENSORS = 5
_HARMLESS = re.compile(
    r"(\binv_freq|\bmasked_bias|\battn\.bias|\battention\.bias|\bposition_ids|(^|[._])(vision|visual|audio|image|mtp)\w*\.\S+)$"
)
"""Tensors that may be left out, besides those that transformers lists for a model: constants that older versions saved,
and parts of a multi-part model that text does not pass."""


def refuse_incomplete(folder: Path, report: Mapping[str, Any]) -> None:
    """Raise if weights would be random numbers or would be left out. Tied weights are not in `missing_keys`."""
    unused = sorted(name for name in report["unexpected_keys"] if not _HARMLESS.search(name))
    missing = sorted(report["missing_keys"])
    mismatched = sorted(str(key[0]) for key in report["mismatched_keys"])
    problems = [
        f"{len(names)} tensor(s) {what}: {', '.join(names[:_SHOWN_TENSORS])}"
        + (", …" if len(names) > _SHOWN_TENSORS else "")
        for names, what in (
            (missing, "missing"),
            (mismatched, "with another shape than in config.json"),
            (unused, "that the model of config.json does not use"),
        )
        if names
    ]
    if problems:
        raise ModelError(
            f"{folder}: {'; '.join(problems)}",
            hint="Copy or download the model again: its weights are incomplete or belong to another config.json.",
        )
