"""Rates that no run shows: by hand, and never below what a run of binary neurons shows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from networks.on_cores import neurons_of

from lapilli.costs.populations import populations
from lapilli.costs.rates import rates_of
from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.passes.binary import to_binary_neurons
from lapilli.ir.types import TensorType
from lapilli.simulators.reference import Reference


def _product() -> Graph:
    """Rows times columns of spikes, and neurons on what comes out; a pool of the rows' spikes."""
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(2, 6, 8))),
        neurons_of("q", "x"),
        Node("y", ops.Input(type=TensorType.spikes(2, 8, 6))),
        neurons_of("k", "y"),
        Node("qk", ops.SpikeMatmul(), ("q", "k")),
        neurons_of("out", "qk"),
        Node("pool", ops.MaxPool2d(kernel=(2, 2), stride=(2, 2)), ("q",)),
    )
    return Graph(nodes, ("out", "pool"), 3)


def _found(q: Fraction, k: Fraction) -> dict[str, Fraction]:
    lowered = to_binary_neurons(_product())
    return rates_of(lowered, populations(lowered), {"q": q, "k": k, "out": Fraction(1)})


def test_by_hand() -> None:
    found = _found(Fraction(1, 2), Fraction(1, 8))
    assert found["q"] == Fraction(1, 2)
    assert found["qk.and"] == Fraction(1, 8)  # the rarer one
    assert found["pool"] == 2  # of four
    assert _found(Fraction(2), Fraction(2))["pool"] == 3  # no oftener than there are steps


def test_a_run_shows_no_more() -> None:
    """Of random spikes, many and few, in the graph of binary neurons itself."""
    rng = np.random.default_rng(7)
    lowered = to_binary_neurons(_product())
    everything = populations(lowered)
    fired = []
    for share in (0.05, 0.2, 0.6):
        given = {
            name: (rng.random((3, 40, *shape)) < share).astype(np.int64)
            for name, shape in (("x", (2, 6, 8)), ("y", (2, 8, 6)))
        }
        values = Reference().compile(lowered).run(given).values
        seen = {
            p.name: Fraction(int(values[p.name].sum()), 40 * values[p.name][0, 0].size)
            for p in everything
        }
        known = {name: seen[name] for name in ("q", "k", "out")}
        for name, rate in rates_of(lowered, everything, known).items():
            assert seen[name] <= rate, name
            fired.append(seen[name] > 0)
    assert sum(fired) > 10
