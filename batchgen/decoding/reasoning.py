r"""Splits an answer into the reasoning between think tags and the response.

    "<think>2 and 2</think>\n\nFour."   ->   reasoning "2 and 2", response "Four."

The tags are `<think>` (DeepSeek-R1, Qwen3 and most others) and `<thinking>`. Where a model's tags are special tokens,
the text has none and is not split.
"""

import re
from dataclasses import dataclass

_OPEN = re.compile(r"<(think|thinking)>")
_CLOSE = re.compile(r"</(?:think|thinking)>")


@dataclass(frozen=True, slots=True)
class SplitAnswer:
    """Response and reasoning; `reasoning` is None if there is none, or only white space."""

    response: str
    reasoning: str | None


def split_reasoning(text: str, *, opened: bool = False) -> SplitAnswer:
    """Move every block of reasoning out of an answer.

    A block ends at the first closing tag of its name. Several blocks are joined by an empty line. A block without a
    closing tag (the answer reached max_new_tokens) extends to the end of the text if no response precedes it; in the
    middle of a response an opening tag is ordinary text. A text without a block is returned unchanged; otherwise
    white space around the blocks is removed. `opened`: the prompt ends inside an open think tag, so that the answer
    starts with reasoning.
    """
    thoughts: list[str] = []
    response: list[str] = []
    rest = text
    if opened:
        thought, rest = _until(_CLOSE, text)
        # Some models repeat the tag that the prompt already opened.
        thoughts.append(re.sub(r"^\s*<think(?:ing)?>", "", thought))
    while opening := _OPEN.search(rest):
        response.append(rest[: opening.start()])
        closing = re.compile(f"</{opening[1]}>")
        if not closing.search(rest, opening.end()) and "".join(response).strip():
            response.append(opening[0])
            rest = rest[opening.end() :]
            continue
        thought, rest = _until(closing, rest[opening.end() :])
        thoughts.append(thought)
    if not thoughts:
        return SplitAnswer(text, None)
    reasoning = "\n\n".join(stripped for thought in thoughts if (stripped := thought.strip()))
    return SplitAnswer("".join([*response, rest]).strip(), reasoning or None)


def without_reasoning(text: str) -> str:
    """The response of an answer with unknown prompt: one that closes a block before it opens any starts inside it."""
    closing, opening = _CLOSE.search(text), _OPEN.search(text)
    opened = closing is not None and (opening is None or closing.start() < opening.start())
    return split_reasoning(text, opened=opened).response


def _until(mark: re.Pattern[str], text: str) -> tuple[str, str]:
    """The text before and after the mark; all of it is before if there is none."""
    match = mark.search(text)
    return (text[: match.start()], text[match.end() :]) if match else (text, "")
