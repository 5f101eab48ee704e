"""What pages of a built site load from elsewhere: nothing, or `make site` fails.

`python deploy/surveys/site.py FOLDER` needs Python alone: the site is built in an environment of
its own. What a reader may click on is not looked at.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_LOADED = {  # tag -> the attributes by which a browser fetches something when the page is opened
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "object": ("data",),
    "embed": ("src",),
}
_NOT_FETCHED = {"canonical", "next", "prev", "alternate", "author", "license"}  # of <link rel>
_REMOTE = re.compile(r"(?:https?:)?//")
_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s;]+)")


class _Page(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See one tag."""
        told = {name: value or "" for name, value in attrs}
        if tag == "link" and set(told.get("rel", "").split()) <= _NOT_FETCHED and "rel" in told:
            return
        self.loaded += [told[name] for name in _LOADED.get(tag, ()) if name in told]
        self.loaded += _CSS.findall(told.get("style", ""))


def remote(name: str, text: str) -> list[str]:
    """Addresses that a file of the site loads from elsewhere.

    >>> remote("a.html", '<img src="//b.c/d.png"><a href="https://e.f">g</a>')
    ['//b.c/d.png']

    Args:
        name: of the file, whose ending says what it is.
        text: what it holds.
    """
    if name.endswith(".css"):
        return _CSS.findall(text)
    page = _Page()
    page.feed(text)
    return [address for address in page.loaded if _REMOTE.match(address)] + [
        address
        for style in re.findall(r"<style[^>]*>(.*?)</style>", text, re.S)
        for address in _CSS.findall(style)
    ]


def main(folder: Path) -> int:
    """Say what is wrong with a site, and return a status."""
    files = sorted([*folder.rglob("*.html"), *folder.rglob("*.css")])
    found = [(f, address) for f in files for address in remote(f.name, f.read_text("utf-8"))]
    for file, address in found:
        sys.stderr.write(f"{file}: loads {address}\n")
    if not files:
        sys.stderr.write(f"{folder}: no pages\n")
    return int(bool(found) or not files)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
