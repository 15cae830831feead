"""A real browser for tests of the console, and where its pictures go."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
#: Pictures that tests leave behind; not kept in the repository.
ARTIFACTS = ROOT / "test-artifacts"
CHROMIUM = next(
    (path for path in ("/usr/bin/chromium", shutil.which("chromium")) if path and Path(path).exists()), None
)
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
#: Milliseconds; a machine that runs tests is slow. What must be fast is measured and asserted by the test.
PATIENCE = 60_000

#: An error of Streamlit's own script after which our page loads itself again.
MENDED = "delta path"


@dataclass
class Visitor:
    """One browser window, and what went wrong in it; ``mended`` is what the page itself mends by being loaded again."""

    page: Page
    base: str
    elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)

    def log_in(self, username: str, password: str, path: str = "/") -> Visitor:
        self.page.goto(self.base + path)
        self.page.fill("input[name=username]", username)
        self.page.fill("input[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_selector(".cb-user")
        return self

    def open(self, page: str) -> Visitor:
        self.page.get_by_role("link", name=page, exact=True).first.click()
        return self

    def node(self, node: str) -> Visitor:
        self.page.goto(f"{self.base}/node?node={node}")
        expect(self.page.locator(".cb-facts h1")).to_be_visible()
        return self

    def picture(self, name: str) -> Path:
        ARTIFACTS.mkdir(exist_ok=True)
        expect(self.page.get_by_test_id("stSkeleton")).to_have_count(0)
        self.page.mouse.move(0, 0)
        path = ARTIFACTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path


@contextmanager
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def visitor(browser: Browser, base: str, *, scheme: str = "light", height: int = 900) -> Iterator[Visitor]:
    context = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": 1400, "height": height},
        timezone_id="Europe/Berlin",
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    found = Visitor(page, base)
    page.on("request", lambda request: _note(found.elsewhere, request.url, base))
    page.on(
        "pageerror", lambda error: (found.mended if MENDED in str(error) else found.errors).append(str(error))
    )
    yield found
    context.close()


def _note(elsewhere: list[str], url: str, base: str) -> None:
    if not url.startswith((base, "data:", "blob:")):
        elsewhere.append(url)


def pictures_wanted() -> bool:
    """Whether the pictures in the documentation are to be made anew."""
    return bool(os.environ.get("CALLBOARD_SCREENSHOT"))


def number_in(text: str) -> float:
    found = re.search(r"-?\d+(\.\d+)?", text)
    assert found, f"no number in {text!r}"
    return float(found[0])
