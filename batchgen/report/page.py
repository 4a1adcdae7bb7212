"""The page: one HTML file with its style, script and data in it, which loads nothing.

    sections, charts, records ──Jinja with autoescape──> HTML under a Content-Security-Policy

The policy allows the style sheet and the script by their hashes, and nothing else: no style attribute, no image, no request.
Texts of rows are JSON in a script element of another type; the script shows them as text nodes.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchgen.report.page_text import LANGUAGES, SCRIPT_TEXTS, TEXTS
from batchgen.report.visible_text import visible

if TYPE_CHECKING:
    from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, values: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """The page of a template with its values, and the data of its script."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["t"] = bilingual
    environment.filters["visible"] = visible
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    texts = {name: {k: v[n] for k, v in SCRIPT_TEXTS.items()} for n, name in enumerate(LANGUAGES)}
    return environment.get_template(template).render(
        values,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        data=Markup(json_island({**data, "text": texts})),
    )


def bilingual(key: str, **values: object) -> "Markup":
    """A text of the page in both languages, of which the style sheet shows one. The values are escaped."""
    from markupsafe import Markup

    spans = [
        Markup('<span lang="{}">{}</span>').format(
            language, text.format_map({name: _plain(value) for name, value in values.items()})
        )
        for language, text in zip(LANGUAGES, TEXTS[key], strict=True)
    ]
    return Markup("").join(spans)


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else visible(str(value))


def json_island(data: object) -> str:
    """JSON that may be within a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@cache
def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8").strip()


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
