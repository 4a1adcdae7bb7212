"""Pages in headless Chromium: the fixtures `browser` and `show`, and all that a page requested and logged."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
VIOLATIONS = "addEventListener('securitypolicyviolation', e => (window.violations ??= []).push(e.violatedDirective))"


@dataclass
class Opened:
    """A page in the browser, with all that it requested and logged."""

    page: "Page"
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        found: list[str] = self.page.evaluate("window.violations ?? []")
        return found


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs chromium, such as Debian's package of that name")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # other processes may take the machine for that long
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def show(browser: "Browser") -> Iterator[Callable[..., Opened]]:
    """Open an address in a browser of its own, or in the `context` of another page."""
    contexts = []

    def opened(
        address: str,
        *,
        language: str = "en-US",
        width: int = 1200,
        scheme: Literal["light", "dark"] = "light",
        context: "BrowserContext | None" = None,
    ) -> Opened:
        if context is None:
            size = {"width": width, "height": 800}
            context = browser.new_context(locale=language, viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
            contexts.append(context)
        page = context.new_page()
        page.add_init_script(VIOLATIONS)
        found = Opened(page)
        page.on("request", lambda request: found.requests.append(request.url))
        page.on("console", lambda message: found.messages.append(message.text))
        page.on("pageerror", lambda error: found.messages.append(str(error)))
        page.on("dialog", lambda dialog: found.messages.append(dialog.message))
        page.goto(address)
        return found

    yield opened
    for context in contexts:
        context.close()
