"""What is proved of every number holds in runs that try to break it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from lapilli.ir import bounds, certificate, ops
from lapilli.ir.bounds import NeuronBounds
from lapilli.ir.certificate import (
    Need,
    check_promised,
    check_target,
    first_beyond,
    needs,
    summary,
    widest,
)
from lapilli.ir.errors import RangeError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.targets.float32 import FLOAT32
from lapilli.ir.targets.lava import LAVA
from lapilli.ir.targets.loihi1 import LOIHI1
from lapilli.ir.targets.loihi2 import LOIHI2
from lapilli.ir.targets.stock import STOCK
from lapilli.ir.targets.table import NAMES, TARGETS, named
from lapilli.ir.targets.target import Grade, Limit, Register, Target, Unknown
from lapilli.ir.targets.wide import WIDE
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance.random_graphs import random_case
from lapilli.simulators.reference import Reference

_DRAWN = range(24)


def _driven(x: IntRange, weight: int = 1, bias: int = 0, T: int = 1, **neuron: object) -> Graph:
    """One neuron behind one synapse."""
    op = ops.Neuron(**{"threshold": IntTensor.of([65]), "dv": 0, **neuron})  # type: ignore[arg-type]
    synapse = ops.Linear(weight=IntTensor.of([[weight]]), bias=IntTensor.of([bias]), graded=True)
    nodes = (
        Node("x", ops.Input(type=TensorType((1,), x, Kind.GRADED))),
        Node("w", synapse, ("x",)),
        Node("lif", op, ("w",)),
    )
    return Graph(nodes, ("lif",), T)


def test_every_number_says_where_it_is_from() -> None:
    assert len(set(NAMES)) == len(TARGETS) == 6
    assert NAMES[0] == "lava"
    for target in TARGETS:
        assert named(target.name) is target
        for limit in target.limits.values():
            assert limit.source
            assert (limit.grade is Grade.UNKNOWN) == isinstance(limit, Unknown)
    assert STOCK.limits == LAVA.limits
    assert STOCK.stock > LAVA.stock


class Edge(NamedTuple):
    """The last number that a register of a target holds, in a graph; the next is refused."""

    target: Target
    register: Register
    last: Graph
    next: Graph
    needed: int


def _one(value: int) -> IntRange:
    return IntRange(0, value)


EDGES = [
    # 21 bits and a sign behind the shift: 2**12 at nine fraction bits, 2**15 at six.
    Edge(LOIHI1, Register.INPUT, _driven(_one(4095), fraction_bits=9),
         _driven(_one(4096), fraction_bits=9), 22),
    Edge(LOIHI1, Register.INPUT, _driven(_one(32767)), _driven(_one(32768)), 22),
    Edge(LOIHI1, Register.STATE, _driven(_one(32767), T=4, reset=ops.Reset.NONE),
         _driven(_one(32767), T=5, reset=ops.Reset.NONE), 25),
    Edge(LOIHI1, Register.THRESHOLD, _driven(_one(1), threshold=IntTensor.of([(1 << 23) - 1])),
         _driven(_one(1), threshold=IntTensor.of([1 << 23])), 18),
    Edge(LOIHI1, Register.WEIGHT, _driven(_one(1), 127), _driven(_one(1), 129), 9),
    Edge(LAVA, Register.STATE, _driven(_one((1 << 17) - 1)), _driven(_one(1 << 17)), 25),
    Edge(LAVA, Register.VALUE, _driven(_one((1 << 31) - 1), fraction_bits=-9),
         _driven(_one(1 << 31), fraction_bits=-9), 33),
    Edge(LOIHI2, Register.VALUE, _driven(_one((1 << 31) - 1), fraction_bits=-9),
         _driven(_one(1 << 31), fraction_bits=-9), 33),
    Edge(FLOAT32, Register.VALUE, _driven(_one((1 << 24) - 1), fraction_bits=0),
         _driven(_one(1 << 24), fraction_bits=0), 25),
    Edge(FLOAT32, Register.SUM, _driven(_one(1 << 23), 1, 1 - (1 << 23), fraction_bits=0),
         _driven(_one(1 << 23), 1, -(1 << 23), fraction_bits=0), 25),
    Edge(WIDE, Register.VALUE, _driven(_one((1 << 51) - 1), fraction_bits=0),
         _driven(_one(1 << 51), fraction_bits=-1), 53),
]  # fmt: skip


@pytest.mark.parametrize("edge", EDGES, ids=lambda e: f"{e.target.name} {e.register.value}")
def test_where_a_register_ends(edge: Edge) -> None:
    check_target(edge.last, edge.target)
    beyond = first_beyond(needs(edge.next, edge.target))
    assert beyond is not None
    assert (beyond.register, beyond.bits) == (edge.register, edge.needed)
    said = rf"its {edge.register.value} can reach .* needs {edge.needed} bits; .*{edge.target.name}"
    with pytest.raises(RangeError, match=rf"{said} have .*weight_bits.*target") as caught:
        check_target(edge.next, edge.target)
    assert caught.value.node == beyond.node


@pytest.mark.parametrize("bias", [4095, -4095, 4096, -4096])
def test_a_bias_of_13_bits(bias: int) -> None:
    graph = _driven(_one(1))
    op = replace(graph["lif"].op, bias=IntTensor.of([bias]))  # type: ignore[arg-type]
    graph = Graph((*graph.nodes[:2], Node("lif", op, ("w",))), ("lif",), 1)
    assert (first_beyond(needs(graph, LOIHI1)) is None) == (abs(bias) < 4096)


def test_what_nobody_says_is_not_refused_and_not_promised() -> None:
    graph = _driven(_one(1), threshold=IntTensor.of([1 << 40]))
    check_target(graph, LOIHI2)
    unknown = {n.register for n in needs(graph, LOIHI2) if n.holds is None}
    assert unknown == {Register.INPUT, Register.THRESHOLD, Register.BIAS}
    with pytest.raises(RangeError, match=r"threshold .* needs 35 bits; .* have 17, unsigned"):
        check_target(graph, LOIHI1)


def test_a_promise_is_proved_again() -> None:
    graph = _driven(_one(100), 7)
    said = summary(graph, LAVA)
    assert said == {"value": 11, "state": 17}
    check_promised(graph, "lava", said)
    check_promised(graph, "lava", {**said, "state": 18})  # an earlier proof was looser
    check_promised(graph, "", {})  # an older file
    for target, told, why in (
        ("lava", {**said, "state": 16}, "state needs 17 bits; its certificate says 16"),
        ("lava", {}, "its certificate says None"),
        ("loihi3", said, "'loihi3', which is no target here"),
    ):
        with pytest.raises(RangeError, match=why):
            check_promised(graph, target, told)


# ---- extremes ----------------------------------------------------------------------------


def _ends(graph: Graph, seed: int) -> dict[str, IntArray]:
    """Inputs at the ends of their ranges: held, switched, random; then the signs of each row.

    A synapse that takes an input gets the pattern that makes each of its first outputs largest,
    and smallest: what reaches its bound, if anything does.
    """
    rng = np.random.default_rng(seed)
    T, batch = graph.T, 24
    given = {}
    for name in graph.inputs:
        kind = graph.types[name]
        lo, hi = kind.range.lo, kind.range.hi
        x = rng.choice([lo, hi], (T, batch, *kind.shape))
        x[:, 0], x[:, 1] = lo, hi
        x[:, 2], x[: T // 2, 2] = lo, hi
        x[:, 3], x[: T // 2, 3] = hi, lo
        for node in graph.nodes:
            if node.inputs == (name,) and isinstance(node.op, ops.Linear):
                for k, row in enumerate(node.op.weight.array[:8]):
                    x[:, 4 + 2 * k] = np.where(row > 0, hi, lo)
                    x[:, 5 + 2 * k] = np.where(row > 0, lo, hi)
        given[name] = x.astype(np.int64)
    return given


def _left(graph: Graph, given: dict[str, IntArray], found: tuple[Need, ...]) -> list[str]:
    """Registers that a run leaves."""
    run = Reference().compile(graph).run(given)
    seen = {(Register.VALUE, name): values for name, values in run.values.items()}
    seen |= {(Register.STATE, name): values for name, values in run.membranes.items()}
    return [
        f"{need.node}: {need.register.value}"
        for need in found
        if (values := seen.get((need.register, need.node))) is not None
        and not need.values.lo <= int(values.min()) <= int(values.max()) <= need.values.hi
    ]


@pytest.mark.parametrize("seed", _DRAWN)
def test_no_extreme_leaves_what_is_proved(seed: int) -> None:
    graph = random_case(seed).graph
    assert _left(graph, _ends(graph, seed), needs(graph, WIDE)) == []


def test_half_of_what_is_proved_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: bounds of states half as wide are left by the same inputs."""
    proved = bounds.neuron_bounds

    def half(*args: object) -> NeuronBounds:
        whole = proved(*args)  # type: ignore[arg-type]
        less = [IntRange(r.lo // 2 + 1 if r.lo < -1 else r.lo, r.hi // 2)
                for r in (whole.u, whole.v, whole.after)]  # fmt: skip
        return replace(whole, u=less[0], v=less[1], after=less[2])

    monkeypatch.setattr(certificate, "neuron_bounds", half)
    left = 0
    for seed in _DRAWN:
        graph = random_case(seed).graph
        left += bool(_left(graph, _ends(graph, seed), needs(graph, WIDE)))
    assert left > len(_DRAWN) // 4


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("decay", [0, 1024, 2048, 4096])
def test_an_input_made_for_it_reaches_the_bound(seed: int, decay: int) -> None:
    """A layer and a neuron that is never reset: proved and seen are the same numbers."""
    rng = np.random.default_rng(seed)
    w = IntTensor.of(rng.integers(-127, 128, (4, 6)))
    b = IntTensor.of(rng.integers(-50, 51, 4))
    op = ops.Neuron(
        threshold=IntTensor.of([500]), dv=decay, reset=ops.Reset.NONE, fraction_bits=7, ternary=True
    )
    nodes = (
        Node("x", ops.Input(type=TensorType((6,), IntRange(-9, 20), Kind.GRADED))),
        Node("w", ops.Linear(weight=w, bias=b, graded=True), ("x",)),
        Node("lif", op, ("w",)),
    )
    graph = Graph(nodes, ("lif",), 4)
    run = Reference().compile(graph).run(_ends(graph, seed))
    proved = {(n.node, n.register): n.values for n in needs(graph, WIDE)}
    seen = run.values["w"]
    assert proved["w", Register.VALUE] == IntRange(int(seen.min()), int(seen.max()))
    seen = run.membranes["lif"]
    assert proved["lif", Register.STATE] == IntRange(int(seen.min()), int(seen.max()))


@pytest.mark.parametrize("target", TARGETS, ids=NAMES)
def test_the_widest_is_the_widest(target: Target) -> None:
    for seed in _DRAWN[:6]:
        found = needs(random_case(seed).graph, target)
        most = widest(found)
        assert set(most) == {need.register for need in found}
        for need in found:
            assert need.bits <= most[need.register].bits
            if isinstance(need.limit, Limit):
                assert (need.bits <= need.limit.bits) == need.holds
