"""Speck and Xylo: what a layer takes there, and what is refused, by node and by how much."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lapilli.costs import small_pages
from lapilli.costs.chips import SMALL, chip
from lapilli.costs.small_chips import SmallMap
from lapilli.ir import ops
from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import Network
from lapilli.ir.targets.speck import SPECK, LayerCore
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import TensorType

_FIRE = ops.Neuron(threshold=IntTensor.of([65]))


def _conv(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (1, 1),
    weight: int = 1,
) -> ops.Conv2d:
    return ops.Conv2d(
        weight=IntTensor.of(np.full((outputs, inputs, kernel, kernel), weight)),
        bias=IntTensor.of([0] * outputs), stride=stride, padding=padding,
    )  # fmt: skip


def _chain(*layers: ops.Op, shape: tuple[int, ...] = (2, 16, 16), neuron: ops.Op = _FIRE) -> Graph:
    nodes, last = [Node("x", ops.Input(type=TensorType.spikes(*shape)))], "x"
    for i, op in enumerate(layers):
        nodes.append(Node(f"w{i}", op, (last,)))
        last = f"w{i}"
        if not isinstance(op, ops.Reshape):
            nodes.append(Node(f"n{i}", neuron, (last,)))
            last = f"n{i}"
    return Graph(tuple(nodes), (last,), 4)


def _told(graph: Graph, name: str = "speck") -> SmallMap:
    return small_pages.put_on(graph, SMALL[name])


def _reasons(graph: Graph, name: str = "speck") -> list[str]:
    return [str(obstacle) for obstacle in _told(graph, name).obstacles]


def test_memories_are_powers_of_two() -> None:
    """Kernel words c * 2^(ceil lg k + ceil lg f), neuron words f * 2^(ceil lg y + ceil lg x)."""
    dense = ops.Linear(
        weight=IntTensor.of(np.ones((10, 12 * 196), np.int64)), bias=IntTensor.of([0] * 10)
    )
    graph = _chain(_conv(2, 12, padding=(0, 0)), ops.Reshape(shape=(12 * 196,)), dense)
    found = _told(graph)
    first, last = found.shares
    assert dict(first.takes) == {
        "kernel words": 2 << (4 + 4), "neuron words": 12 << (4 + 4), "biases": 12,
    }  # fmt: skip
    assert dict(last.takes) == {"kernel words": 12 << (8 + 4), "neuron words": 10, "biases": 10}
    assert {first.core, last.core} <= set(range(9))
    assert last.room["kernel words"] >= 12 << 12
    assert found.fits
    assert "nothing that is known of speck stands against it" in small_pages.text(found)


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (_chain(_conv(2, 4, weight=201)), "n0: needs 9 bits of a weight, of 8"),
        (_chain(_conv(2, 4, stride=(3, 3))), "n0: strides by 3; 1, 2, 4, 8 can be"),
        (_chain(_conv(2, 4, 17, padding=(8, 8))), "n0: pads by 8; at most 7 can be"),
        (_chain(_conv(2, 4, 17, padding=(8, 8))), "n0: needs 17 lines of a kernel, of 16"),
        (_chain(_conv(2, 4), shape=(2, 80, 80)), "n0: needs 80 lines of an output, of 64"),
        (
            _chain(_conv(2, 4), neuron=replace(_FIRE, dv=2048)),
            "n0: forgets a part of its membrane at each step",
        ),
        (_chain(_conv(2, 4), neuron=replace(_FIRE, ternary=True)), "n0: sends negative spikes"),
        (_chain(_conv(2, 4), neuron=replace(_FIRE, reset=ops.Reset.NONE)), "n0: does not reset"),
        (
            _chain(_conv(2, 4), neuron=replace(_FIRE, du=0)),
            "n0: keeps (4096 - 0) / 4096 of its current",
        ),
        (
            _chain(_conv(2, 4), neuron=replace(_FIRE, bias=IntTensor.of([(1 << 20) + 1]))),
            "n0: needs 22 bits of a state, of 16",
        ),
        (
            _chain(ops.MaxPool2d(kernel=(2, 2), stride=(2, 2))),
            "w0: a maximum; a core convolves, fires and pools by sums",
        ),
        (
            _chain(_conv(2, 300), shape=(2, 64, 64)),
            "n0: no core has 16,384 kernel words and 1,228,800 neuron words; the largest",
        ),
    ],
)  # fmt: skip
def test_what_speck_cannot(graph: Graph, said: str) -> None:
    found = _reasons(graph)
    assert any(reason.startswith(said) for reason in found), found


def test_ten_layers_are_one_too_many() -> None:
    found = _reasons(_chain(*[_conv(2, 2)] * 10))
    assert found == ["n9: all cores that hold it are taken; there are 9"]


def test_layers_change_cores_so_that_all_have_one() -> None:
    """The first layer takes a large core; it leaves it where another needs it."""
    graph = _chain(_conv(2, 2), _conv(2, 2, 5, padding=(2, 2)), shape=(2, 4, 4))
    small, large = LayerCore(64, 1024, 64), LayerCore(1 << 12, 1024, 64)
    two = replace(SPECK, cores=(large, small))
    found = small_pages.put_on(graph, two)
    assert [s.core for s in found.shares] == [1, 0]
    assert found.fits


def test_a_layer_has_two_hearers() -> None:
    nodes = list(_chain(_conv(2, 2)).nodes)
    for i in range(3):
        nodes += [Node(f"b{i}", _conv(2, 2), ("n0",)), Node(f"c{i}", _FIRE, (f"b{i}",))]
    nodes.append(Node("both", ops.Add(), ("c0", "c1")))
    graph = Graph(tuple(nodes), ("both", "c2"), 2)
    assert _reasons(graph) == ["n0: needs 3 layers that hear one, of 2"]
    currents = Graph((*nodes, Node("more", ops.Add(), ("b0", "b1"))), ("more", "both", "c2"), 2)
    assert "more: an addition of currents; a core adds up its own alone" in _reasons(currents)


def test_who_hears_a_sum_hears_each_of_its_terms() -> None:
    nodes = list(_chain(_conv(2, 2), _conv(2, 2)).nodes)
    nodes.append(Node("both", ops.Add(), ("n0", "n1")))
    for i in range(2):
        nodes += [Node(f"b{i}", _conv(2, 2), ("both",)), Node(f"c{i}", _FIRE, (f"b{i}",))]
    found = _reasons(Graph(tuple(nodes), ("c0", "c1"), 2))
    assert found == ["n0: needs 3 layers that hear one, of 2"]  # n1 has two of them


def test_xylo_counts_neurons() -> None:
    def linear(inputs: int, outputs: int, weight: int = 1) -> ops.Linear:
        return ops.Linear(
            weight=IntTensor.of(np.full((outputs, inputs), weight)),
            bias=IntTensor.of([0] * outputs),
        )

    neuron = replace(_FIRE, reset=ops.Reset.BY_SUBTRACTION, reset_by=64, dv=256)
    small = _chain(linear(16, 60), linear(60, 8), shape=(16,), neuron=neuron)
    for name in ("xylo-audio2", "xylo-audio3", "xylo-imu"):
        found = _told(small, name)
        assert found.fits, found.obstacles
        assert [dict(s.takes) for s in found.shares] == [{"hidden neurons": 60}, {"outputs": 8}]
    wide = _chain(linear(16, 600), linear(600, 20, 201), shape=(16,), neuron=neuron)
    assert "w1: needs 9 bits of a weight, of 8" in _reasons(wide, "xylo-audio3")
    assert "w0: gives a neuron 600 targets, of 64" in _reasons(wide, "xylo-audio2")
    assert "n1: is the largest of 20 outputs; the chip has 8" in _reasons(wide, "xylo-audio2")
    assert "n0: is the largest of 600 hidden neurons; the chip has 496" in _reasons(
        wide, "xylo-imu"
    )
    odd = _chain(linear(20, 8), shape=(20,), neuron=replace(_FIRE, dv=300))
    assert _reasons(odd, "xylo-audio3")[:3] == [
        "x: has 20 channels; the chip has 16",
        "n0: keeps (4096 - 300) / 4096 of its membrane; it must be 1 - 2^-n of it",
        "n0: resets to zero; there thresholds are subtracted",
    ]


def test_a_transformer_is_refused_by_name(net_chain: Callable[..., Network]) -> None:
    graph = net_chain(encoder=True).graph
    for name, small in SMALL.items():
        found = small_pages.put_on(graph, small)
        facts = json.loads(json.dumps(small_pages.facts(found)))
        assert facts["chip"] == name
        assert not facts["fits"]
        assert {o["node"] for o in facts["obstacles"]} <= {n.name for n in graph.nodes}
        assert all(f["source"] and f["grade"] for f in facts["figures"].values())
        assert f"{name} cannot hold it" in small_pages.text(found)


def test_small_chips_are_named_among_the_others() -> None:
    with pytest.raises(InputError, match="speck, xylo-audio2, xylo-audio3, xylo-imu"):
        chip("moon")
