"""The page: one HTML file with its style, script and data in it, which loads nothing.

    sections, charts, records ──Jinja with autoescape──> HTML under a Content-Security-Policy

The policy allows the style sheet and the script by their hashes, and nothing else: no style attribute, no image, no request.
Texts of rows are JSON in a script element of another type; the script shows them as text nodes.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchgen.report.page_text import LANGUAGES, SCRIPT_TEXTS, TEXTS
from batchgen.report.visible_text import visible

if TYPE_CHECKING:
    from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class PageKind:
    """What the pages of one kind have in common.

    Attributes:
        folder: of the template and of its own assets; those of reports are found too.
        styles, scripts: names of assets, in order.
        texts: of the template, in each of `LANGUAGES`.
        script_texts: of the script.
        connects: whether the script sends requests to the server of the page.
    """

    folder: Path = _TEMPLATES
    styles: Sequence[str] = ("page.css",)
    scripts: Sequence[str] = ("common.js", "page.js")
    texts: Mapping[str, tuple[str, str]] = field(default_factory=lambda: TEXTS)
    script_texts: Mapping[str, tuple[str, str]] = field(default_factory=lambda: SCRIPT_TEXTS)
    connects: bool = False

    @property
    def style(self) -> str:
        """The style sheet."""
        return "\n".join(_asset(self._find(name)) for name in self.styles)

    @property
    def script(self) -> str:
        return "\n".join(_asset(self._find(name)) for name in self.scripts)

    @property
    def policy(self) -> str:
        """The Content-Security-Policy."""
        connects = "connect-src 'self'; " if self.connects else ""
        return (
            f"default-src 'none'; style-src '{_hash(self.style)}'; script-src '{_hash(self.script)}'; {connects}"
            "base-uri 'none'; form-action 'none'"
        )

    def _find(self, name: str) -> Path:
        own = self.folder / name
        return own if own.exists() else _TEMPLATES / name


REPORT_PAGE = PageKind()


def render_page(
    template: str,
    values: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    kind: PageKind = REPORT_PAGE,
) -> str:
    """The page of a template with its values, and the data of its script."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([kind.folder, _TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["t"] = lambda key, **values: _translated(kind.texts[key], values)
    environment.filters["visible"] = visible
    environment.filters["both"] = both_languages
    script_texts = kind.script_texts.items()
    texts = {name: {k: v[n] for k, v in script_texts} for n, name in enumerate(LANGUAGES)}
    return environment.get_template(template).render(
        values,
        policy=kind.policy,
        style=Markup(kind.style),
        script=Markup(kind.script),
        data=Markup(json_island({**data, "text": texts})),
    )


def bilingual(key: str, **values: object) -> "Markup":
    """A text of a report in both languages, of which the style sheet shows one. The values are escaped."""
    return _translated(TEXTS[key], values)


def both_languages(texts: Sequence[str]) -> "Markup":
    """A text that is given in each of `LANGUAGES`, of which the style sheet shows one. It is escaped."""
    from markupsafe import Markup

    spans = [
        Markup('<span lang="{}">{}</span>').format(language, visible(text))
        for language, text in zip(LANGUAGES, texts, strict=True)
    ]
    return Markup("").join(spans)


def _translated(texts: Sequence[str], values: Mapping[str, object]) -> "Markup":
    """A text with its values; a tuple is a value in each language."""
    return both_languages(
        [
            text.format_map({name: _plain(value, number) for name, value in values.items()})
            for number, text in enumerate(texts)
        ]
    )


def _plain(value: object, language: int) -> str:
    if isinstance(value, tuple):
        return str(value[language])
    return f"{value:,}" if isinstance(value, int) else str(value)


def json_island(data: object) -> str:
    """JSON that may be within a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@cache
def _asset(path: Path) -> str:
    return path.read_text("utf-8").strip()


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
