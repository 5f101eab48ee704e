"""`.lapilli` files: what goes in comes out, and a failing save changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapilli.export.native import load_network, save_network
from lapilli.ir import ops
from lapilli.ir.errors import OutputError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.types import TensorType
from lapilli.simulators.conformance import CASES, attention_block

if TYPE_CHECKING:
    from lapilli.quantize import Quantized

_QUANTIZER = InputQuantizer(
    mean=(Fraction(1, 3),), std=(Fraction(7, 22),), exponent=-2, lo=-127, hi=126
)
_SINGLE = [c for c in CASES if len(c.graph.inputs) == len(c.graph.outputs) == 1]


def network(graph: Graph) -> Network:
    return Network(
        graph=graph, input=_QUANTIZER, logit_scale=Fraction(-5, 3 << 70), classes=("é", "", "b\n")
    )


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.lapilli"
    save_network(network(attention_block(2, 4, 2)), path)
    return path


# ---- round trips ------------------------------------------------------------------------


def _round_trip(before: Network, folder: Path) -> None:
    path = folder / "net.lapilli"
    save_network(before, path)
    after = load_network(path)
    assert after == before
    assert after.graph.digest == before.graph.digest
    assert after.graph.types == before.graph.types
    assert (after.graph.T, after.input, after.logit_scale, after.classes) == (
        before.graph.T, before.input, before.logit_scale, before.classes,
    )  # fmt: skip
    again = folder / "again.lapilli"
    save_network(after, again)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("case", _SINGLE, ids=str)
def test_every_case_survives(case: Any, tmp_path: Path) -> None:
    _round_trip(network(case.graph), tmp_path)


@pytest.mark.parametrize("name", ["spikformer", "spike_driven"])
def test_trained_networks_survive(
    quantized: Callable[[str], Quantized], name: str, tmp_path: Path
) -> None:
    _round_trip(quantized(name).network, tmp_path)


def test_random_graphs_survive(graphs: st.SearchStrategy[Graph], tmp_path: Path) -> None:
    @settings(max_examples=60)
    @given(graphs)
    def survive(graph: Graph) -> None:
        _round_trip(network(graph), tmp_path)

    survive()


def test_names_may_be_any_text(tmp_path: Path) -> None:
    first = Node("a:weight", ops.Input(type=TensorType.spikes(1)))
    nodes = (first, Node('\n"é\ud800', ops.Delay(steps=1), ("a:weight",)))
    _round_trip(network(Graph(nodes, (nodes[1].name,), 1)), tmp_path)


def test_numbers_are_stored_in_their_narrowest_type(tmp_path: Path) -> None:
    path = tmp_path / "net.lapilli"
    save_network(network(attention_block(4, 64, 2)), path)
    weights = 3 * 64 * 64 + 3 * 64
    assert path.stat().st_size < weights + 8000


def test_a_saved_file_can_be_read_by_others(small: Path) -> None:
    assert small.stat().st_mode & 0o777 == 0o644


# ---- a failing save ---------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["replace", "open", "fdopen"])
def test_a_failing_save_leaves_the_old_file(
    broken: str, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = small.read_bytes()

    def fail(*args: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OutputError, match="disk full"):
        save_network(network(attention_block(3, 4, 2)), small)
    with pytest.raises(OutputError, match="disk full"):
        save_network(network(attention_block(3, 4, 2)), small.parent / "new.lapilli")
    monkeypatch.undo()
    assert os.listdir(small.parent) == [small.name]
    assert small.read_bytes() == old


def test_a_saved_file_replaces_the_old_one(small: Path) -> None:
    other = network(attention_block(3, 4, 2))
    save_network(other, small)
    assert load_network(small) == other
