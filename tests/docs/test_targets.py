"""docs/targets.md says what ir/targets says, and how loose proofs come out today."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from lapilli.deploy.surveys.targets import about, limits, room, row
from lapilli.model.trial import SMALL

pytestmark = pytest.mark.torch

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "targets.md").read_text()
QUICK = ("spikformer imagenet",)
ROWS = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]


def test_every_limit_is_on_the_page() -> None:
    assert limits() in PAGE, "docs/targets.md is old: make targets"
    assert about() in PAGE
    assert room() in PAGE, "docs/targets.md is old: make targets"


@pytest.mark.parametrize("name", ROWS)
def test_the_row_is_true(name: str) -> None:
    assert row(name) in PAGE.splitlines(), "docs/targets.md is old: make targets"


def test_the_page_has_a_row_for_each_layout() -> None:
    rows = PAGE[PAGE.index("| family and layout") :].splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == list(SMALL)
