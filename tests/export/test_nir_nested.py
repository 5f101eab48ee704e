"""Graphs in the graph of a `.nir` file: their nodes in their place, with every spike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapilli.export.nir.check.check import check_file
from lapilli.export.nir.read.dynamics import Reading
from lapilli.export.nir.read.importer import from_nir
from lapilli.export.nir.read.metadata import Stated
from lapilli.ir.errors import FormatError
from lapilli.ir.graph import Graph
from lapilli.ir.tensor import IntArray
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.usefixtures("nir_in_process")
STATED = Stated(reading=Reading.EULER, dt=1e-4, T=6, input_range=(0, 1))
FIRST, SECOND, LAST = (
    np.random.default_rng(seed).integers(-2, 4, (3, 3)) / 2.0 for seed in (1, 2, 3)
)


def lif() -> Any:
    one = np.ones(3)
    return nir.LIF(tau=one * 2e-4, r=one * 2, v_leak=one * 0, v_threshold=one)


def ends() -> dict[str, Any]:
    return {"input": nir.Input(np.array([3])), "output": nir.Output(np.array([3]))}


def nested(second: Any = SECOND) -> Any:
    """A block with a way around it, and a block in that block."""
    deep = nir.NIRGraph(
        {**ends(), "fc": nir.Linear(weight=second), "lif": lif()},
        [("input", "fc"), ("fc", "lif"), ("lif", "output")],
    )
    block = nir.NIRGraph(
        {**ends(), "deep": deep},
        [("input", "deep"), ("deep", "output"), ("input", "output")],
    )
    return nir.NIRGraph(
        {**ends(), "a": nir.Linear(weight=FIRST), "la": lif(), "block": block,
         "b": nir.Linear(weight=LAST), "lb": lif()},
        [("input", "a"), ("a", "la"), ("la", "block"), ("block", "b"), ("b", "lb"),
         ("lb", "output")],
    )  # fmt: skip


def read(graph: Any, path: Path) -> Graph:
    nir.write(path, graph)
    return from_nir(path, STATED)


def by_hand(given: IntArray) -> dict[str, IntArray]:
    """The same network, written out in floats, in which it is exact."""

    def fire(x: Any) -> Any:
        v, spikes = np.zeros(x.shape[1:]), []
        for step in x:
            v = v / 2 + step
            spikes.append(v > 1)
            v = np.where(v > 1, 0, v)
        return np.stack(spikes).astype(float)

    la = fire(given @ FIRST.T)
    inner = fire(la @ SECOND.T)
    found = {"la": la, "block.deep.lif": inner, "lb": fire((la + inner) @ LAST.T)}
    return {name: spikes.astype(np.int64) for name, spikes in found.items()}


def test_nested_graphs_compute_what_they_say(tmp_path: Path) -> None:
    given = np.random.default_rng(0).integers(0, 2, (6, 40, 3))
    want = by_hand(given)
    graph = read(nested(), tmp_path / "x.nir")
    assert set(graph.neurons) == set(want)
    for simulator in (Reference(), EventDriven()):
        values = simulator.compile(graph).run({"input": given}).values
        for name, spikes in want.items():
            assert np.array_equal(values[name], spikes), name
    assert all(0.05 < spikes.mean() < 0.95 for spikes in want.values())
    planted = read(nested(SECOND[::-1].copy()), tmp_path / "x.nir")
    wrong = Reference().compile(planted).run({"input": given}).values
    assert np.array_equal(wrong["la"], want["la"])
    assert not np.array_equal(wrong["lb"], want["lb"])


def around(inner: dict[str, Any], edges: list[tuple[str, str]], **more: Any) -> Any:
    block = nir.NIRGraph(inner, edges, type_check=False)
    wired = [("input", "block"), ("block", "output")]
    for name in more:
        wired += [("input", name), (name, "output")]
    return nir.NIRGraph({**ends(), "block": block, **more}, wired, type_check=False)


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (around({**ends(), "more": nir.Input(np.array([3])), "fc": nir.Linear(weight=FIRST)},
                [("input", "fc"), ("more", "fc"), ("fc", "output")]),
         "node 'block': a graph with 2 nodes of type Input; in a graph it has one"),
        (around({**ends(), "fc": nir.Linear(weight=FIRST), "lif": lif()},
                [("input", "fc"), ("fc", "lif"), ("lif", "fc"), ("lif", "output")]),
         "node 'block.*': is part of a loop"),
        (around({**ends(), "lif": lif()}, [("input", "lif"), ("lif", "output")],
                **{"block.lif": lif()}), "node 'block.lif': is the name of a node in a graph as w"),
        (around({"input": nir.Input(np.array([4])), "output": nir.Output(np.array([4]))},
                [("input", "output")]), r"node 'block.input': expects \[4\], and is given \[3\]"),
        (around({**ends(), "lif": lif()}, [("input", "output")]),
         "node 'block.lif': no edge leads to it"),
        (around({**ends(), "s": nir.Threshold(threshold=np.ones(3))},
                [("input", "s"), ("s", "output")]), "node 'block.s': is a Threshold"),
    ],
)  # fmt: skip
def test_nested_graphs_that_are_refused(graph: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=says):
        read(graph, tmp_path / "x.nir")


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("node/nodes/block/nodes/deep/edges", None, "/node/nodes/block/nodes/deep/edges: is miss"),
        ("node/nodes/block/nodes/deep/more", 1, "/node/nodes/block/nodes/deep/more: unknown"),
        ("node/nodes/block/edges", 1, "/node/nodes/block/edges: expected rows of two names"),
        ("node/nodes/block/nodes/deep/nodes/fc/type", "X", "node 'block.deep.fc': unknown type"),
    ],
)
def test_damaged_nested_graphs_are_refused(
    place: str, value: Any, says: str, tmp_path: Path
) -> None:
    nir.write(tmp_path / "x.nir", nested())
    with h5py.File(tmp_path / "x.nir", "r+") as file:
        if place in file:
            del file[place]
        if value is not None:
            file[place] = value
    with pytest.raises(FormatError) as refused:
        from_nir(tmp_path / "x.nir", STATED)
    assert says in str(refused.value)


def test_a_check_for_frameworks_refuses_them(tmp_path: Path) -> None:
    nir.write(tmp_path / "x.nir", nested())
    with pytest.raises(FormatError, match="node 'block': a graph in the graph"):
        check_file(tmp_path / "x.nir", "snntorch")
