"""Numbers as text."""


def format_value(value: float | None, unit: str) -> str:
    """A value with its significant digits; a dash for None."""
    if value is None:
        return "–"
    if unit == "fraction":
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def format_share(share: float) -> str:
    """A share in percent: two digits below one percent, so that few of many are not none."""
    percent = 100 * share
    return f"{percent:.2f} %" if 0 < abs(percent) < 1 else f"{percent:.1f} %"


def format_signed(value: float | None, unit: str) -> str:
    """The same as `format_value` with a sign."""
    text = format_value(value, unit)
    return f"+{text}" if value is not None and value > 0 else text


def format_p(p: float | None) -> str:
    """A p-value; a dash for None."""
    return "–" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"
