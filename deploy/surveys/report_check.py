"""Reports in a real browser: accessible in both modes, silent, without a network, and on paper.

`python deploy/surveys/report_check.py FOLDER PAGE...` runs in an environment of its own (`make
report-check`), with Debian's Chromium. Screenshots and a PDF of each page go to FOLDER, to be
looked at; whatever is wrong is printed, and the status is 1.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_WIDE, _NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 800}
_OPEN = "for (const d of document.querySelectorAll('details')) d.open = true"
_BEYOND = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def main(folder: Path, pages: list[Path]) -> int:
    """Look at each page; return the status."""
    from playwright.sync_api import sync_playwright

    found = next((path for name in _CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        print("report-check needs Chromium: apt-get install chromium", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for page in pages:
            told = [f"{page.name}: {line}" for line in _faults(browser, page, folder)]
            print("\n".join(told) or f"{page.name}: nothing wrong")
            wrong += told
        browser.close()
    return 1 if wrong else 0


def _faults(browser: Browser, page: Path, folder: Path) -> Iterator[str]:
    """What is wrong with one page, in both modes, on a telephone and on paper."""
    for scheme in ("light", "dark"):
        for name, size in (("", _WIDE), ("-narrow", _NARROW)):
            context = browser.new_context(color_scheme=scheme, viewport=size, offline=True)
            opened, said = context.new_page(), list[str]()
            opened.on("console", lambda message, said=said: said.append(message.text))
            opened.on("pageerror", lambda error, said=said: said.append(str(error)))
            opened.on("request", lambda asked, said=said: said.extend(_remote(asked.url, page)))
            opened.goto(page.absolute().as_uri())
            yield from _seen(opened, f"{scheme}{name}", folder / f"{page.stem}-{scheme}{name}.png")
            if scheme == "light" and not name:
                yield from _links(opened)
                opened.goto(page.absolute().as_uri())
                opened.pdf(path=folder / f"{page.stem}.pdf", format="A4", print_background=True)
            yield from (f"{scheme}{name}: the page said {line!r}" for line in said)
            context.close()


def _remote(url: str, page: Path) -> list[str]:
    return [] if url == page.absolute().as_uri() else [f"asked for {url}"]


def _seen(opened: Page, mode: str, picture: Path) -> Iterator[str]:
    """Look at a page as it opens, and with everything open."""
    from axe_playwright_python.sync_playwright import Axe

    opened.screenshot(path=picture, full_page=True)
    for state in ("folded", "open"):
        for violation in Axe().run(opened).response["violations"]:
            places = ", ".join(" ".join(node["target"]) for node in violation["nodes"][:3])
            yield f"{mode}, {state}: {violation['id']}: {violation['help']} ({places})"
        beyond = opened.evaluate(_BEYOND)
        if beyond > 0:
            yield f"{mode}, {state}: {beyond} pixels are beyond the edge"
        opened.evaluate(_OPEN)


def _links(opened: Page) -> Iterator[str]:
    """Follow the first block of the flow to its nodes, which must open; and open and close all."""
    opened.reload()
    block = opened.locator("#flow svg a").first
    if not block.count():
        return
    card = opened.locator(str(block.get_attribute("href")))
    block.click()
    if card.get_attribute("open") is None:
        yield "a block that was clicked does not open its nodes"
    every, button = opened.locator("details.card"), opened.locator("button.all")
    for wanted in (every.count(), 0):
        button.click()
        if opened.locator("details.card[open]").count() != wanted:
            yield f"{button.text_content()!r} does not say what it does"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
