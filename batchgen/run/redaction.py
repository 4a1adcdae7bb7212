"""The job's section `redact`, made ready: what is taken out of cells and out of answers, and what must fit the input.

Knows nothing of how personal data is told: that is `batchgen.privacy`.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from batchgen.errors import Problem
from batchgen.input.redacted_cells import CellRedaction
from batchgen.job.spec import Redact
from batchgen.privacy.recognizers import PII_KINDS
from batchgen.privacy.redact import (
    Redactor,
    Substitute,
    keyed_hash,
    mask_value,
    placeholder,
    secret_id,
)

NO_REDACTION = Redactor((), placeholder)
"""Leaves every text as it is."""


def cell_redaction(asked: Redact | None) -> CellRedaction | None:
    """What is taken out of the input, if anything."""
    if asked is None or "input" not in asked.apply_to:
        return None
    return CellRedaction(_redactor(asked), asked.columns, keeps_apart=asked.style == "hash")


def answer_redactor(asked: Redact | None) -> Redactor:
    """What is taken out of answers."""
    return NO_REDACTION if asked is None or "response" not in asked.apply_to else _redactor(asked)


def redaction_settings(asked: Redact | None) -> Mapping[str, Any] | None:
    """The section as fingerprints hold it: the secret told from others, not told."""
    if asked is None:
        return None
    plain = asked.model_dump(by_alias=True, exclude={"secret"})
    return {**plain, "secret_id": secret_id(asked.secret)} if asked.secret else plain


def redaction_problems(asked: Redact | None, schema: pa.Schema) -> list[Problem]:
    """Columns that the job names and that hold no text."""
    named = (asked.columns or ()) if asked else ()
    cells = cell_redaction(asked)
    return [
        Problem(
            "redact.columns",
            f"column {name!r} is {schema.field(name).type}; only text can be redacted",
            "Leave it out of the output with output.keep_columns, or write it as text.",
        )
        for name in named
        if cells is not None and not cells.covers(schema.field(name))
    ]


def _redactor(asked: Redact) -> Redactor:
    kinds = PII_KINDS if asked.entities == "all" else asked.entities
    return Redactor(kinds, _substitute(asked))


def _substitute(asked: Redact) -> Substitute:
    if asked.style == "hash" and asked.secret is not None:
        return keyed_hash(asked.secret)
    return mask_value if asked.style == "mask" else placeholder
