r"""Splits an answer into the reasoning between think tags and the response.

    "<think>2 and 2</think>\n\nFour."   ->   reasoning "2 and 2", response "Four."

The tags are those of `think_tags.py`. Where a model's tags are special tokens, the text has none and is not split. A tag that the text only mentions is text: in code or quotation marks that begin
with it (`` `</think>` ``, `` `<think>a</think>` ``, a fenced block), or followed by a word such as `tag`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from batchgen.think_tags import ThinkTag, find_think_tags

# A fenced block, a code span, or a quotation within a line.
_QUOTATION = re.compile(
    r"""(?P<mark>^[ \t]*(?:```|~~~))[^\n]*\n(?P<block>.*?)^[ \t]*(?:```|~~~)[ \t]*$"""
    r"""|(?<!`)(?P<ticks>`+)(?!`)(?P<code>(?:(?!`)[^\n])*)(?P=ticks)(?!`)"""
    r"""|"(?P<double>[^"\n]*)"|'(?P<single>[^'\n]*)'|“(?P<curly>[^”\n]*)”|「(?P<corner>[^」\n]*)」""",
    re.DOTALL | re.MULTILINE,
)
_MARKS = set("`~\"'“「")
_CONTENTS = ("block", "code", "double", "single", "curly", "corner")
_CALLED_A_TAG = re.compile(
    r"[ ](?:(?:closing|opening|end|start)[ ])?(?:tags?|tokens?|markers?|elements?)\b|\s?(?:标签|标记|符号)"
)


@dataclass(frozen=True, slots=True)
class SplitAnswer:
    """Response and reasoning; `reasoning` is None if there is none, or only white space."""

    response: str
    reasoning: str | None


def split_reasoning(text: str, *, opened: bool = False) -> SplitAnswer:
    """Move every block of reasoning out of an answer.

    A block ends at the first closing tag of its name that is not a mention. Several blocks are joined by an empty line. A
    block without a closing tag (the answer reached max_new_tokens) extends to the end of the text if no response
    precedes it; in the middle of a response an opening tag is ordinary text. A closing tag before any opening one ends
    reasoning that the prompt began; after a block, it is ordinary text. A text without a block is returned unchanged;
    otherwise white space around the blocks is removed. `opened`: the prompt ends inside an open think tag, so that the
    answer starts with reasoning.
    """
    thoughts: list[str] = []
    response: list[str] = []
    rest = text
    if opened or _starts_inside(text):
        thought, rest = _until_closed(text, None)
        # Some models repeat the tag that the prompt already opened.
        thoughts.append(_without_repeated_tag(thought))
    while block := _next_block(rest, "".join(response)):
        opening, behind = block
        response.append(rest[: opening.start])
        thought, rest = _until_closed(behind, opening.name)
        thoughts.append(thought)
    if not thoughts:
        return SplitAnswer(text, None)
    reasoning = "\n\n".join(stripped for thought in thoughts if (stripped := thought.strip()))
    return SplitAnswer("".join([*response, rest]).strip(), reasoning or None)


def without_reasoning(text: str) -> str:
    """The response of an answer with unknown prompt."""
    return split_reasoning(text).response


def _without_repeated_tag(thought: str) -> str:
    first = next(find_think_tags(thought), None)
    repeats = first is not None and not first.closes and not thought[: first.start].strip()
    return thought[first.end :] if first is not None and repeats else thought


def _starts_inside(text: str) -> bool:
    """Whether the first tag closes: the reasoning before it was begun by the prompt."""
    first = next(_tags(text), None)
    return first is not None and first.closes


def _next_block(text: str, response: str) -> tuple[ThinkTag, str] | None:
    """The next opening tag that begins a block, and the text behind it. `response`: what precedes `text`."""
    unclosed: set[str] = set()
    for tag in _tags(text):
        if tag.closes or tag.name in unclosed:
            continue
        behind = text[tag.end :]
        precedes = response.strip() or text[: tag.start].strip()
        if not precedes or _closing(behind, tag.name) is not None:
            return tag, behind
        unclosed.add(tag.name)
    return None


def _until_closed(text: str, name: str | None) -> tuple[str, str]:
    """The text before and after the closing tag of this name (None: any); all of it is before if there is none."""
    tag = _closing(text, name)
    return (text[: tag.start], text[tag.end :]) if tag else (text, "")


def _closing(text: str, name: str | None) -> ThinkTag | None:
    """The first closing tag that is not a mention; `</think> tag` is one only if another closing tag follows."""
    for called_a_tag_is_mention in (True, False):
        for tag in _tags(text, called_a_tag_is_mention=called_a_tag_is_mention):
            if tag.closes and name in (None, tag.name):
                return tag
    return None


def _tags(text: str, *, called_a_tag_is_mention: bool = True) -> Iterator[ThinkTag]:
    """The tags in order, without mentions; an opening tag at the start of the text is never a mention."""
    quotations: list[tuple[int, int]] | None = None
    for tag in find_think_tags(text):
        if quotations is None:
            quotations = list(_quotations_of_tags(text)) if _MARKS & set(text) else []
        if any(start <= tag.start < end for start, end in quotations):
            continue
        begins_text = not tag.closes and not text[: tag.start].strip()
        if called_a_tag_is_mention and not begins_text and _CALLED_A_TAG.match(text, tag.end):
            continue
        yield tag


def _quotations_of_tags(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each quotation that begins with a tag, or whose first tag opens.

    Where the first tag closes and other text precedes it, the marks of quotation belong to two sentences.
    """
    for match in _QUOTATION.finditer(text):
        content = next(match[name] for name in _CONTENTS if match[name] is not None)
        first = next(find_think_tags(content), None)
        if first and (not first.closes or not content[: first.start].strip()):
            yield match.span()
