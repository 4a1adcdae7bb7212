"""A stand-in for the package of this name."""

from typing import Any


class Tensor:
    """Token ids."""

    def __init__(self, values: Any) -> None:
        self.values = values
