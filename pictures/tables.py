"""Tables and folded parts as HTML without a script: what a notebook shows of an object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_MOST = 60  # rows that are shown


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str = "") -> str:
    """Return a table; of many rows the first, and how many more there are.

    Args:
        head: names of columns; empty where the first cell of each row names it.
        rows: cells, written as text.
        caption: what it is of.
    """
    titled = f"<caption>{escape(caption)}</caption>" if caption else ""
    named = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    top = f"<thead><tr>{named}</tr></thead>" if head else ""
    body = "".join(_row(row, titled=not head) for row in rows[:_MOST])
    left = len(rows) - _MOST
    more = f"<p>and {left:,} more</p>" if left > 0 else ""
    return f"<table>{titled}{top}<tbody>{body}</tbody></table>{more}"


def _row(cells: Sequence[object], *, titled: bool) -> str:
    texts = [escape(str(cell)) for cell in cells]
    first = f'<th scope="row">{texts[0]}</th>' if titled else f"<td>{texts[0]}</td>"
    return f"<tr>{first}{''.join(f'<td>{text}</td>' for text in texts[1:])}</tr>"


def folded(title: str, content: str) -> str:
    """Return a part that opens when its title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def paragraphs(sentences: Iterable[str]) -> str:
    """Return each sentence as a paragraph."""
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
