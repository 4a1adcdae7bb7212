"""End of an answer and its text: end tokens, maximum length, stop strings.

The text of an answer is what its tokens add to the text of their prompt, since a tokenizer may drop the first space of a
text that it decodes alone.
"""

from collections.abc import Sequence

from batchgen.records import AnswerDecoder, FinishReason, ResolvedDecoding

_PENDING = "\N{REPLACEMENT CHARACTER}"
_WINDOW = 24
_OVERLAP = 6
_TOKENS_PER_CHARACTER = 4
"""Most tokens of a character: a UTF-8 character has at most four bytes."""


class Stopper:
    """Follows one answer token by token.

    Stop strings are searched in new text only. Each step decodes the last few tokens, not the whole answer; an
    incomplete character (decoders return U+FFFD) is held back until it is complete. A match in that window is
    confirmed in the whole answer, decoded once, so the result of `finish` is always a prefix of `decode(all tokens)`.
    """

    def __init__(
        self, decoding: ResolvedDecoding, decode: AnswerDecoder, prompt: Sequence[int] = ()
    ) -> None:
        """`prompt`: the tokens before the answer, empty if its text starts by itself."""
        self._decoding = decoding
        self._decode = decode
        self._prompt = prompt
        self._tokens: list[int] = []
        self._text: str | None = None
        self._longest = max(map(len, decoding.stop_strings), default=0)
        self._search = StopSearch(decoding, decode, prompt)
        self._start = 0
        self._before = ""
        self._searched = 0

    def push(self, token_id: int, *, complete: bool = False) -> FinishReason | None:
        """Add the next token; returns the reason if the answer ends with it, else None.

        `complete`: nothing may follow it.
        """
        if token_id in self._decoding.end_token_ids:
            return self._end("stop")
        self._tokens.append(token_id)
        count = len(self._tokens)
        if complete or count >= self._decoding.max_new_tokens:
            return self._end("stop" if complete else "length")
        if not self._longest or count < self._decoding.min_new_tokens:
            return None
        if count == self._decoding.min_new_tokens:
            self._searched = len(self._window())
        elif self._matches():
            return "stop_string"
        return None

    def finish(self) -> str:
        """The text of the answer, without end token, cut before the first stop string."""
        return self._decode(self._tokens, self._prompt) if self._text is None else self._text

    def _end(self, reason: FinishReason) -> FinishReason:
        """End the answer; an incomplete character is dropped if the limit cut it, and kept if the model ended in it."""
        whole = self._decode.decode_complete if reason == "length" else self._decode
        text = whole(self._tokens, self._prompt)
        cut = self._search.text_before(self._tokens, text)
        self._text = text if cut is None else cut
        return reason if cut is None else "stop_string"

    def _window(self) -> str:
        if self._start == 0:
            return self._decode(self._tokens, self._prompt).rstrip(_PENDING)
        return self._decode(self._tokens[self._start :]).rstrip(_PENDING)

    def _matches(self) -> bool:
        text = self._before + self._window()
        # Everything up to `searched` has been searched: a new match ends after it.
        fresh = text[max(0, self._searched - self._longest + 1) :]
        self._searched = len(text)
        if any(stop in fresh for stop in self._decoding.stop_strings) or self._search.may_end(
            self._tokens
        ):
            answer = self._decode(self._tokens, self._prompt).rstrip(_PENDING)
            self._text = self._search.text_before(self._tokens, answer)
            if self._text is not None:
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


class StopSearch:
    """Searches an answer for its first stop string.

    A stop string that contains the name of a special token also matches that token. One that ends within the first
    `min_new_tokens` tokens does not count.
    """

    def __init__(
        self, decoding: ResolvedDecoding, decode: AnswerDecoder, prompt: Sequence[int]
    ) -> None:
        self._decode = decode
        self._prompt = prompt
        self._stops = decoding.stop_strings
        self._least = decoding.min_new_tokens
        self._special = frozenset[int]()
        self._special_stops: tuple[str, ...] = ()
        if self._stops:
            names = decode.special_tokens
            self._special_stops = tuple(
                stop for stop in self._stops if any(name in stop for name in names.values())
            )
            self._special = frozenset(names) if self._special_stops else frozenset()

    def may_end(self, token_ids: Sequence[int]) -> bool:
        """Whether a stop string with a special token may end at the last token."""
        if not self._special_stops:
            return False
        reach = _TOKENS_PER_CHARACTER * max(map(len, self._special_stops))
        return not self._special.isdisjoint(token_ids[-reach:])

    def text_before(self, token_ids: Sequence[int], text: str) -> str | None:
        """The text of an answer before its first stop string; None without one.

        `text`: of all tokens, with or without an incomplete character at its end.
        """
        found = [_first(text, self._stops, self._least_characters(token_ids, special=False))]
        if self._special_stops and not self._special.isdisjoint(token_ids):
            found.append(self._before_special(token_ids))
        return min((one for one in found if one is not None), key=len, default=None)

    def _before_special(self, token_ids: Sequence[int]) -> str | None:
        spelled = self._decode(token_ids, self._prompt, special=True)
        least = self._least_characters(token_ids, special=True)
        before = _first(spelled, self._special_stops, least)
        if before is None:
            return None
        for count in range(len(token_ids) - 1, 0, -1):
            part = self._decode(token_ids[:count], self._prompt, special=True)
            if before.startswith(part):
                break
        else:
            count, part = 0, ""
        # The match starts in the token after these, or with it.
        rest = "" if token_ids[count] in self._special else before[len(part) :]
        return self._decode(token_ids[:count], self._prompt) + rest

    def _least_characters(self, token_ids: Sequence[int], *, special: bool) -> int:
        """The length of the text in which a stop string does not count."""
        if not self._least or not self._stops:
            return 0
        first = token_ids[: self._least]
        return len(self._decode(first, self._prompt, special=special).rstrip(_PENDING))


def _first(text: str, stops: Sequence[str], least: int) -> str | None:
    """The text before the first of the stop strings that end after `least` characters."""
    starts = (text.find(stop, max(0, least - len(stop) + 1)) for stop in stops)
    cut = min((start for start in starts if start >= 0), default=None)
    return None if cut is None else text[:cut]
