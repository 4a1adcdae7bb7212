"""Texts that keep apart what the author of the job wrote and what comes from the row.

Only the author may write control tokens. A text of the row stays one through every filter and function.
"""

from collections.abc import Iterable

Spans = tuple[tuple[int, int], ...]
"""Start and end of each part of a text, in order."""


class RowText(str):
    """A text that may contain text of the row."""

    __slots__ = ()

    def __str__(self) -> str:
        return self  # Jinja converts what it prints with str(), which must keep the type.


class AuthoredText(str):
    """A text with the spans that the author wrote; the rest comes from the row."""

    spans: Spans

    def __new__(cls, text: str, spans: Spans) -> "AuthoredText":
        self = super().__new__(cls, text)
        self.spans = spans
        return self

    def __str__(self) -> str:
        return self

    def __getnewargs__(self) -> tuple[str, Spans]:  # type: ignore[override]  # str has one argument
        return str.__str__(self), self.spans


def join_pieces(pieces: Iterable[str]) -> AuthoredText:
    """Join the pieces that a template yields. Those of type `str` are the author's."""
    texts: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    for piece in pieces:
        end = length + len(piece)
        if isinstance(piece, AuthoredText):
            spans += ((length + a, length + b) for a, b in piece.spans)
        elif type(piece) is str:
            if spans and spans[-1][1] == length:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((length, end))
        texts.append(piece)
        length = end
    return AuthoredText("".join(texts), tuple(spans))
