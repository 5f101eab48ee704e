"""docs/step.md has a row for everything that is tried of STEP, and says of each what came of it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from step.rows import ROWS

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "step.md"


def _verdicts() -> dict[tuple[str, str], str]:
    """Part and name of a row -> its line."""
    found: dict[tuple[str, str], str] = {}
    for section in _PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        part, *lines = section.splitlines()
        for line in lines:
            if line.startswith("| `"):
                found[part, line[2:].partition(" | ")[0].removesuffix(" (`per_sample`)")] = line
            elif line.startswith("- `"):
                found[part, line[2:].partition(": ")[0]] = line
    return found


def test_every_row_is_on_the_page() -> None:
    assert sorted(_verdicts()) == sorted((row.part, row.name) for row in ROWS)


def test_what_is_exact_was_compared_and_what_is_not_says_why() -> None:
    for key, line in _verdicts().items():
        if line.startswith("| "):
            nodes, values, *mismatches, rates = line.strip("| ").split(" | ")[1:]
            assert int(nodes) > 3, key
            assert int(values.replace(",", "")) > 1000, key
            assert set(mismatches) <= {"0", "declined"}, key
            assert mismatches[0] == mismatches[1] == "0", key
            least, most = (float(rate.rstrip("%")) for rate in rates.split(" to "))
            assert 0 <= least < most < 100, key
        else:
            assert len(line) > 60, key


def test_of_fifteen_model_files_twelve_are_exact() -> None:
    files = {name for part, name in _verdicts() if part == "Model files" and name.endswith(".py`")}
    exact = {n for n in files if _verdicts()["Model files", n].startswith("| ")}
    assert len(files) == 15
    assert len(exact) >= 12
