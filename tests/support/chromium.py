"""A headless Chromium in which a page is opened with the network refused, and what it did is on record.

``python tests/support/chromium.py audit/NAME/report.html`` takes the pictures of ``docs/img``.
"""

import contextlib
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

GUARD = 1_800_000
"""Milliseconds; a loaded machine takes its time."""


def missing():
    """What keeps the tests from running; "" where nothing does."""
    if sync_playwright is None:
        return "playwright is not installed: pip install 'cmw-pipeline[dev]'"
    return "" if CHROMIUM else "Chromium is not installed: apt-get install chromium"


@dataclass
class Opened:
    """A page, and what it asked for and said."""

    page: object
    requests: list = field(default_factory=list)
    """Addresses beside the page's own."""
    refused: list = field(default_factory=list)
    """Those of them that the page's own policy did not let out."""
    said: list = field(default_factory=list)
    """Console messages and errors, refusals of the content security policy among them."""

    def texts(self, selector):
        return self.page.locator(selector).all_inner_texts()

    def column(self, number):
        """The texts of a column of the list, of the rows that are drawn."""
        return self.texts(f"#rows tbody tr[data-place] td:nth-child({number})")

    def evaluate(self, script):
        return self.page.evaluate(script)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)


@contextlib.contextmanager
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, timeout=GUARD)
        yield browser
        browser.close()


def opened(browser, file, ready=True, **options):
    """The page of a file in a context of its own; nothing but that file may be had."""
    context = browser.new_context(offline=True, **{"viewport": {"width": 1100, "height": 800}} | options)
    context.set_default_timeout(GUARD)
    page = context.new_page()
    seen = Opened(page)
    own = (file.as_uri(), "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(own) or seen.requests.append(request.url))
    page.on("requestfailed", lambda request: request.failure == "csp" and seen.refused.append(request.url))
    page.on("console", lambda message: seen.said.append(message.text))
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.goto(file.as_uri())
    if ready:
        page.wait_for_selector("html[data-ready]", state="attached")
    return seen


SCENES = {
    "report": ("light", "body", ()),
    "report-classes": ("light", "#classes", ()),
    "report-review": ("dark", "body", ("r", "y", "y", "n")),
}
"""Colour scheme, what is at the top, keys pressed."""


def take_pictures(report, folder):
    with chromium() as browser:
        for name, (scheme, top, keys) in SCENES.items():
            seen = opened(browser, report, color_scheme=scheme, viewport={"width": 1180, "height": 1080})
            seen.evaluate(f"document.querySelector('{top}').scrollIntoView()")
            seen.press(*keys)
            seen.page.screenshot(path=folder / f"{name}.png")


if __name__ == "__main__":
    take_pictures(Path(sys.argv[1]).resolve(), Path(__file__).parents[2] / "docs/img")
