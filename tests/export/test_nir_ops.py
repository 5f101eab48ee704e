"""`.nir`, op by op: every layout that NIR can say, and every reason why it cannot."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lapilli.ir import ops
from lapilli.ir.errors import UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import CASES, Case, check
from lapilli.simulators.conformance.general_cases import GENERAL
from lapilli.simulators.nir.nirtorch import Nir
from lapilli.simulators.reference import Reference

pytest.importorskip("nir")
pytest.importorskip("nirtorch")
pytest.importorskip("torch")

from lapilli.export.nir.write.writer import refused_by_ops, to_nir

pytestmark = pytest.mark.torch


def no_leak(vth: int) -> ops.Neuron:
    return ops.Neuron(threshold=IntTensor.of([64 * vth + 1]))


_ONE, _ONE3 = IntTensor.of([1]), IntTensor.of([1, 1, 1])
_SOFT = ops.Neuron(threshold=_ONE, reset=ops.Reset.BY_SUBTRACTION, reset_by=1)


def infer_shape(nodes: list[Node]) -> tuple[int, ...]:
    return Graph(tuple(nodes), (), 1).types[nodes[-1].name].shape


def test_refusals_name_every_node() -> None:
    spikes, square = TensorType.spikes(2, 4, 4), TensorType.spikes(4, 4)
    nodes = (
        Node("x", ops.Input(type=spikes)),
        Node("current", ops.Neuron(threshold=_ONE, du=2048), ("x",)),
        Node("odd", ops.Neuron(threshold=_ONE, dv=1024, bias=IntTensor.of([3])), ("x",)),
        Node("coarse", ops.Neuron(threshold=_ONE, dv=2048, fraction_bits=2), ("x",)),
        Node("finer", replace(_SOFT, dv=2048), ("x",)),
        Node("y", ops.Input(type=square)),
        Node("row", ops.Reshape(shape=(16,)), ("y",)),
        Node("huge", ops.Linear(weight=IntTensor.of([[1 << 53] * 16]), bias=_ONE), ("row",)),
        Node("huge.theta", ops.Neuron(threshold=IntTensor.of([1 << 60])), ("y",)),
        Node("huge.twice", ops.Add(), ("huge", "huge")),
        Node("early", ops.Readout(), ("x",)),
        Node("late", ops.Neuron(threshold=_ONE), ("early",)),
        Node("nowhere", ops.Neuron(threshold=_ONE), ("x",)),
    )  # fmt: skip
    outputs = tuple(n.name for n in nodes if n.name not in ("x", "y", "row", "early", "nowhere"))

    graph = Graph(nodes, ("early", *outputs), 4)
    with pytest.raises(UnsupportedError) as caught:
        to_nir(graph)

    foretold = {reason.node for reason in refused_by_ops(graph)}
    assert foretold == {"current", "odd", "coarse", "finer", "huge.theta"}
    assert set(refused_by_ops(graph)) <= set(caught.value.reasons)
    reasons: dict[str, list[str]] = {}
    for reason in caught.value.reasons:
        reasons.setdefault(reason.node, []).append(reason.reason)
    expected = {
        "current": "synaptic current decays",
        "odd": "bias register",
        "coarse": "2 fraction bits, 4 steps need 3",
        "finer": "0 fraction bits, 4 steps need 3",
        "huge": "float64 is exact up to 53",
        "huge.twice": "a second output",
        "huge.theta": "needs more than float64's 53 bits",
        "late": "only the host accumulates",
        "nowhere": "reaches no output",
        "y": "a second input",
    }
    for name, words in expected.items():
        assert words in " / ".join(reasons.pop(name, ["(not refused)"])), name
    assert not reasons
    assert "current: a second output" in str(caught.value)
    assert "membrane decays by 1024/4096" in str(caught.value)


_SPIKES = TensorType.spikes(4, 3, 5)


@pytest.mark.parametrize(
    "chain",
    [
        (ops.Add(),),
        (ops.Add(), ops.Add()),
        (ops.Gate(), ops.Gate()),
        (ops.Neuron(threshold=IntTensor.of([65]), dv=ops.DECAY_ONE // 2),),
        (ops.Neuron(threshold=IntTensor.of(np.arange(1, 16).reshape(3, 5)), fraction_bits=1),),
        (
            ops.Permute(axes=(2, 0, 1)),
            ops.Neuron(threshold=IntTensor.of([[[40]], [[64]], [[65]], [[80]], [[129]]])),
        ),
        (ops.Slice(axis=1, start=1, stop=3), no_leak(1)),
        (
            ops.Sum(axes=(1, 2)),
            no_leak(7),
            ops.Linear(weight=IntTensor.of([[1, 2, 3, -4]]), bias=_ONE),
        ),
        (ops.Sum(axes=(2, 1), keepdims=True), ops.Expand(shape=(4, 3, 5)), ops.Add(), no_leak(15)),
        (
            ops.Reshape(shape=(60,)),
            ops.Slice(axis=0, start=7, stop=9),
            ops.Linear(weight=IntTensor.of([[5, -3]]), bias=_ONE),
        ),
        (ops.Permute(axes=(2, 1, 0)), ops.Linear(weight=IntTensor.of([[1, 2, 3, -4]]), bias=_ONE)),
        (ops.MaxPool2d(kernel=(2, 3), stride=(1, 2), padding=(1, 1)),),
        (
            ops.Conv2d(
                weight=IntTensor.of(np.arange(24).reshape(2, 4, 1, 3)),
                bias=IntTensor.of([1, 2]),
                padding=(0, 1),
                stride=(1, 2),
            ),
        ),
        (
            ops.Conv2d(
                weight=IntTensor.of(np.arange(24).reshape(4, 2, 3, 1)),
                padding=(1, 0),
                groups=2,
                bias=IntTensor.of([1, 2, 0, -300]),
            ),
        ),
        (
            ops.Reshape(shape=(2, 2, 15)),
            ops.Permute(axes=(1, 2, 0)),
            ops.Reshape(shape=(60,)),
            no_leak(1),
        ),
        (
            ops.Sum(axes=(0,)),
            ops.Linear(
                weight=IntTensor.of(np.arange(10).reshape(2, 5) - 4), bias=IntTensor.of([1, 2])
            ),
        ),
        (ops.Linear(weight=IntTensor.of([[1, 2, 3, -4, 5]]), bias=_ONE), no_leak(3)),
        (ops.Permute(axes=(0, 2, 1)), ops.MaxPool2d(kernel=(2, 2), stride=(1, 2))),
        (
            ops.Permute(axes=(2, 0, 1)),
            ops.Conv2d(
                weight=IntTensor.of(np.arange(40).reshape(2, 5, 2, 2)), bias=IntTensor.of([1, 2])
            ),
        ),
        (
            ops.Permute(axes=(2, 0, 1)),
            ops.Conv2d(weight=IntTensor.of([[[[1]], [[2]], [[3]], [[-4]], [[5]]]]), bias=_ONE),
        ),
        (
            ops.Conv2d(
                weight=IntTensor.of(np.arange(16).reshape(2, 4, 1, 2)), bias=IntTensor.of([1, 2])
            ),
            ops.MaxPool2d(kernel=(2, 3), stride=(1, 2), padding=(1, 1)),
            no_leak(20),
        ),
        (ops.Permute(axes=(1, 2, 0)), ops.Concat(axis=2), no_leak(1)),
        (ops.Reshape(shape=(60,)), ops.Concat(axis=0)),
        (ops.Reshape(shape=(3, 20)), ops.SpikeMatmul(), no_leak(9), ops.SpikeMatmul(), no_leak(2)),
        (ops.Add(), ops.Add(), ops.Staircase(thresholds=IntTensor.of([[1], [2], [4]])), ops.Gate()),
        (ops.Add(), ops.Add(), ops.Add()),
        (
            ops.Sum(axes=(1, 2)),
            ops.Linear(weight=IntTensor.of([[1, 2, -3, -4]] * 3), bias=_ONE3),
            ops.Relu(),
        ),
        (replace(_SOFT, threshold=IntTensor.of([300]), dv=2048, reset_by=128, fraction_bits=9),),
        (
            ops.Sum(axes=(1,)),
            ops.Linear(weight=IntTensor.of([[1, -2, 3, -4, 1]] * 3), bias=_ONE3),
            replace(no_leak(4), ternary=True, dv=2048),
            ops.SpikeMatmul(),
            no_leak(1),
        ),
    ],
    ids=lambda chain: "-".join(type(op).__name__ for op in chain),
)
def test_ops_one_by_one(chain: tuple[ops.Op, ...]) -> None:
    nodes = [Node("in", ops.Input(type=_SPIKES))]
    for i, op in enumerate(chain):
        last = nodes[-1].name
        if isinstance(op, ops.SpikeMatmul):
            rank = len(infer_shape(nodes))
            nodes.append(
                Node(f"n.{i}^T", ops.Permute(axes=(*range(rank - 2), rank - 1, rank - 2)), (last,))
            )
            nodes.append(Node(f"n.{i}", op, (last, f"n.{i}^T")))
            continue
        operands = (last,) * (2 if isinstance(op, ops.Add | ops.Gate | ops.Concat) else 1)
        nodes.append(Node(f"n.{i}", op, operands))
    graph = Graph(tuple(nodes), (nodes[-1].name,), 3)
    x = np.random.default_rng(5).integers(0, 2, (3, 4, *_SPIKES.shape))

    assert check(Nir(), Case("chain", "one op behind the other", graph, {"in": x})) > 0


def test_a_value_spreads_over_its_map() -> None:
    """Oblong too: 3 x 5 needs a kernel of 5 x 5 and another padding on each axis."""
    nodes = (
        Node("x", ops.Input(type=_SPIKES)),
        Node("sum", ops.Sum(axes=(1, 2), keepdims=True), ("x",)),
        Node("any", no_leak(7), ("sum",)),
        Node("all", ops.Expand(shape=(4, 3, 5)), ("any",)),
        Node("left", ops.Gate(), ("all", "x")),
        Node("right", ops.Gate(), ("left", "all")),
    )
    x = np.random.default_rng(2).integers(0, 2, (3, 4, 4, 3, 5))
    tried = Case("spread", "both sides", Graph(nodes, ("right",), 3), {"x": x})

    assert check(Nir(), tried) > 0
    assert 0 < Reference().compile(tried.graph).run({"x": x}).values["right"].mean() < 1


def test_names_that_would_clash() -> None:
    kind = TensorType((3,), IntRange(-2, 2), Kind.GRADED)
    names = ("a.b", "a_b", "a/b", "a b", "if", "0", "keys", "state", "output", "is_none", "")
    nodes = [Node("input", ops.Input(type=kind))]
    for name in names:
        nodes.append(Node(name, no_leak(1), (nodes[-1].name,)))
    graph = Graph(tuple(nodes), (names[-1],), 2)
    x = np.random.default_rng(3).integers(-2, 3, (2, 5, 3))

    exported = to_nir(graph)

    assert list(exported.nodes) == [
        "input",
        "a_b",
        "a_b_2",
        "a_b_3",
        "a_b_4",
        "n_if",
        "n_0",
        "keys",
        "state",
        "output",
        "is_none",
        "n_",
        "output_2",
    ]
    assert check(Nir(), Case("names", "", graph, {"input": x})) > 0


def test_wiring_that_strides_do_not_tell_is_written_out() -> None:
    chain: tuple[ops.Op, ...] = (
        ops.Reshape(shape=(2, 2, 15)),
        ops.Permute(axes=(1, 2, 0)),
        ops.Reshape(shape=(60,)),
    )
    nodes = [Node("0", ops.Input(type=_SPIKES))]
    nodes += [Node(str(i), op, (str(i - 1),)) for i, op in enumerate(chain, 1)]

    facts = json.loads(to_nir(Graph(tuple(nodes), ("3",), 1)).metadata["lapilli"])

    layout = facts["output"]["layout"]
    assert layout["positions"][:4] == [0, 30, 1, 31]
    assert len(layout["positions"]) == 60


# What of the conformance suite NIR can say: None, or the nodes that it refuses.
_CONFORMANCE: dict[str, tuple[str, ...] | None] = {
    "fires-at-threshold": None,
    "soft-reset-keeps-the-rest": None,
    "soft-reset-by-its-own-amount": None,
    "hard-reset-drops-the-rest": None,
    "decay-truncates-toward-zero": ("s",),
    "fraction-bits-keep-the-half": None,
    "input-shifts-to-the-right": ("s",),
    "v-below-zero-is-kept": None,
    "current-decays-on-its-own": ("s",),
    "neuron-bias-every-step": ("s",),
    "ternary-fires-both-ways": None,
    "a-negative-spike-adds-what-a-spike-takes": None,
    "membrane-is-read-before-its-reset": ("s",),
    "membrane-is-read-after-its-reset": ("s",),
    "bias-without-spikes": None,
    "counts-weigh-their-number": None,
    "weights-with-an-exponent": None,
    "conv-correlates": None,
    "pool-takes-the-largest": None,
    "matmul-gates-rows": ("b",),  # a second input, here and below
    "gate-keeps-the-sign": ("b",),
    "matmul-adds-a-row-per-event": ("b",),
    "gate-adds-per-event": ("b",),
    "shift-sum-stops-at-a-power-of-two": ("b",),
    "shift-sum-truncates-the-sum-toward-zero": ("b",),
    "shift-sum-leaves-out-what-is-far": ("b",),
    "staircase-counts-the-steps-reached": None,
    "relu-drops-the-negative": None,
    "expand-repeats": None,
    "slice-takes-the-middle": None,
    "concat-keeps-the-order": ("c",),
    "delay-changes-no-value": None,
    "readout-accumulates": None,
    "attention-block": None,
    **{name: ("y" if "channel" in name else "s",) for name, *_ in GENERAL},
}


def test_the_table_knows_every_case() -> None:
    known = {case.name for case in CASES}
    assert not (missing := known - _CONFORMANCE.keys()), f"_CONFORMANCE does not know {missing}"
    assert not (gone := _CONFORMANCE.keys() - known), f"_CONFORMANCE has no case {gone}"


@pytest.mark.parametrize("tried", CASES, ids=str)
def test_conformance(tried: Case) -> None:
    refused = _CONFORMANCE[tried.name]
    foretold = refused_by_ops(tried.graph)
    if refused is None:
        assert not foretold
        assert check(Nir(), tried) > 0
        return
    with pytest.raises(UnsupportedError) as caught:
        check(Nir(), tried)
    assert tuple(reason.node for reason in caught.value.reasons) == refused
    assert set(foretold) <= set(caught.value.reasons)


_SHIFT_SUMS = [case for case in CASES if case.name.startswith("shift-sum")]


@pytest.mark.parametrize("tried", _SHIFT_SUMS, ids=str)
def test_shifted_values_whose_scores_come_with_them(tried: Case) -> None:
    """What is refused above for its second input alone, with both operands in one."""
    a, b = (tried.graph.types[name] for name in "ab")
    first, last = math.prod(a.shape), math.prod(a.shape) + math.prod(b.shape)
    nodes = (
        Node("in", ops.Input(type=TensorType((last,), a.range | b.range, Kind.GRADED))),
        Node("a.row", ops.Slice(axis=0, start=0, stop=first), ("in",)),
        Node("b.row", ops.Slice(axis=0, start=first, stop=last), ("in",)),
        Node("a", ops.Reshape(shape=a.shape), ("a.row",)),
        Node("b", ops.Reshape(shape=b.shape), ("b.row",)),
        tried.graph["y"],
    )
    x = np.concatenate([tried.inputs[name].reshape(1, 1, -1) for name in "ab"], axis=-1)
    one = replace(tried, graph=Graph(nodes, ("y",), 1), inputs={"in": x})
    assert check(Nir(), one) > 0
    sums = Nir().compile(one.graph).run(one.inputs).values["y"]
    assert tuple(sums.ravel().tolist()) == tried.by_hand


def test_shifted_values_of_spikes() -> None:
    """Several steps and samples: scores and currents of the same spikes, and a neuron."""
    rng = np.random.default_rng(0)
    score, current = (
        ops.Linear(weight=IntTensor.of(rng.integers(-3, 4, (out, 3))), bias=IntTensor.of([0] * out))
        for out in (3, 2)
    )
    nodes = (
        Node("in", ops.Input(type=TensorType.spikes(3, 3))),
        Node("scores", score, ("in",)),
        Node("currents", current, ("in",)),
        Node("mixed", ops.ShiftSum(window=6, reach=4), ("scores", "currents")),
        Node("fire", no_leak(1), ("mixed",)),
    )
    x = rng.integers(0, 2, (3, 6, 3, 3))
    tried = Case("shifted", "both of one input", Graph(nodes, ("fire",), 3), {"in": x})
    assert 0 < Reference().compile(tried.graph).run({"in": x}).values["fire"].mean() < 1
    assert check(Nir(), tried) > 0


def test_a_graph_without_output_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="outputs: there is none"):
        to_nir(Graph((), (), 1))
