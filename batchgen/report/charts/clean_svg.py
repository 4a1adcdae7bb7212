"""SVG of Vega as part of the page: only known elements and attributes, and colors as classes.

The page's policy forbids style attributes, and a chart contains texts of rows (names of slices). What is not listed here
does not reach the page.
"""

import xml.etree.ElementTree as ET

from batchgen.report.charts.chart_colors import COLOR_CLASSES
from batchgen.report.page_text import LANGUAGES, Pair
from batchgen.report.visible_text import visible

_SVG = "{http://www.w3.org/2000/svg}"
_SHAPES = frozenset({"d", "x", "y", "x2", "y2", "width", "height", "transform"})
_ATTRIBUTES = {
    "svg": frozenset({"viewBox", "width", "height"}),
    "g": frozenset({"transform"}),
    "path": _SHAPES | {"stroke-width"},
    "line": _SHAPES | {"stroke-width", "stroke-dasharray"},
    "rect": _SHAPES,
    "text": frozenset({"transform", "text-anchor", "font-size", "font-weight"}),
}
_PAINT = {"fill": "f", "stroke": "s"}


def clean_svg(text: str, label: Pair) -> str:
    """The chart as markup for an HTML page; `label` is its description for readers who do not see it.

    The page's script puts the label of its language into `aria-label`.
    """
    root = _clean(ET.fromstring(text))
    if root is None:
        raise ValueError("not an SVG file")
    root.set("role", "img")
    root.set("aria-label", visible(label[0]))
    for language, words in zip(LANGUAGES, label, strict=True):
        root.set(f"data-{language}", visible(words))
    return ET.tostring(root, encoding="unicode")


def _clean(element: ET.Element) -> ET.Element | None:
    """A copy with what is listed; None for an element that is not, or that is invisible."""
    name = element.tag.removeprefix(_SVG)
    if name not in _ATTRIBUTES or element.get("display") == "none" or _is_blank(name, element):
        return None
    kept = {key: value for key, value in element.items() if key in _ATTRIBUTES[name]}
    if classes := _classes(element):
        kept["class"] = " ".join(classes)
    copy = ET.Element(name, kept)
    copy.text = element.text if name == "text" else None
    for child in element:
        if (cleaned := _clean(child)) is not None:
            copy.append(cleaned)
    if name == "g" and not len(copy):
        return None
    return copy


def _is_blank(name: str, element: ET.Element) -> bool:
    """Whether a shape has neither a fill nor a stroke of ours, such as the background of an axis."""
    return name in ("path", "rect", "line") and not _classes(element)


def _classes(element: ET.Element) -> list[str]:
    return [
        f"{prefix}-{COLOR_CLASSES[color]}"
        for key, prefix in _PAINT.items()
        if (color := element.get(key, "")) in COLOR_CLASSES
    ]
