"""Constants for each element in NIR: small, where they are added, and exact however values lie."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lapilli.export.nir.write.dialect import Flavour
from lapilli.ir import ops
from lapilli.ir.errors import MismatchError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import TensorType
from lapilli.simulators.conformance import Case, check
from lapilli.simulators.nir.nirtorch import Nir, NirTorch
from lapilli.simulators.reference import Reference

for package in ("nir", "nirtorch", "torch"):
    pytest.importorskip(package)

from lapilli.export.nir.write import offsets  # noqa: E402  (needs nir)
from lapilli.export.nir.write.routing import Weights, onto_map  # noqa: E402
from lapilli.export.nir.write.writer import to_nir  # noqa: E402

pytestmark = pytest.mark.torch
_T, _CHANNELS = 3, 4


def _map(size: tuple[int, int], *behind: ops.Op) -> Case:
    """A convolution, wiring behind it, constants for each element of that, neurons."""
    rng = np.random.default_rng(0)
    kernel = IntTensor.of(rng.integers(-3, 5, (_CHANNELS, 2, 3, 3)))
    bias = IntTensor.of(rng.integers(-2, 3, _CHANNELS))
    nodes = [
        Node("x", ops.Input(type=TensorType.spikes(2, *size))),
        Node("c", ops.Conv2d(weight=kernel, bias=bias, padding=(1, 1)), ("x",)),
    ]
    for number, op in enumerate(behind):
        nodes.append(Node(f"wire{number}", op, (nodes[-1].name,)))
    return _with_constants(nodes, (2, *size))


def _vector() -> Case:
    weight = IntTensor.of(np.random.default_rng(1).integers(-3, 5, (6, 5)))
    bias = IntTensor.of([0, 1, 2, 0, -1, 0])
    nodes = [
        Node("x", ops.Input(type=TensorType.spikes(5))),
        Node("c", ops.Linear(weight=weight, bias=bias), ("x",)),
    ]
    return _with_constants(nodes, (5,))


def _with_constants(nodes: list[Node], given: tuple[int, ...]) -> Case:
    rng = np.random.default_rng(2)
    last, size = nodes[-1].name, math.prod(given)
    shape = Graph(tuple(nodes), (last,), _T).types[last].shape
    values = IntTensor.of(rng.integers(-9, 10, math.prod(shape)))
    zeros = IntTensor.of(np.zeros((math.prod(shape), 1), np.int64))
    nodes += [
        Node("row", ops.Reshape(shape=(size,)), ("x",)),
        Node("one", ops.Slice(axis=0, start=0, stop=1), ("row",)),
        Node("constants", ops.Linear(weight=zeros, bias=values), ("one",)),
        Node("offsets", ops.Reshape(shape=shape), ("constants",)),
        Node("y", ops.Add(), (last, "offsets")),
        Node("s", ops.Neuron(threshold=IntTensor.of([64 * 3 + 1])), ("y",)),
    ]
    graph = Graph(tuple(nodes), ("s",), _T)
    x = (rng.random((_T, 5, *given)) < 0.5).astype(np.int64)
    assert 0.1 < Reference().compile(graph).run({"x": x}).values["s"].mean() < 0.9
    return Case("constants", "of each element", graph, {"x": x})


CASES = {
    "map": _map((6, 6)),
    "oblong": _map((4, 6)),
    "odd": _map((4, 5)),  # square kernels reach maps whose sides have an even sum
    "tokens": _map((4, 4), ops.Reshape(shape=(_CHANNELS, 16)), ops.Permute(axes=(1, 0))),
    "part": _map((4, 4), ops.Slice(axis=1, start=1, stop=3)),
    "pooled and repeated": _map(
        (4, 4), ops.Sum(axes=(1, 2), keepdims=True), ops.Expand(shape=(_CHANNELS, 2, 2))
    ),
    "vector": _vector(),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("flavour", [Flavour.CANONICAL, Flavour.PORTABLE])
def test_constants_are_exact_and_small(name: str, flavour: Flavour) -> None:
    case = CASES[name]
    assert check(Nir() if flavour is Flavour.CANONICAL else NirTorch(), case) > 0
    made: Any = to_nir(case.graph, flavour=flavour)
    weights = {key: node.weight.size for key, node in made.nodes.items() if hasattr(node, "weight")}
    most = {"odd": 20_000, "pooled and repeated": 2000}.get(name, 500)  # both are moved there
    assert sum(weights.values()) < most, weights


def test_constants_that_lie_elsewhere_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def turned(weights: Any, count: int, shape: Any) -> Any:
        wrong = Weights(weights.rows, weights.columns, weights.values[::-1])
        return spread(wrong, count, shape)

    spread = onto_map
    monkeypatch.setattr(offsets, "onto_map", turned)
    with pytest.raises(MismatchError):
        check(Nir(), CASES["map"])


def test_constants_that_others_read_are_a_synapse() -> None:
    """Two constants that are added, and one that neurons hear."""
    zeros, values = IntTensor.of(np.zeros((4, 4), np.int64)), IntTensor.of([1, 2, 3, 4])
    synapse = ops.Linear(weight=zeros, bias=values)
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(4))),
        Node("a", synapse, ("x",)),
        Node("b", synapse, ("x",)),
        Node("twice", ops.Add(), ("a", "b")),
        Node("s", ops.Neuron(threshold=IntTensor.of([64 * 6 + 1])), ("twice",)),
    )
    graph = Graph(nodes, ("s",), _T)
    assert not offsets.offsets_of(graph)
    x = np.zeros((_T, 1, 4), np.int64)
    by_hand = (0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 1)  # 2, 4, 6, 8 more at each step; above 6
    assert check(Nir(), Case("both", "of two", graph, {"x": x}, by_hand)) > 0
