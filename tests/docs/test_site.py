"""Links of docs/ resolve, index.md leads to every page, and every public name has an entry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest

import lapilli
from lapilli.deploy.surveys.site import main, remote

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
_LINK = re.compile(r"(?<!`)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")


def links(text: str) -> list[str]:
    """Targets of the links of a page, without code and without what leads out of docs/."""
    prose = re.sub(r"^```.*?^```$|^ {4}\S[^\n]*$|`[^`\n]+`", "", text, flags=re.M | re.S)
    return [t for t in _LINK.findall(prose) if not re.match(r"https?:|mailto:", t)]


def anchors(text: str) -> set[str]:
    """What a page's headings are called in links, as GitHub and Python-Markdown call them."""
    titles = re.findall(
        r"^#+ +(.*?) *$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M
    )
    plain = (re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles)
    return {re.sub(r"[\s]+", "-", title) for title in plain}


def broken(page: Path, text: str) -> Iterator[str]:
    """Links of a page that lead nowhere."""
    for link in links(text):
        name, _, anchor = link.partition("#")
        there = (page.parent / name) if name else page
        is_page = there.suffix == ".md" and there.exists()
        if not there.exists() or (anchor and is_page and anchor not in anchors(there.read_text())):
            yield link


def reachable(texts: dict[Path, str]) -> set[Path]:
    """Every page that index.md leads to, in any number of steps."""
    found, todo = set[Path](), [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        if page not in found and page in texts:
            found.add(page)
            # Not resolve(): contributing.md is a link to a file above docs/.
            here = [link.partition("#")[0] for link in links(texts[page])]
            todo += [Path(*_normal((page.parent / name).parts)) for name in here if name]
    return found


def _normal(parts: tuple[str, ...]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if part == "..":
            kept.pop()
        else:
            kept.append(part)
    return kept


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(DOCS))) for p in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    assert not list(broken(page, page.read_text()))


def test_a_broken_link_is_noticed() -> None:
    page = DOCS / "index.md"
    assert list(
        broken(page, "[a](gone.md) [b](format.md#gone) [c](format.md)\n`[d](gone.md)`")
    ) == [
        "gone.md",
        "format.md#gone",
    ]


def test_every_page_is_reached_from_the_first() -> None:
    texts = {page: page.read_text() for page in PAGES}
    assert len(texts) > 30
    assert not set(texts) - reachable(texts), (
        "link these from docs/index.md, or a page that it names"
    )


def test_a_page_that_nobody_links_is_noticed() -> None:
    texts = {page: page.read_text().replace("data.md", "") for page in PAGES}
    assert DOCS / "data.md" in set(texts) - reachable(texts)


def test_every_page_is_in_the_navigation() -> None:
    told = re.findall(r"^ +- .*: (\S+\.md)$", (DOCS.parent / "mkdocs.yml").read_text(), re.M)
    assert sorted(told) == [p.relative_to(DOCS).as_posix() for p in PAGES]


_RUN = ("docs/golden.md", "docs/tutorials/", "docs/how-to/", "docs/explanation/")


def unmarked(page: str, text: str) -> int:
    """Blocks of code that no test runs, and that do not say why."""
    fences = len(re.findall(r"^```\w", text, re.M))
    marked = len(re.findall(r"^<!-- not run: .+ -->\n+```\w", text, re.M))
    return 0 if page.startswith(_RUN) else fences - marked


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(DOCS))) for p in PAGES])
def test_every_block_of_code_runs_or_says_why_not(page: Path) -> None:
    assert unmarked(page.relative_to(DOCS.parent).as_posix(), page.read_text()) == 0


def test_a_block_that_nobody_runs_is_noticed() -> None:
    block = "```python\nfail\n```\n"
    assert unmarked("docs/a.md", block) == 1
    assert unmarked("docs/a.md", f"<!-- not run: a sketch -->\n{block}") == 0


def documented(text: str) -> set[str]:
    """Public names that the reference has an entry for."""
    return set(re.findall(r"^::: lapilli\.(\w+)$", text, re.M)) | set(
        re.findall(r"`lapilli\.(__version__)`", text)
    )


def test_every_public_name_has_an_entry() -> None:
    text = (DOCS / "reference" / "api.md").read_text()
    assert documented(text) == set(lapilli.__all__)
    assert documented(text.replace("::: lapilli.run\n", "")) == set(lapilli.__all__) - {"run"}


@pytest.mark.parametrize(
    ("name", "text", "loaded"),
    [
        ("a.html", '<script src="https://x.y/z.js"></script>', ["https://x.y/z.js"]),
        ("a.html", '<link rel="stylesheet" href="//x.y/z.css">', ["//x.y/z.css"]),
        ("a.html", '<link rel="canonical" href="https://x.y/">', []),
        ("a.html", '<img src="here.png"><a href="https://x.y/">there</a>', []),
        (
            "a.html",
            "<style>p {background: url('https://x.y/z.png')}</style>",
            ["https://x.y/z.png"],
        ),
        ("a.css", '@import "//x.y/z.css";', ["//x.y/z.css"]),
        ("a.css", "p {background: url(data:image/svg+xml,<svg xmlns='http://w.w'/>)}", []),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_seen(name: str, text: str, loaded: list[str]) -> None:
    assert remote(name, text) == loaded


def test_a_site_that_loads_from_elsewhere_fails(tmp_path: Path) -> None:
    assert main(tmp_path) == 1
    page = tmp_path / "index.html"
    page.write_text("<p>")
    assert main(tmp_path) == 0
    page.write_text('<img src="http://x.y/z.png">')
    assert main(tmp_path) == 1


def _there(name: str) -> bool:
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.torch
def test_every_entry_is_of_something() -> None:
    pytest.importorskip("torch")
    text = (DOCS / "reference" / "api.md").read_text()
    entries = re.findall(r"^::: ([\w.]+)$", text, re.M)
    assert not [name for name in entries if not _there(name)]
    assert not _there("lapilli.run_away")
