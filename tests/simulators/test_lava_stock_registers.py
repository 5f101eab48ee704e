"""Stock Lava's registers: the largest value that each takes runs exactly, one more does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lapilli.deploy.cli.network_tables import network_facts
from lapilli.ir import ops
from lapilli.ir.errors import UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import Network
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.lava.host.stock import StockExecutable, StockLava
from lapilli.simulators.lava.stock import network as stock
from lapilli.simulators.lava.stock.mapping import to_stock
from lapilli.simulators.reference import Reference

T, MOST = 5, (1 << 17) - 1
_GRADED = ops.Input(type=TensorType((2,), IntRange(-MOST, MOST), Kind.GRADED))
_SPIKES = ops.Input(type=TensorType.spikes(6))


def lif(vth: int, **options: Any) -> ops.Neuron:
    given: dict[str, Any] = {k: IntTensor.of([v]) if k == "bias" else v for k, v in options.items()}
    return ops.Neuron(threshold=IntTensor.of([64 * vth + 1]), **given)


def linear(*weights: int, bias: int = 0) -> ops.Linear:
    """Two neurons, which listen to the same six spikes with other signs."""
    row = np.resize(np.array(weights), 6)
    return ops.Linear(weight=IntTensor.of([row, -row[::-1]]), bias=IntTensor.of([bias, bias]))


# Neurons at the end of each register: what drives two of them, and they.
ENDS: dict[str, tuple[ops.Linear | None, ops.Neuron]] = {
    "vth of 17 bits, v of 24": (None, lif(MOST, dv=ops.DECAY_ONE, bias=63)),
    "bias_mant 4095": (linear(40), lif(300, bias=4095)),
    "bias_mant -4095": (linear(64), lif(64, bias=-4095)),
    "bias_mant 4095, bias_exp 7": (linear(-9000, 100), lif(30_000, bias=4095 << 7)),
    "bias_mant -4096, bias_exp 7": (linear(8190, 4000), lif(9000, dv=2048, bias=-4096 << 7)),
    "a constant of 13 bits": (linear(-4000, bias=2 * 4095), lif(30_000)),
    "du 0": (linear(30), lif(200, du=1)),
    "du 4094": (linear(30), lif(20, du=ops.DECAY_ONE - 1)),
    "du 4095, dv 1": (linear(30), lif(60, dv=1)),
    "dv 4095": (linear(30), lif(20, du=4000, dv=ops.DECAY_ONE - 1)),
    "weights 127 << 8 and -128 << 8": (
        linear(127 << 8, -128 << 8, 0, 0, 0, 0), lif(900, dv=ops.DECAY_ONE)
    ),
    "even 254 and -256": (linear(254, -256), lif(90)),
}  # fmt: skip


def graph_of(rows: dict[str, tuple[ops.Linear | None, ops.Neuron]]) -> Graph:
    nodes = [Node("wide", _GRADED), Node("x", _SPIKES)]
    for name, (synapse, neuron) in rows.items():
        if synapse is not None:
            nodes.append(Node(f"{name}.synapse", synapse, ("x",)))
        nodes.append(Node(name, neuron, ("wide" if synapse is None else f"{name}.synapse",)))
    return Graph(tuple(nodes), tuple(rows), T)


def inputs() -> dict[str, IntArray]:
    """Of 12 samples; the wide one is at its end, or just below."""
    rng = np.random.default_rng(2)
    wide = rng.choice([MOST, MOST - 1, -MOST], (T, 12, 2))
    return {"wide": wide, "x": rng.integers(0, 2, (T, 12, 6))}


def compiled(graph: Graph) -> StockExecutable:
    return StockLava().compile(graph)


def wrong(executable: StockExecutable) -> list[str]:
    got = executable.run(inputs()).values
    want = Reference().compile(executable.graph).run(inputs()).values
    assert all(0.03 < want[name].mean() < 0.97 for name in executable.graph.neurons)
    return [n for n in executable.graph.neurons if not np.array_equal(got[n], want[n])]


@pytest.mark.lava
def test_registers_at_their_ends_are_exact() -> None:
    executable = compiled(graph_of(ENDS))
    populations = executable.network.populations
    assert {p.vth for p in populations} >= {MOST}
    assert {p.registers.du for p in populations} >= {0, 4094, 4095}
    assert {p.registers.dv for p in populations} >= {0, 1, 4095}
    mantissas = np.concatenate([p.mantissa for p in populations])
    assert (mantissas.min(), mantissas.max()) == (-4096, 4095)
    assert max(int(p.exponent.max()) for p in populations) == 7
    weights = [axon.weights.data for axon in executable.network.axons]
    assert (min(w.min() for w in weights), max(w.max() for w in weights)) == (-256, 254)
    assert all(not np.any(w & 1) for w in weights)
    assert executable.size.neurons == 2 * len(ENDS)
    assert wrong(executable) == []


def _vth(network: stock.StockNetwork) -> stock.StockNetwork:
    return _changed(network, lambda p: replace(p, vth=p.vth - (p.vth == MOST)))


def _mantissa(network: stock.StockNetwork) -> stock.StockNetwork:
    return _changed(network, lambda p: replace(p, mantissa=p.mantissa - (p.mantissa == -4095)))


def _dv(network: stock.StockNetwork) -> stock.StockNetwork:
    return _changed(
        network,
        lambda p: replace(p, registers=replace(p.registers, dv=p.registers.dv // 4095 * 2000)),
    )


def _changed(network: stock.StockNetwork, change: Callable[..., Any]) -> stock.StockNetwork:
    return replace(network, populations=tuple(change(p) for p in network.populations))


@pytest.mark.lava
@pytest.mark.slow
@pytest.mark.parametrize("fault", [_vth, _mantissa, _dv])
def test_a_register_off_by_one_shows(
    fault: Callable[[stock.StockNetwork], stock.StockNetwork],
) -> None:
    executable = compiled(graph_of(ENDS))
    assert wrong(replace(executable, network=fault(executable.network)))


@pytest.mark.lava
def test_one_more_is_split_and_exact() -> None:
    """Weights of more than 8 bits take more axons, a constant of 14 a neuron that always fires."""
    rows = {
        "weights": (linear(128 << 8, -129 << 8, 0, 0, 0, 0), lif(900, dv=ops.DECAY_ONE)),
        "odd weights": (linear(129, -131), lif(90)),
        "constant": (linear(-4000, bias=2 * 4095 + 1), lif(30_000)),
    }
    executable = compiled(graph_of({"vth": ENDS["vth of 17 bits, v of 24"], **rows}))
    assert executable.size.neurons == 2 * 4 + 1
    assert executable.size.axons > 4
    assert wrong(executable) == []


BEYOND: dict[str, tuple[ops.Linear | None, ops.Neuron, str]] = {
    "vth": (linear(1), lif(MOST + 1), "vth 131072 needs more than 17 bits"),
    "bias": (linear(1), lif(9, bias=4097), "bias 4097 needs more than 13 bits"),
    "negative": (linear(1), lif(9, bias=-4097), "bias -4097 needs more than 13 bits"),
    "exponent": (linear(1), lif(9, bias=4096 << 7), "bias 524288 needs more than 13 bits"),
    "du": (linear(1), lif(9, du=0), "the register counts from 1 of 4096"),
    "dv": (linear(1), lif(9, du=1, dv=ops.DECAY_ONE), "dv ends at 4095 of 4096"),
    "v": (
        linear(MOST + 1, 0, 0, 0, 0, 0),
        lif(MOST, dv=ops.DECAY_ONE),
        "state needs 25 bits, there are 24",
    ),
}


@pytest.mark.parametrize("name", BEYOND)
def test_one_more_is_refused(name: str) -> None:
    synapse, neuron, says = BEYOND[name]
    with pytest.raises(UnsupportedError, match=says):
        to_stock(graph_of({name: (synapse, neuron)}), 1000)


def test_every_reason_at_once() -> None:
    rows = {name: (synapse, op) for name, (synapse, op, _) in BEYOND.items()}
    with pytest.raises(UnsupportedError) as refused:
        to_stock(graph_of(rows), 1000)
    assert [reason.node for reason in refused.value.reasons] == list(rows)


_BY_SUBTRACTION: dict[str, Any] = {"reset": ops.Reset.BY_SUBTRACTION, "reset_by": 3 << 9}
NOT_PLAIN = {
    "ternary": lif(32, dv=2048, fraction_bits=9, ternary=True),
    "soft": lif(32, dv=2048, fraction_bits=9, **_BY_SUBTRACTION),
    "ternary and soft": lif(32, dv=2048, fraction_bits=9, ternary=True, **_BY_SUBTRACTION),
    "without reset": lif(32, dv=2048, fraction_bits=9, reset=ops.Reset.NONE),
    "thresholds": replace(lif(32, dv=2048, fraction_bits=9), threshold=IntTensor.of([641, 2561])),
}


def both_ways() -> Graph:
    nodes = [Node("x", _SPIKES), Node("current", linear(3, -4, 5), ("x",))]
    nodes += [Node(name, op, ("current",)) for name, op in NOT_PLAIN.items()]
    return Graph(tuple(nodes), tuple(NOT_PLAIN), 3)


@pytest.mark.lava
@pytest.mark.slow
def test_neurons_without_a_stock_process_are_networks_of_stock_ones() -> None:
    """Four samples in a row, each from rest, without steps in between."""
    executable = compiled(both_ways())
    x = {"x": inputs()["x"][:3, :4]}
    got, want = executable.run(x).values, Reference().compile(both_ways()).run(x).values
    for name in NOT_PLAIN:
        assert np.array_equal(got[name], want[name]), name
        assert 0.1 < np.abs(want[name]).mean() < 0.97, name
    assert (want["ternary"] < 0).any()
    assert (want["ternary and soft"] < 0).any()


@pytest.mark.parametrize("name", ["ternary", "soft", "ternary and soft", "without reset"])
def test_such_neurons_with_a_current_that_lasts_are_refused(name: str) -> None:
    graph = graph_of({name: (linear(3), replace(NOT_PLAIN[name], du=2048))})
    with pytest.raises(UnsupportedError, match=f"{name}: .* keeps a synaptic current"):
        to_stock(graph, 1000)


def test_a_threshold_for_each_neuron_is_simulator_only_or_split(
    net_chain: Callable[..., Network],
) -> None:
    network = net_chain(encoder=False)
    theta = IntTensor.of(np.array([641, 1281, 641, 1921]).reshape(4, 1, 1))
    neuron = network.graph["n1"].op
    assert isinstance(neuron, ops.Neuron)
    nodes = [
        replace(n, op=replace(neuron, threshold=theta)) if n.name == "n1" else n
        for n in network.graph.nodes
    ]
    graph = Graph(tuple(nodes), network.graph.outputs, network.graph.T)
    facts = network_facts(replace(network, graph=graph))
    (reason,) = facts["simulator_only"]
    assert reason == "one threshold per neuron; a stock population has one for all: n1"
    assert network_facts(network)["simulator_only"] == []
    place = to_stock(graph, 1000).places["n1"].population.reshape(4, -1)
    assert [len(np.unique(row)) for row in place] == [1] * 4
    assert place[0, 0] == place[2, 0]
    assert len(np.unique(place)) == 3
