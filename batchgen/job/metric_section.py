"""What every metric of a job has, whatever its type."""

from typing import Annotated

from pydantic import Field

from batchgen.section import NonEmptyText, Section

MetricName = Annotated[str, Field(pattern=r"^\w+$", max_length=60)]


class MetricOptions(Section):
    """What every metric of a job has."""

    type: str
    """Which metric: see `batchgen metrics`."""
    name: MetricName | None = None
    """Its scores are the column `score_<name>`: letters, digits, underscore. Left out: the type."""
    primary: bool = False
    """Among the metrics that a comparison decides by; their p-values are corrected for their number."""
    where: NonEmptyText | None = None
    """SQL condition over the input columns: only these rows are scored."""
