"""An iterator that may continue after its end, so that an engine can be handed requests that follow from its own answers."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Pulled(Iterator[Item], Generic[Item]):
    """The results of a function, up to None. Unlike a generator, it calls the function again when it is pulled again."""

    def __init__(self, pull: Callable[[], Item | None]) -> None:
        self._pull = pull

    def __next__(self) -> Item:
        if (item := self._pull()) is None:
            raise StopIteration
        return item
