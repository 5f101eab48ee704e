"""docs/accuracy.md says what comes out: some rows, and one of each family."""

from __future__ import annotations

from pathlib import Path

import pytest

from lapilli.deploy.surveys.accuracy import WIDER, row, wider
from lapilli.model.trial import SMALL

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "accuracy.md").read_text().splitlines()

# `make test-long` looks at all of them.
QUICK = ("spikformer imagenet",)
ROWS = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]


@pytest.mark.parametrize("name", ROWS)
def test_the_row_is_true(name: str) -> None:
    assert row(name) in PAGE, "docs/accuracy.md is old: make accuracy"


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDER)
def test_the_row_of_more_bits_is_true(name: str) -> None:
    assert wider(name) in PAGE, "docs/accuracy.md is old: make accuracy"


def test_the_page_has_a_row_for_each_layout() -> None:
    rows = [line for line in PAGE if line.startswith("| ") and not line.startswith("| family")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == [*SMALL, *WIDER]
