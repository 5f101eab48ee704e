"""Imported files whose meaning is not certain, or not exact: refused by node, and what is not."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapilli.export.nir.read.dynamics import Reading
from lapilli.export.nir.read.importer import from_nir
from lapilli.export.nir.read.metadata import Stated
from lapilli.ir import ops
from lapilli.ir.errors import FormatError
from lapilli.simulators.reference import Reference

nir = pytest.importorskip("nir")


pytestmark = pytest.mark.usefixtures("nir_in_process")

_EULER = Stated(reading=Reading.EULER, dt=1e-4, T=4, input_range=(0, 1))


def _chain(node: Any, shape: tuple[int, ...] = (2,), **more: Any) -> Any:
    nodes = {"x": nir.Input(np.array(shape)), "n": node, "y": nir.Output(np.array(shape))}
    return nir.NIRGraph({**nodes, **more}, [("x", "n"), ("n", "y")], type_check=False)


def _lif(**fields: Any) -> Any:
    one = np.ones(2)
    given = {"tau": one * 2e-4, "r": one * 2, "v_leak": one * 0, "v_threshold": one, **fields}
    return nir.LIF(**given)


_ONE = np.ones(2)


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (_lif(tau=_ONE * 1e-3, r=_ONE * 10), "node 'n': tau takes 0.1 of its state in a step"),
        (_lif(tau=_ONE * 1e-5, r=_ONE), "tau takes 10 of its state"),
        (_lif(tau=np.array([1e-4, 2e-4])), "tau differs between its neurons"),
        (_lif(r=_ONE * 3), "multiplies its input by 1.5; only powers of two"),
        (_lif(r=-_ONE), "multiplies its input by -0.5"),
        (_lif(v_leak=_ONE), "v_leak 1, v_reset 0"),
        (_lif(v_reset=_ONE), "v_leak 0, v_reset 1"),
        (_lif(v_threshold=_ONE * 0), "v_threshold is not above the resting potential"),
        (_lif(v_threshold=_ONE * 1e30), "v_threshold is not above"),
        (_lif(tau=_ONE * 0), "tau is 0; it must be positive"),
        (_lif(tau=-_ONE), "tau is -1; it must be positive"),
        (_lif(tau=_ONE * 1e-300), "multiplies its input by 0, or by more than any|out of all prop"),
        (_lif(r=_ONE * 0), "multiplies its input by 0, or by more than any"),
        (_lif(r=_ONE * 1e300), "multiplies its input by 0, or by more than any"),
        (nir.Linear(weight=np.eye(2) * 1e-300), "node 'n': its numbers are too small or too large"),
        (nir.Linear(weight=np.eye(2) * 1e300), "node 'n': its numbers are too small or too large"),
        (nir.I(r=_ONE), "node 'n': multiplies its input by 0.0001; only powers of two"),
        (nir.Threshold(threshold=_ONE), "node 'n': is a Threshold, which no framework reads"),
        (nir.Conv1d(2, np.ones((2, 2, 1)), 1, 0, 1, 1, _ONE), "node 'n': is a Conv1d; the gr"),
        (nir.Scale(scale=_ONE * 2), "node 'n': multiplies values by constants"),
        (nir.Linear(weight=np.ones((2, 3))), "does not fit weight"),
        (nir.Linear(weight=np.array([[1.0, 1e-30], [0, 0]])), "node 'n': its .* lie on no grid"),
        (nir.Linear(weight=np.array([[0.1, 0.7], [0.3, 0]])), "node 'n': its .* lie on no grid"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_refused(node: Any, sentence: str, tmp_path: Path) -> None:
    nir.write(tmp_path / "x.nir", _chain(node))
    with pytest.raises(FormatError, match=sentence):
        from_nir(tmp_path / "x.nir", _EULER)


def test_float_weights_are_refused_where_a_framework_would_round(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(2, 2)).astype(np.float32)
    nir.write(tmp_path / "x.nir", _chain(nir.Linear(weight=weight)))
    stated = replace(_EULER, reading=Reading.SPIKINGJELLY)
    with pytest.raises(FormatError, match=r"node 'n': .* no grid; quantize the model first"):
        from_nir(tmp_path / "x.nir", stated)


def test_a_loop_is_refused(tmp_path: Path) -> None:
    nodes = {"x": nir.Input(np.array([2])), "n": _lif(), "w": nir.Linear(weight=np.eye(2)),
             "y": nir.Output(np.array([2]))}  # fmt: skip
    edges = [("x", "n"), ("n", "w"), ("w", "n"), ("n", "y")]
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, edges))
    with pytest.raises(FormatError, match="is part of a loop"):
        from_nir(tmp_path / "x.nir", _EULER)


@pytest.mark.parametrize(
    ("shape", "node", "sentence"),
    [
        ((1 << 27,), nir.Flatten(np.array([1 << 27]), 0, -1), "an input of 134217728 channels"),
        ((2, 4, 4), nir.SumPool2d(np.array([9000, 9000]), np.ones(2, int), np.full(2, 4500)),
         r"node 'n': sums over windows \[9000, 9000\]"),
        ((2, 4, 4), nir.Conv2d(None, np.ones((9, 2, 64, 64), np.int8), 1, 2000, 64, 1, np.ones(9)),
         "node 'n': a kernel of .* after dilation"),
    ],
)  # fmt: skip
def test_a_small_file_makes_no_large_graph(
    shape: tuple[int, ...], node: Any, sentence: str, tmp_path: Path
) -> None:
    if isinstance(node, nir.Conv2d):
        node.input_shape = (4, 4)
    nir.write(tmp_path / "x.nir", _chain(node, shape))
    tracemalloc.start()
    with pytest.raises(FormatError, match=sentence):
        from_nir(tmp_path / "x.nir", _EULER)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_what_an_exporter_tore_apart_is_refused(tmp_path: Path) -> None:
    """snnTorch writes a product of two values as two inputs that never meet."""
    nodes = {"a": nir.Input(np.array([2])), "b": nir.Input(np.array([2])), "n": _lif(),
             "y": nir.Output(np.array([2]))}  # fmt: skip
    edges = [("a", "n"), ("b", "n"), ("n", "y")]
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, edges))
    with pytest.raises(FormatError, match="2 nodes of type Input; a network has one"):
        from_nir(tmp_path / "x.nir", _EULER)


def test_layers_that_meet_share_a_unit(tmp_path: Path) -> None:
    nodes = {
        "x": nir.Input(np.array([2])),
        "coarse": nir.Linear(weight=np.array([[1.0, -2], [0, 3]])),
        "fine": nir.Linear(weight=np.array([[0.25, 1], [-0.5, 0]])),
        "n": _lif(v_threshold=np.array([0.75, 0.5])),
        "y": nir.Output(np.array([2])),
    }
    edges = [("x", "coarse"), ("x", "fine"), ("coarse", "n"), ("fine", "n"), ("n", "y")]
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, edges))
    graph = from_nir(tmp_path / "x.nir", _EULER)
    coarse = graph["coarse"].op
    assert isinstance(coarse, ops.Linear)
    assert coarse.weight.array.tolist() == [[4, -8], [0, 12]]
    given = np.random.default_rng(0).integers(0, 2, (4, 32, 2))
    got = Reference().compile(graph).run({"x": given}).values["n"]
    v = np.zeros((32, 2))
    for t, x in enumerate(given):
        v = v / 2 + x @ (nodes["coarse"].weight + nodes["fine"].weight).T
        fired = v > np.array([0.75, 0.5])
        assert np.array_equal(got[t], fired)
        v[fired] = 0
    assert 0 < got.mean() < 1


def test_foreign_metadata_is_no_obstacle(tmp_path: Path) -> None:
    graph = _chain(_lif())
    graph.metadata = {"author": "somebody", "more": {"a": 1}}
    nir.write(tmp_path / "x.nir", graph)
    assert from_nir(tmp_path / "x.nir", _EULER).neurons == ("n",)
    graph.metadata = {"lapilli": json.dumps({"format": "lapilli-nir/9"})}
    nir.write(tmp_path / "x.nir", graph)
    with pytest.raises(FormatError, match="format 'lapilli-nir/9'"):
        from_nir(tmp_path / "x.nir", _EULER)
