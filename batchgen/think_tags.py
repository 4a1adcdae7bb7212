"""The tags around a model's reasoning, as answers and chat templates write them.

`<think>` (DeepSeek-R1, Qwen3 and most others), `<thinking>`, `<thought>`, `<seed:think>` (Seed-OSS), `[THINK]`
(Magistral) and `◁think▷` (Kimi); case does not matter within `<>`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAME = r"(?i:seed:think|thinking|think|thought)"
_TAG = re.compile(
    rf"<(?P<close>/)?(?P<name>{_NAME})\s*>"
    r"|\[(?P<close_bracket>/)?(?P<bracket>THINK)\]|◁(?P<close_triangle>/)?(?P<triangle>think)▷"
)


@dataclass(frozen=True, slots=True)
class ThinkTag:
    """A tag and its place in the text; `name` is in lower case, such as `think`."""

    name: str
    closes: bool
    start: int
    end: int


def find_think_tags(text: str) -> Iterator[ThinkTag]:
    """All tags of a text in order, mentions included."""
    for match in _TAG.finditer(text):
        name = (match["name"] or match["bracket"] or match["triangle"]).casefold()
        closes = match["close"] or match["close_bracket"] or match["close_triangle"]
        yield ThinkTag(name, closes is not None, match.start(), match.end())


def ends_inside_reasoning(text: str) -> bool:
    """Whether the last tag of a text opens, so that the text behind it is reasoning."""
    tags = list(find_think_tags(text))
    return bool(tags) and not tags[-1].closes
