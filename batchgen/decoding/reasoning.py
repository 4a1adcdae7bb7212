r"""An answer taken apart: what the model thought between think marks, and what it said.

    "<think>2 and 2</think>\n\nFour."   ->   reasoning "2 and 2", response "Four."

The marks are `<think>` (DeepSeek-R1, Qwen3 and most others) and `<thinking>`. Models whose marks are special tokens
leave none in the text, so there is nothing to split. Knows nothing of tokens, models or output columns.
"""

import re
from dataclasses import dataclass

_OPEN = re.compile(r"<(think|thinking)>")
_CLOSE = re.compile(r"</(?:think|thinking)>")


@dataclass(frozen=True, slots=True)
class SplitAnswer:
    """What was said, and what was thought; `reasoning` is None where there was no thought, or only white space."""

    response: str
    reasoning: str | None


def split_reasoning(text: str, *, opened: bool = False) -> SplitAnswer:
    """Move every block of reasoning out of an answer.

    A block ends at the first closing mark of its name. Several blocks are joined by an empty line. A block that is
    never closed (the answer ran into max_new_tokens) reaches to the end of the text, provided nothing was said
    before it: an opening mark in the middle of an answer is a word of that answer. A text without a block comes back
    unchanged, character for character; otherwise white space around the blocks goes.

    Args:
        text: the answer.
        opened: whether the prompt itself ended inside an open think mark, so that the answer starts as reasoning.
    """
    thoughts: list[str] = []
    said: list[str] = []
    rest = text
    if opened:
        thought, rest = _until(_CLOSE, text)
        # Some models repeat the mark that the prompt already opened.
        thoughts.append(re.sub(r"^\s*<think(?:ing)?>", "", thought))
    while opening := _OPEN.search(rest):
        said.append(rest[: opening.start()])
        closing = re.compile(f"</{opening[1]}>")
        if not closing.search(rest, opening.end()) and "".join(said).strip():
            said.append(opening[0])
            rest = rest[opening.end() :]
            continue
        thought, rest = _until(closing, rest[opening.end() :])
        thoughts.append(thought)
    if not thoughts:
        return SplitAnswer(text, None)
    reasoning = "\n\n".join(stripped for thought in thoughts if (stripped := thought.strip()))
    return SplitAnswer("".join([*said, rest]).strip(), reasoning or None)


def without_reasoning(text: str) -> str:
    """An answer of unknown origin without its reasoning: one that closes a block before it opens any starts inside it."""
    closing, opening = _CLOSE.search(text), _OPEN.search(text)
    opened = closing is not None and (opening is None or closing.start() < opening.start())
    return split_reasoning(text, opened=opened).response


def _until(mark: re.Pattern[str], text: str) -> tuple[str, str]:
    """What is before the mark and what is after it; all of the text where there is no mark."""
    found = mark.search(text)
    return (text[: found.start()], text[found.end() :]) if found else (text, "")
