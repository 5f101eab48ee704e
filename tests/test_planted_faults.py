"""The planted faults of `make mutants` are still there to be planted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mutants.table import MUTANTS

_ROOT = Path(__file__).resolve().parents[1]


def test_every_fault_has_one_place() -> None:
    texts = {path: (_ROOT / path).read_text() for path in {m.file for m in MUTANTS}}
    odd = [(m.file, m.old) for m in MUTANTS if texts[m.file].count(m.old) != 1 or m.old == m.new]
    assert not odd
    twice = [key for key, n in Counter((m.file, m.old, m.new) for m in MUTANTS).items() if n > 1]
    assert not twice
    assert len(MUTANTS) > 150
