"""Scored runs that reports are about."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from batchgen.jobfile.load import load_job
from batchgen.run.run import run

MakeJob = Callable[..., Path]
MakeRun = Callable[..., Path]

HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    '<img src="http://example.org/a.png" onerror="window.hacked = 1">',
    "\u202eevil\u202c <!-- --> ]]> &amp; \u2028 \x1b[31m",
    "<style>body{display:none}</style>",
]


class Page(HTMLParser):
    """The elements of a page, and the content of its script and style elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.contents: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.contents.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        del tag
        self.contents.append(("", ""))

    def handle_data(self, data: str) -> None:
        if self.contents:
            tag, text = self.contents[-1]
            self.contents[-1] = (tag, text + data)

    def content(self, tag: str) -> list[str]:
        return [text for name, text in self.contents if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        """The data of the script."""
        (found,) = (text for text in self.content("script") if text.startswith("{"))
        values: dict[str, Any] = json.loads(found)
        return values

    @property
    def text(self) -> str:
        """The visible text in one line, scripts and styles excluded."""
        parts = [text for tag, text in self.contents if tag not in ("script", "style")]
        return re.sub(r"\s+", " ", " ".join(parts))


@pytest.fixture
def scored(make_job: MakeJob, tmp_path: Path) -> MakeRun:
    """Run rows `(prompt, right)`, with the metrics exact and length unless `evaluate` differs; ids are `r0`, `r1` …"""

    def made(
        name: str = "out",
        rows: Sequence[tuple[str, bool]] = (("one", True), ("two", False)),
        *,
        columns: Mapping[str, Sequence[Any]] | None = None,
        output: Mapping[str, Any] | None = None,
        **evaluate: Any,
    ) -> Path:
        table = [
            {"id": f"r{n}", "q": q, "gold": q if right else "other"}
            | {key: values[n] for key, values in (columns or {}).items()}
            for n, (q, right) in enumerate(rows)
        ]
        section = {"reference": "gold", "metrics": ["exact", "length"]} | evaluate
        job = make_job(table, evaluate=section, output={"path": name} | dict(output or {}))
        run(load_job(job))
        return tmp_path / name

    return made
