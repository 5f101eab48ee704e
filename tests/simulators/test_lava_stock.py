"""Lava of stock processes alone: every spike, every reason to decline, and planted faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.errors import UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.passes.binary import to_binary_neurons
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import CASES, Case, attention_block, check
from lapilli.simulators.conformance.general_cases import GENERAL
from lapilli.simulators.lava.host.stock import StockExecutable, StockLava
from lapilli.simulators.lava.stock.mapping import to_stock
from lapilli.simulators.lava.stock.network import MOST_DELAY, StockNetwork
from lapilli.simulators.reference import Reference
from lapilli.simulators.stock.currents import currents
from lapilli.simulators.stock.digits import digits

STOCK = StockLava()
_NO_NEURON = "no neuron"
_TRUNCATES = "fraction bits; Loihi shifts"
_MEMBRANE = "shows a membrane"
DECLINED = {
    "bias-without-spikes": _NO_NEURON,
    "counts-weigh-their-number": _NO_NEURON,
    "weights-with-an-exponent": _NO_NEURON,
    "conv-correlates": _NO_NEURON,
    "expand-repeats": _NO_NEURON,
    "slice-takes-the-middle": _NO_NEURON,
    "concat-keeps-the-order": _NO_NEURON,
    "delay-changes-no-value": _NO_NEURON,
    "readout-accumulates": _NO_NEURON,
    "decay-truncates-toward-zero": _TRUNCATES,
    "current-decays-on-its-own": _TRUNCATES,
    "input-shifts-to-the-right": _TRUNCATES,
    "membrane-is-read-before-its-reset": _MEMBRANE,
    "membrane-is-read-after-its-reset": _MEMBRANE,
    **{name: "a general neuron" for name, *_ in GENERAL},
}


QUICK = ("fires-at-threshold", "ternary-fires-both-ways", "attention-block")


@pytest.mark.lava
@pytest.mark.parametrize(
    "case",
    [
        case if case.name in QUICK else pytest.param(case, marks=pytest.mark.slow)
        for case in CASES
        if case.name not in DECLINED
    ],
    ids=str,
)
def test_conforms(case: Case) -> None:
    assert check(STOCK, case)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in DECLINED], ids=str)
def test_declines_with_the_reason(case: Case) -> None:
    with pytest.raises(UnsupportedError, match=DECLINED[case.name]):
        to_stock(case.graph, 1000)


def test_currents_are_those_of_the_reference() -> None:
    for case in CASES:
        if case.name not in DECLINED:
            graph = to_binary_neurons(case.graph)
            want = Reference().compile(graph).run(case.inputs)
            driven = currents(graph)
            assert driven.keys() == set(graph.neurons)
            for name, affine in driven.items():
                x = affine.constant[:, None]
                for source, w in affine.weights.items():
                    spikes = {**case.inputs, **want.values}[source]
                    x = x + w @ spikes.reshape(-1, w.shape[1]).T
                current = want.currents[name]
                assert np.array_equal(x.T.reshape(current.shape), current), (case.name, name)


@given(st.lists(st.integers(-(1 << 18), 1 << 18), min_size=1, max_size=20).filter(any))
def test_axons_say_every_weight(weights: list[int]) -> None:
    given_ = np.array(weights)
    axons = digits(given_)
    assert np.array_equal(sum(d << e for d, e in axons), given_)
    assert all(d.min() >= -128 and d.max() <= 127 and 0 <= e <= 8 for d, e in axons)
    assert len(axons) == 1 or max(map(abs, weights)) >= 128


def samples(count: int) -> dict[str, IntArray]:
    return {"x": (np.random.default_rng(3).random((8, count, 4, 6)) < 0.5).astype(np.int64)}


def compiled(graph: Graph) -> StockExecutable:
    return STOCK.compile(graph)


def wrong(executable: StockExecutable, inputs: dict[str, IntArray]) -> list[str]:
    """Nodes with a value that is not the reference's."""
    got = executable.run(inputs).values
    want = Reference().compile(executable.graph).run(inputs).values
    assert got.keys() == set(executable.graph.recorded)
    return [name for name, value in got.items() if not np.array_equal(value, want[name])]


def _later(network: StockNetwork) -> StockNetwork:
    """The longest delay of an axon, one step shorter for one synapse."""
    axons = list(network.axons)
    i = max(range(len(axons)), key=lambda k: axons[k].longest_delay)
    delays = axons[i].delays.copy()
    delays.data = delays.data - (delays.data == delays.data.max())
    axons[i] = replace(axons[i], delays=delays)
    return replace(network, axons=tuple(axons))


def _odd(network: StockNetwork) -> StockNetwork:
    """Lava makes an odd weight of mixed signs even; without a word."""
    first, *others = network.axons
    weights = first.weights.copy()
    weights.data = weights.data - 1
    return replace(network, axons=(replace(first, weights=weights), *others))


