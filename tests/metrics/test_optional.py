"""The error of a metric whose package is not installed."""

import pytest

from batchgen.errors import DataError
from batchgen.metrics.optional import require_package


def test_the_error_of_a_missing_package_names_its_extra() -> None:
    with pytest.raises(DataError, match="needs the package no_such_package") as caught:
        require_package("no_such_package.part", "metrics")
    assert caught.value.hint == "Run in batchgen's folder: pip install -e '.[metrics]'."
