"""The colors of charts as classes of the style sheet, so that a chart follows the light and the dark theme.

Vega writes a color into each element. Charts are drawn with stand-ins, which `clean_svg` replaces by class names.
"""

from collections.abc import Mapping

INK, MUTED, GRID = "#010101", "#010102", "#010103"
ACCENT, GOOD, BAD = "#010104", "#010105", "#010106"
BAND = "#010107"

COLOR_CLASSES: Mapping[str, str] = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    ACCENT: "accent",
    GOOD: "good",
    BAD: "bad",
    BAND: "band",
}
"""The class of each stand-in: `f-` before it for a fill, `s-` for a stroke."""