def _higher(network: StockNetwork) -> StockNetwork:
    """A threshold off by one."""
    i = max(range(len(network.populations)), key=lambda k: network.populations[k].vth)
    populations = list(network.populations)
    populations[i] = replace(populations[i], vth=populations[i].vth + 1)
    return replace(network, populations=tuple(populations))


def _seldom(network: StockNetwork) -> StockNetwork:
    """A reset after every second sample."""
    populations = [
        replace(p, registers=replace(p.registers, interval=2 * p.registers.interval))
        if p.registers.interval > 1
        else p
        for p in network.populations
    ]
    return replace(network, populations=tuple(populations))


@pytest.mark.lava
def test_samples_one_after_the_other() -> None:
    inputs, executable = samples(5), compiled(attention_block())
    want = Reference().compile(executable.graph).run(inputs)
    assert wrong(executable, inputs) == []
    assert all(0.02 < want.values[n].mean() < 0.98 for n in executable.graph.neurons)
    assert 0 < executable.size.longest_delay <= MOST_DELAY
    assert "438 neurons" in str(executable.size)


@pytest.mark.lava
@pytest.mark.parametrize("fault", [_later, _odd, _higher, _seldom])
def test_a_planted_fault_shows(fault: Callable[[StockNetwork], StockNetwork]) -> None:
    executable = compiled(attention_block())
    assert wrong(replace(executable, network=fault(executable.network)), samples(5))


def _chain(length: int) -> Graph:
    """Neurons in a row, and the first one's spikes again at the last."""
    once = ops.Neuron(threshold=IntTensor.of([65]), dv=2048, fraction_bits=6)
    again = ops.Neuron(threshold=IntTensor.of([1]), dv=ops.DECAY_ONE)
    weight, bias = IntTensor.of([[3, -2], [-1, 300]]), IntTensor.of([1, -1000])
    nodes = [
        Node("x", ops.Input(type=TensorType((2,), IntRange(-9, 9), Kind.GRADED))),
        Node("s0", once, ("x",)),
    ]
    nodes += [Node(f"s{i}", again, (f"s{i - 1}",)) for i in range(1, length)]
    nodes += [
        Node("both", ops.Add(), ("s0", f"s{length - 1}")),
        Node("l", ops.Linear(weight=weight, bias=bias), ("both",)),
        Node("end", ops.Neuron(threshold=IntTensor.of([64 * 3 + 1]), dv=2048, du=1000), ("l",)),
        Node("logits", ops.Readout(), ("end",)),
    ]
    return Graph(tuple(nodes), ("logits",), 4)


@pytest.mark.lava
def test_relays_wide_weights_and_a_constant_current() -> None:
    """A delay beyond 62, weights beyond 8 bits, a constant where a current lasts."""
    graph = _chain(70)
    inputs = {"x": np.random.default_rng(0).integers(-9, 10, (4, 6, 2))}
    executable = compiled(graph)
    assert executable.size.longest_delay == MOST_DELAY
    assert executable.size.neurons == 2 * (70 + 1) + 2 + 1  # relays, and the constant
    assert wrong(executable, inputs) == []
    end = Reference().compile(graph).run(inputs).values["end"]
    assert 0 < end[..., 0].mean() < 1


def test_an_image_cannot_be_relayed() -> None:
    """Delays end at 62 steps, and what relays a spike has no value to pass on."""
    nodes = _chain(70).nodes
    again = [replace(n, inputs=("x", n.inputs[1])) if n.name == "both" else n for n in nodes]
    linear = next(n for n in nodes if n.name == "l")
    assert isinstance(linear.op, ops.Linear)
    image = Node("l", replace(linear.op, graded=True), linear.inputs)
    graph = Graph(tuple(image if n.name == "l" else n for n in again), ("logits",), 4)
    with pytest.raises(UnsupportedError, match="end: reads graded 'x' 70 steps late"):
        to_stock(graph, 1000)


def test_every_reason_of_every_neuron() -> None:
    nodes = [Node("x", ops.Input(type=TensorType((2,), IntRange(-9, 9), Kind.GRADED)))]
    theta = IntTensor.of([64 * 5 + 1])
    nodes += [
        Node("endless", ops.Neuron(threshold=theta, du=0), ("x",)),
        Node("both", ops.Neuron(threshold=theta, du=1, dv=ops.DECAY_ONE), ("x",)),
        Node("wide", ops.Neuron(threshold=IntTensor.of([(5 << 20) + 1]), fraction_bits=20), ("x",)),
        Node("odd", ops.Neuron(threshold=IntTensor.of([322]), dv=1111), ("x",)),
        Node("total", ops.Readout(), ("endless",)),
        Node("after", ops.Neuron(threshold=theta), ("total",)),
    ]
    names = ("endless", "both", "wide", "odd", "after")
    with pytest.raises(UnsupportedError) as caught:
        to_stock(Graph(tuple(nodes), names, 6), 1000)
    assert tuple(reason.node for reason in caught.value.reasons) == names


def test_a_limit_refuses_before_anything_is_built() -> None:
    with pytest.raises(UnsupportedError, match="438 neurons"):
        StockLava(max_neurons=400).compile(attention_block())
