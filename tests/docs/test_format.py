"""docs/format.md has a row for every op, with the attributes that it has."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from lapilli.ir import ops

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text()


def _rows() -> dict[str, set[str]]:
    """Op -> what stands in its row as code."""
    found: dict[str, set[str]] = {}
    for names, attributes in re.findall(r"^ +\| (`[A-Z]\w+`[^|]*) \| (.*) \|$", PAGE, re.M):
        for name in re.findall(r"`(\w+)`", names):
            assert name not in found, f"two rows of `{name}`"
            found[name] = set(re.findall(r"`(\w+)`", attributes))
    return found


def test_every_op_has_a_row() -> None:
    known = {kind.__name__ for kind in ops.OPS}
    assert not (missing := known - _rows().keys()), f"add a row to docs/format.md: {missing}"
    assert not (unknown := _rows().keys() - known), f"docs/format.md names no op: {unknown}"


def test_a_row_has_every_attribute() -> None:
    for kind in ops.OPS:
        fields = {field.name for field in dataclasses.fields(kind)}
        missing = fields - _rows()[kind.__name__]
        assert not missing, f"docs/format.md, row of `{kind.__name__}`: {missing}"
