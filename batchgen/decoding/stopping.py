"""End of an answer and its text: end tokens, maximum length, stop strings."""

from collections.abc import Callable, Sequence

from batchgen.records import FinishReason, ResolvedDecoding

_PENDING = "\N{REPLACEMENT CHARACTER}"
_WINDOW = 24
_OVERLAP = 6


class Stopper:
    """Follows one answer token by token.

    Stop strings are searched in new text only. Each step decodes the last few tokens, not the whole answer; an
    incomplete character (decoders return U+FFFD) is held back until it is complete. A match in that window is
    confirmed in the whole answer, decoded once, so the result of `finish` is always a prefix of `decode(all tokens)`.
    """

    def __init__(self, decoding: ResolvedDecoding, decode: Callable[[Sequence[int]], str]) -> None:
        self._decoding = decoding
        self._decode = decode
        self._tokens: list[int] = []
        self._text: str | None = None
        self._longest = max(map(len, decoding.stop_strings), default=0)
        self._start = 0
        self._before = ""
        self._searched = 0

    def push(self, token_id: int) -> FinishReason | None:
        """Add the next token; returns the reason if the answer ends with it, else None."""
        if token_id in self._decoding.end_token_ids:
            return self._end("stop")
        self._tokens.append(token_id)
        if len(self._tokens) >= self._decoding.max_new_tokens:
            return self._end("length")
        if self._longest and self._matches():
            return "stop_string"
        return None

    def finish(self) -> str:
        """The text of the answer, without end token, cut before the first stop string."""
        return self._decode(self._tokens) if self._text is None else self._text

    def _end(self, reason: FinishReason) -> FinishReason:
        text = self._decode(self._tokens)
        cut = self._cut(text)
        self._text = text[:cut]
        return reason if cut == len(text) else "stop_string"

    def _cut(self, text: str) -> int:
        starts = [text.find(stop) for stop in self._decoding.stop_strings]
        return min((start for start in starts if start >= 0), default=len(text))

    def _matches(self) -> bool:
        window = self._decode(self._tokens[self._start :]).rstrip(_PENDING)
        text = self._before + window
        # Everything up to `searched` has been searched: a new match ends after it.
        fresh = text[max(0, self._searched - self._longest + 1) :]
        self._searched = len(text)
        if any(stop in fresh for stop in self._decoding.stop_strings):
            answer = self._decode(self._tokens).rstrip(_PENDING)
            cut = self._cut(answer)
            if cut < len(answer):
                self._text = answer[:cut]
                return True
        if len(self._tokens) - self._start >= _WINDOW:
            self._move(text)
        return False

    def _move(self, text: str) -> None:
        """Start the window later, at a token where the decoded text joins the text before it exactly."""
        for start in range(len(self._tokens) - _OVERLAP, len(self._tokens) - 1):
            window = self._decode(self._tokens[start:])
            if window and text.endswith(window):
                before = text[: len(text) - len(window)]
                self._before = before[max(0, len(before) - self._longest) :]
                self._searched = len(self._before) + len(window)
                self._start = start
                return
