"""Tables of prices: every one that is shipped is whole, and each fault of another is a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lapilli.costs.models.table import KEYS, MODELS
from lapilli.costs.prices import Grade, Table, checked, read_tables, shipped
from lapilli.ir.errors import FormatError, InputError

_PRICE: dict[str, Any] = {
    "value": 2.0, "unit": "pJ", "technology": "7 nm", "source": "me", "year": 2026,
    "grade": "measured",
}  # fmt: skip


def test_what_is_shipped_is_whole() -> None:
    tables = checked(shipped(), KEYS)
    assert {table.model for table in tables} == set(KEYS)
    for table in tables:
        for key, price in table.prices.items():
            assert price.source, (table.name, key)
            assert price.technology, (table.name, key)
            assert (price.picojoules is None) == (price.grade is Grade.UNKNOWN)
            assert price.year is not None or price.grade is Grade.UNKNOWN
    names = {table.name: table for table in tables}
    for model in MODELS:
        assert names[model.table].model == names[model.integers].model == model.name
        assert not names[model.table].unknown
    assert names["loihi2"].unknown == KEYS["event-hardware"]


def _file(folder: Path, **prices: Any) -> Path:
    given = {"multiply-accumulate": _PRICE, "accumulate": _PRICE, **prices}
    table = {"name": "mine", "model": "papers", "prices": given}
    path = folder / "mine.json"
    path.write_text(json.dumps({"tables": [table]}))
    return path


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    (mine,) = read_tables(_file(tmp_path, accumulate={**_PRICE, "value": 3, "unit": "fJ"}))
    assert mine.prices["accumulate"].picojoules == 0.003
    assert mine.grade is Grade.MEASURED
    assert checked([*shipped(), mine], KEYS)[-1] is mine


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"value": -1}, "-1 is no number from 0 to 1e"),
        ({"value": float("nan")}, "nan is no number from 0"),
        ({"value": 10**400}, "000 is no number from 0"),
        ({"value": True}, "True is no number from 0"),
        ({"value": "2"}, "'2' is no number from 0"),
        ({"value": None}, "a value of null is graded unknown"),
        ({"grade": "unknown"}, "a value of null is graded unknown"),
        ({"grade": "guess"}, "grade 'guess' is none of measured, simulated, vendor"),
        ({"unit": "kWh"}, "unit 'kWh' is none of fJ, pJ, nJ"),
        ({"source": None}, "says no source"),
        ({"year": "2026"}, "year '2026' is none"),
    ],
)
def test_a_wrong_price_is_named(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=said) as raised:
        read_tables(_file(tmp_path, accumulate={**_PRICE, **wrong}))
    assert "table 'mine', price of 'accumulate'" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("{}", 'no list "tables"'),
        ('{"tables": []}', 'no list "tables"'),
        ('{"tables": [{}]}', 'without a "name"'),
        ('{"tables": [{"name": "a"}]}', "does not say its model"),
        ('{"tables": [{"name": "a", "model": "papers"}]}', "holds no prices"),
        ('{"tables": [{"name": "a", "model": "papers", "prices": {"x": 1}}]}', "is no object"),
        (" " * (1 << 21), "is larger than"),
        ('{"tables": [{"name": "a", "name": "b"}]}', "says 'name' twice: which is it"),
    ],
)
def test_a_file_of_something_else(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=said):
        read_tables(path)
    with pytest.raises(FormatError, match="cannot be read"):
        read_tables(tmp_path / "missing.json")


def test_tables_that_no_model_can_use(tmp_path: Path) -> None:
    (mine,) = read_tables(_file(tmp_path))
    with pytest.raises(InputError, match="two tables of prices are called 'mine'"):
        checked([mine, mine], KEYS)
    with pytest.raises(InputError, match="model 'moon' is none of papers"):
        checked([Table(name="a", model="moon", prices=mine.prices)], KEYS)
    more = {**mine.prices, "byte": mine.prices["accumulate"]}
    with pytest.raises(InputError, match="papers has no price of 'byte', but of multiply"):
        checked([Table(name="a", model="papers", prices=more)], KEYS)
    few = {"accumulate": mine.prices["accumulate"]}
    with pytest.raises(InputError, match="lacks the price of multiply-accumulate; say null"):
        checked([Table(name="a", model="papers", prices=few)], KEYS)
