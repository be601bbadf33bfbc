"""A headless Chromium that `make browser` installed, driven by Playwright."""

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / ".cache" / "browser"
# The last four: Chromium looks nothing up, and asks nobody for updates.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def chromium():
    """The browser; skips the test where there is none."""
    if not (FOLDER / "executable").exists():
        pytest.skip("no Chromium: run make browser")
    sys.path.insert(0, str(FOLDER / "lib"))
    try:
        from playwright.sync_api import sync_playwright
    finally:
        sys.path.remove(str(FOLDER / "lib"))
    with sync_playwright() as playwright:
        executable = (FOLDER / "executable").read_text().strip()
        browser = playwright.chromium.launch(executable_path=executable, args=[*FLAGS])
        yield browser
        browser.close()
