"""Who holds which stretch of the places for shared prefixes. Plain numbers, as `pages.py`.

A prefix lies in one piece, so that all its rows can look at it in one product. Lowest places go first.
"""


class Arena:
    """Places in a row, handed out in pieces.

    Attributes:
        total: places in all.
    """

    def __init__(self, total: int) -> None:
        """All `total` places are free."""
        self.total = total
        self._held: list[range] = []

    def take(self, length: int) -> range | None:
        """The first free piece of that length; None if there is none."""
        start = 0
        for held in self._held:
            if held.start - start >= length:
                break
            start = held.stop
        if start + length > self.total:
            return None
        piece = range(start, start + length)
        self._held.append(piece)
        self._held.sort(key=lambda held: held.start)
        return piece

    def give_back(self, piece: range) -> None:
        """Take a piece back."""
        self._held.remove(piece)
