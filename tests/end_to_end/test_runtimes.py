"""docs/runtimes.md says what comes out, row for row."""

from __future__ import annotations

from pathlib import Path

import pytest

from lapilli.deploy.surveys.runtimes import MODELS, examine, row

for package in ("nir", "nirtorch", "snntorch", "spikingjelly", "norse"):
    pytest.importorskip(package)

pytestmark = pytest.mark.torch

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "runtimes.md").read_text().splitlines()
QUICK = ("spikformer imagenet", "spike-driven imagenet")
ROWS = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]


@pytest.mark.parametrize("name", ROWS)
def test_the_row_is_true(name: str) -> None:
    cells = examine(name)
    assert row(name, cells) in PAGE
    assert not any(cell.mismatches for cell in cells.values())
    assert all(cell.declined or cell.values > 2000 for cell in cells.values())


def test_the_page_has_no_other_rows() -> None:
    rows = [line for line in PAGE if line.startswith("| ") and not line.startswith("| family")]
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert names == list(MODELS), "docs/runtimes.md is old: make runtimes"
