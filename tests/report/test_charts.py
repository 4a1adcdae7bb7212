"""Charts: what of Vega's SVG reaches the page, and the bins of histograms."""

import numpy as np
import pytest

from batchgen.report.charts.chart_colors import ACCENT
from batchgen.report.charts.clean_svg import clean_svg
from batchgen.report.charts.draw_charts import (
    Interval,
    bar_chart,
    bin_values,
    histogram_chart,
    interval_chart,
)


def test_only_listed_elements_and_attributes_stay() -> None:
    text = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1" onload="x()"><script>x()</script>'
        f'<a href="x"><path d="M0,0" fill="{ACCENT}"/></a><g style="color: red"><path d="M1,1" fill="{ACCENT}" onclick="x()"/>'
        "<text>&lt;b&gt;</text></g></svg>"
    )
    assert clean_svg(text, ('a "chart"\u202e', "图表")) == (
        '<svg viewBox="0 0 1 1" role="img" aria-label="a &quot;chart&quot;&lt;U+202E&gt;" '
        'data-en="a &quot;chart&quot;&lt;U+202E&gt;" data-zh="图表"><g>'
        '<path d="M1,1" class="f-accent" /><text>&lt;b&gt;</text></g></svg>'
    )


def test_labels_are_text_and_colors_are_classes() -> None:
    rows = [Interval("<b>精确</b>", 0.5, 0.4, 0.6, "good"), Interval("x", 0.1, None, None)]
    drawn = interval_chart(rows, ("metrics", "指标"), domain=(0, 1))
    assert "&lt;b&gt;精确&lt;/b&gt;" in drawn
    assert "s-good" in drawn
    assert "f-accent" in drawn
    assert "style=" not in drawn
    assert "#0101" not in drawn


def test_bars_have_their_numbers() -> None:
    assert ">1,200<" in bar_chart([("stop", 1200), ("length", 7)], ("reasons", "原因"))


@pytest.mark.parametrize(
    "values", [[3.0], [0.0, 0.0], [0.1, 0.2, 0.9], [1e9, 2e9], [-5.0, 5.0, 1e6]]
)
def test_every_value_is_in_a_bin_or_counted_above(values: list[float]) -> None:
    bins = bin_values(np.array(values))
    assert sum(bins.counts) + bins.above == len(values)
    assert len(bins.edges) == len(bins.counts) + 1 <= 33
    assert histogram_chart(bins, ("values", "数值")).startswith("<svg")
