"""Membranes of a `.net` file at the lower end of their register, where Lava clips them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lapilli.ir import ops
from lapilli.ir.errors import FormatError
from lapilli.ir.graph import Graph
from lapilli.ir.network import Network
from lapilli.ir.tensor import IntArray
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference

h5py = pytest.importorskip("h5py")

from networks.inhibited import INPUTS, LOWEST, T, inhibited, spikes  # noqa: E402  (needs h5py)

from lapilli.export.net.importer import network_from_net  # noqa: E402


def by_hand(weight: IntArray, x: IntArray, vth: int, lowest: int) -> tuple[IntArray, IntArray]:
    """Spikes and membranes of Lava's neurons, in Python's integers."""
    v = np.zeros(len(weight), np.int64)
    fired, shown = [], []
    for step in x:
        v = np.sign(v) * (np.abs(v) * (4096 - 8) >> 12) + 64 * (weight @ step)
        v = np.clip(v, lowest, -LOWEST)
        shown.append(v)
        fired.append(v > 64 * vth)
        v = np.where(fired[-1], 0, v)
    return np.stack(fired).astype(np.int64), np.stack(shown)


def run(graph: Graph) -> tuple[IntArray, IntArray]:
    given = {"input": spikes().reshape(T, 1, 1, 1, INPUTS)}
    one, two = (s.compile(graph).run(given) for s in (Reference(), EventDriven()))
    for name in graph.recorded:
        assert np.array_equal(one.values[name], two.values[name]), name
    return one.values["layer.0"][:, 0], one.membranes["layer.0"][:, 0]


def test_a_membrane_stays_at_the_end_of_its_register(
    net_chain: Callable[..., Network], tmp_path: Path
) -> None:
    weight = inhibited(net_chain, tmp_path / "x.net")
    graph = network_from_net(tmp_path / "x.net", T).graph
    op = graph["layer.0"].op
    assert isinstance(op, ops.GeneralNeuron)
    vth = (int(op.threshold.array.ravel()[0]) - 1) // 64
    fired, shown = run(graph)
    want, membranes = by_hand(weight, spikes(), vth, LOWEST)
    assert np.array_equal(fired, want)
    assert np.array_equal(shown, membranes)
    assert shown.min() == LOWEST
    assert 0.03 < fired.mean() < 0.97
    wrong, _ = by_hand(weight, spikes(), vth, 2 * LOWEST)  # of a register of a bit more
    assert not np.array_equal(fired, wrong)
    planted = [replace(n, op=replace(op, floor=2 * LOWEST)) if n.name == "layer.0" else n
               for n in graph.nodes]  # fmt: skip
    assert not np.array_equal(run(Graph(tuple(planted), graph.outputs, T))[0], fired)


def test_a_few_steps_need_no_floor(net_chain: Callable[..., Network], tmp_path: Path) -> None:
    inhibited(net_chain, tmp_path / "x.net")
    assert isinstance(network_from_net(tmp_path / "x.net", 20).graph["layer.0"].op, ops.Neuron)


def test_a_current_that_would_wrap_is_refused(
    net_chain: Callable[..., Network], tmp_path: Path
) -> None:
    inhibited(net_chain, tmp_path / "x.net", i_decay=10)
    with pytest.raises(FormatError, match=r"'layer\.0': state needs 26 bits, there are 24"):
        network_from_net(tmp_path / "x.net", T)
