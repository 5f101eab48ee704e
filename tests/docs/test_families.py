"""docs/families.md has a row for every family, under the name that `inspect` says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from lapilli.model.families.table import FAMILIES

pytestmark = pytest.mark.torch

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "families.md").read_text()


def rows_of(page: str) -> list[list[str]]:
    """Cells of the first table, its head among them."""
    table = page[page.index("\n| family | name here |") :].strip().partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def missing(page: str) -> set[str]:
    """Families that no row names."""
    return set(FAMILIES) - {name for row in rows_of(page) for name in re.findall("`(.+)`", row[1])}


def test_every_family_has_a_row() -> None:
    assert not (without := missing(PAGE)), f"add a row to docs/families.md: {without}"
    head, _, *rows = rows_of(PAGE)
    named = {row[1].strip("`") for row in rows}
    assert not (unknown := named - set(FAMILIES)), f"docs/families.md names no family: {unknown}"
    assert {len(row) for row in rows} == {len(head)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_taken_out_is_missed(family: str) -> None:
    without = [line for line in PAGE.splitlines() if f"| `{family}` |" not in line]
    assert missing("\n".join(without)) == {family}
