"""The first tutorial as a notebook: its words and its code, a cell each.

`python -m lapilli.deploy.surveys.notebook docs/tutorials/digits.md docs/tutorials/digits.ipynb`
writes it; a test holds it true. What a cell prints is left to whoever runs it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from lapilli.export.atomic import write_atomic

_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebook(page: str) -> dict[str, Any]:
    """Return a page of Markdown as a notebook: blocks of Python run, those of a shell behind `!`.

    Args:
        page: whose code is fenced; blocks of text are what the code prints, and are left out.
    """
    cells: list[dict[str, Any]] = []
    parts = re.split(r"^```(\w+)\n(.*?)^```\n", page, flags=re.M | re.S)
    for words, kind, code in zip(parts[::3], [*parts[1::3], ""], [*parts[2::3], ""], strict=True):
        if words.strip():
            cells.append(_cell("markdown", words.strip()))
        if kind == "python":
            cells.append(_cell("code", code.strip()))
        elif kind == "console":
            lines = re.findall(r"^\$ (.*)$", code, re.M)
            cells.append(_cell("code", "\n".join(f"!{line}" for line in lines)))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(kind: str, text: str) -> dict[str, Any]:
    code: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True), **code}


def text(page: str) -> str:
    """The notebook as it is written to a file."""
    return json.dumps(notebook(page), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_atomic(Path(sys.argv[2]), text(Path(sys.argv[1]).read_text()).encode())
