"""The job's section `redact`: the redaction of input cells and of answers, and its checks against the input."""

import pyarrow as pa

from batchgen.errors import Problem
from batchgen.input.redacted_cells import CellRedaction
from batchgen.job.spec import Redact
from batchgen.privacy.recognizers import PII_KINDS
from batchgen.privacy.redact import Redactor, keyed_hash, mask_value, placeholder


def cell_redaction(redact: Redact | None) -> CellRedaction | None:
    """The redaction of input cells; None if they are not redacted."""
    if redact is None or "input" not in redact.apply_to:
        return None
    hashed = redact.replacement == "hash"
    return CellRedaction(_redactor(redact), redact.columns, keeps_ids_distinct=hashed)


def answer_redactor(redact: Redact | None) -> Redactor:
    """The redaction of answers; it changes nothing if they are not redacted."""
    if redact is None or "response" not in redact.apply_to:
        return Redactor((), placeholder)
    return _redactor(redact)


def redaction_problems(redact: Redact | None, schema: pa.Schema) -> list[Problem]:
    """Columns that the job redacts and that do not contain text."""
    cells = cell_redaction(redact)
    named = (redact.columns or ()) if redact and cells else ()
    return [
        Problem(
            "redact.columns",
            f"column {name!r} is {schema.field(name).type}; only text can be redacted",
            "Exclude it from the output with output.keep_columns, or store it as text.",
        )
        for name in named
        if cells and not cells.covers(schema.field(name))
    ]


def _redactor(redact: Redact) -> Redactor:
    kinds = PII_KINDS if redact.entities == "all" else redact.entities
    if redact.replacement == "hash" and redact.secret is not None:
        return Redactor(kinds, keyed_hash(redact.secret))
    return Redactor(kinds, mask_value if redact.replacement == "mask" else placeholder)
