"""docs/coverage.md says what comes out, row for row."""

from __future__ import annotations

from pathlib import Path

import pytest

from lapilli.deploy.surveys.coverage import examine
from lapilli.model.trial import SMALL

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "coverage.md").read_text().splitlines()


# The rows of a second or two; `make test-long` looks at all of them.
QUICK = ("spikformer cifar", "spikingformer imagenet", "spike-driven step", "a2os2a", "semm")
ROWS = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]


@pytest.mark.lava
@pytest.mark.parametrize("name", ROWS)
def test_the_row_is_true(name: str) -> None:
    row = examine(name)
    assert str(row) in PAGE
    for comparison in row.comparisons:
        assert comparison.exact, str(comparison)


def test_the_page_has_no_other_rows() -> None:
    rows = [line for line in PAGE if line.startswith("| ") and not line.startswith("| family")]
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert names == list(SMALL), "docs/coverage.md is old: make coverage"
