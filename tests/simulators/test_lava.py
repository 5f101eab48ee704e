"""Lava against the definition: every spike, every current, and the faults that must show."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from lapilli.ir import ops
from lapilli.ir.errors import (
    InputError,
    RangeError,
    SimulatorFailedError,
    Unsupported,
    UnsupportedError,
)
from lapilli.ir.graph import Graph, Node
from lapilli.ir.passes.binary import to_binary_neurons
from lapilli.ir.passes.delays import balance_delays
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import CASES, Case, attention_block, check, neuron_case
from lapilli.simulators.conformance.general_cases import GENERAL
from lapilli.simulators.digest import digests
from lapilli.simulators.lava.host import plan
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.lava.host.stock import StockLava
from lapilli.simulators.lava.shared.legality import unsupported_by_lif
from lapilli.simulators.protocol import ReadsMembranes
from lapilli.simulators.reference import Reference

pytestmark = pytest.mark.lava

# Cases that a neuron of Lava's own cannot be; one of our processes is, and is exact.
NOT_LIF = {
    "fires-at-threshold",
    "soft-reset-keeps-the-rest",
    "soft-reset-by-its-own-amount",
    "hard-reset-drops-the-rest",
    "decay-truncates-toward-zero",
    "fraction-bits-keep-the-half",
    "input-shifts-to-the-right",
    "v-below-zero-is-kept",
    "current-decays-on-its-own",
    "neuron-bias-every-step",
    "ternary-fires-both-ways",
    "a-negative-spike-adds-what-a-spike-takes",
    "staircase-counts-the-steps-reached",
    *(name for name, *_ in GENERAL),
}


@pytest.mark.slow
def test_shifted_values_by_neurons_of_its_own() -> None:
    """As binary neurons that all are Lava's `LIFReset`: no process of ours decides."""
    (case,) = (c for c in CASES if c.name == "shift-sum-truncates-the-sum-toward-zero")
    lowered = to_binary_neurons(case.graph)
    assert len(lowered.neurons) > 20
    assert not unsupported_by_lif(lowered)
    assert check(Lava(), replace(case, graph=lowered)) > 900


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conforms(case: Case) -> None:
    assert check(Lava(), case)
    assert bool(unsupported_by_lif(case.graph)) is (case.name in NOT_LIF)


def differing(got: Recording, want: Recording) -> list[str]:
    """Names of nodes with a wrong value, and of neurons with a wrong current."""
    values = [n for n, v in got.values.items() if not np.array_equal(v, want.values[n])]
    currents = [
        n
        for n, d in got.current_digests.items()
        if not np.array_equal(d, digests(want.currents[n]))
    ]
    return [*values, *(n for n in currents if n not in values)]


def samples(count: int, seed: int = 3, rate: float = 0.5) -> dict[str, IntArray]:
    return {"x": (np.random.default_rng(seed).random((8, count, 4, 6)) < rate).astype(np.int64)}


def test_streamed_samples_agree_in_every_neuron_and_every_current() -> None:
    graph, inputs = attention_block(), samples(12)
    want = Reference().compile(graph).run(inputs)
    got = Lava(batch=5).compile(graph).run(inputs)  # three rounds, the last not full
    assert got.values.keys() == {*graph.neurons, "logits"}
    assert got.current_digests.keys() == set(graph.neurons)
    assert differing(got, want) == []
    assert all(0.02 < want.values[n].mean() < 0.98 for n in graph.neurons)
    assert got.steps == 8 * 3 + 5  # and the pipeline drains
    assert got.seconds


def stock(**options: object) -> ops.Neuron:
    given = {"threshold": IntTensor.of([64 * 5 + 1]), **options}
    return ops.Neuron(**given)  # type: ignore[arg-type]


NEURONS = {
    "no leak": stock(),
    "odd leak": stock(dv=1111, fraction_bits=8),
    "full leak": stock(dv=ops.DECAY_ONE),
    "current decays": stock(du=1000, dv=300, fraction_bits=7),
    "one bias for all": stock(bias=IntTensor.of([40])),
    "bias for each": stock(bias=IntTensor.of([40, -64, 4095])),
    "17 bits of input": stock(dv=ops.DECAY_ONE, threshold=IntTensor.of([64 * 100_000 + 1])),
    "vth of zero": stock(threshold=IntTensor.of([1]), dv=2048),
    "ternary": stock(ternary=True, dv=2048),
    "ternary, odd leak, biased": stock(ternary=True, dv=1111, du=1000, bias=IntTensor.of([-40])),
    "ternary without memory": stock(ternary=True, dv=ops.DECAY_ONE),
}
_SOFT = {"reset": ops.Reset.BY_SUBTRACTION, "reset_by": 64 * 5 + 1}
OURS = {
    "soft": stock(**_SOFT, dv=2048, fraction_bits=8),
    "soft, after the decay": stock(**{**_SOFT, "reset_by": 64 * 12}, dv=2048),
    "soft, ternary": stock(**_SOFT, ternary=True, dv=300),
    "no reset": stock(reset=ops.Reset.NONE, dv=1024),
    "a threshold for each": stock(threshold=IntTensor.of([65, 300, 1000]), dv=2048),
    "no 64 * vth + 1": stock(threshold=IntTensor.of([320]), dv=2048),
    "a current for ever": stock(du=0, dv=2048),
    "full leak, current decays": stock(du=1000, dv=ops.DECAY_ONE),
    "no fraction": stock(threshold=IntTensor.of([5]), fraction_bits=0, dv=1111, ternary=True),
    "40 bits": stock(fraction_bits=32, threshold=IntTensor.of([5 << 32]), dv=2048),
}


def test_which_neurons_are_of_lava() -> None:
    x = Node("x", ops.Input(type=TensorType((3,), IntRange(-9, 9), Kind.GRADED)))
    for table, ours in ((NEURONS, False), (OURS, True)):
        for name, op in table.items():
            kind = Node("s", op, ("x",))
            assert bool(unsupported_by_lif(Graph((x, kind), ("s",), 6))) is ours, name


@pytest.mark.parametrize("op", [*NEURONS.values(), *OURS.values()], ids=[*NEURONS, *OURS])
def test_registers_mean_what_the_graph_means(op: ops.Neuron) -> None:
    most = 130_000 if op.threshold.range.hi > 1 << 20 else 9
    x = np.random.default_rng(0).integers(-most, most + 1, (6, 20, 3))
    nodes = (
        Node("x", ops.Input(type=TensorType((3,), IntRange(-most, most), Kind.GRADED))),
        Node("late", ops.Delay(steps=3), ("x",)),  # time for a state that a reset must clear
        Node("s", op, ("late",)),
    )
    graph = Graph(nodes, ("s",), 6)
    want = Reference().compile(graph).run({"x": x})
    lava = Lava().compile(graph)
    assert isinstance(lava, ReadsMembranes)
    assert differing(lava.run({"x": x}), want) == []
    assert 0 < np.abs(want.values["s"]).mean() < 1
    assert bool(want.values["s"].min() < 0) is op.ternary
    for t in (0, 4):
        assert np.array_equal(lava.membrane({"x": x}, "s", t, 7), want.membranes["s"][t, 7])


def test_every_way_to_connect() -> None:
    """Neuron to neuron, two neurons on one synapse, a square, loose parts, a wire at the end."""
    spikes = TensorType.spikes(2, 3)
    weight, bias = IntTensor.of([[5, -3, 4], [2, 6, -1], [7, 1, 1]]), IntTensor.of([0, 2, -1])
    nodes = (
        Node("x", ops.Input(type=spikes)),
        Node("unused", ops.Input(type=spikes)),
        Node("y", ops.Input(type=spikes)),
        Node("l", ops.Linear(weight=weight, bias=bias), ("x",)),
        Node("turned", ops.Permute(axes=(1, 0)), ("l",)),
        Node("n1", stock(dv=99), ("turned",)),
        Node("n2", stock(dv=2048), ("l",)),
        Node("n3", stock(threshold=IntTensor.of([65])), ("n2",)),
        Node("square", ops.Gate(), ("n3", "n3")),
        Node("sum", ops.Add(), ("square", "n3")),
        Node("total", ops.Readout(), ("sum",)),
        Node("twice", ops.Readout(), ("total",)),
        Node("apart", stock(threshold=IntTensor.of([65])), ("y",)),
        Node("end", ops.Permute(axes=(1, 0)), ("n1",)),
        Node("dropped", ops.Add(), ("x", "x")),
    )
    graph = Graph(nodes, ("end", "twice", "total"), 5)
    rng = np.random.default_rng(0)
    inputs = {n: (rng.random((5, 7, 2, 3)) < 0.6).astype(np.int64) for n in ("x", "unused", "y")}
    want = Reference().compile(graph).run(inputs)
    got = Lava(batch=3).compile(graph).run(inputs)
    assert got.values.keys() == {*graph.neurons, "end", "twice", "total"}
    assert differing(got, want) == []
    assert all(0 < want.values[n].mean() < 1 for n in graph.neurons)


def test_what_was_not_recorded_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    right = plan.RunFiles.job
    monkeypatch.setattr(plan.RunFiles, "job", lambda self: replace(right(self), steps=12))
    with pytest.raises(SimulatorFailedError, match="only a part of node"):
        Lava().compile(attention_block()).run(samples(2))


def test_one_step_one_sample() -> None:
    graph, inputs = neuron_case(stock(), [9])
    assert Lava().compile(graph).run(inputs).values["s"].tolist() == [[[1]]]


DELAYS = [n.name for n in balance_delays(attention_block()).nodes if isinstance(n.op, ops.Delay)]


@pytest.mark.parametrize("name", DELAYS)
def test_each_inserted_delay_is_needed(name: str) -> None:
    graph, inputs = attention_block(), samples(6)
    balanced = balance_delays(graph)
    source = balanced[name].inputs[0]
    nodes = tuple(
        replace(n, inputs=tuple(source if i == name else i for i in n.inputs))
        for n in balanced.nodes
        if n.name != name
    )
    faulty = Lava(balance=False).compile(Graph(nodes, graph.outputs, graph.T))
    wrong = differing(faulty.run(inputs), Reference().compile(graph).run(inputs))
    after = {name}
    for node in balanced.nodes:
        if after & set(node.inputs):
            after.add(node.name)
    assert wrong
    assert set(wrong) <= after


def test_delays_are_enough() -> None:
    graph, inputs = attention_block(), samples(6)
    got = Lava(balance=False).compile(balance_delays(graph)).run(inputs)
    assert differing(got, Reference().compile(graph).run(inputs)) == []


@pytest.mark.parametrize("node", ["q", "attn.fire", "logits"])
def test_a_missed_reset_shows(monkeypatch: pytest.MonkeyPatch, node: str) -> None:
    graph, inputs, right = attention_block(), samples(40), plan.resets

    def every_second_time(balanced: Graph) -> dict[str, tuple[int, int]]:
        given = right(balanced)
        return {**given, node: (2 * graph.T, given[node][1])}

    monkeypatch.setattr(plan, "resets", every_second_time)
    got = Lava(batch=20).compile(graph).run(inputs)
    want = Reference().compile(graph).run(inputs)
    assert differing(got, want)[0] == node
    first_round, second = slice(0, 20), slice(20, 40)
    assert np.array_equal(got.values[node][:, first_round], want.values[node][:, first_round])
    assert not np.array_equal(got.values[node][:, second], want.values[node][:, second])


def test_membrane_of_neurons_that_fire_and_of_those_that_do_not() -> None:
    graph, inputs = attention_block(), samples(3)
    want = Reference().compile(graph).run(inputs)
    for node, t, sample in (("q", 0, 1), ("attn.fire", 5, 2)):
        spikes = want.values[node][t, sample]
        assert 0 < spikes.mean() < 1
        got = Lava().compile(graph).membrane(inputs, node, t, sample)
        assert np.array_equal(got, want.membranes[node][t, sample])


def test_every_reason_of_every_neuron_that_lava_has_not() -> None:
    ours: dict[str, tuple[ops.Firing, int]] = {
        "soft": (stock(reset=ops.Reset.BY_SUBTRACTION, reset_by=64), 1),
        "none": (stock(reset=ops.Reset.NONE, threshold=IntTensor.of([64])), 2),
        "each": (stock(threshold=IntTensor.of([65, 129])), 1),
        "endless": (stock(du=0), 1),
        "both": (stock(du=1, dv=ops.DECAY_ONE), 1),
        "wide": (stock(fraction_bits=20), 1),
        "stairs": (ops.Staircase(thresholds=IntTensor.of([1, 2])), 1),
    }
    nodes = [Node("x", ops.Input(type=TensorType((2,), IntRange(-9, 9), Kind.GRADED)))]
    nodes += [Node(name, op, ("x",)) for name, (op, _) in ours.items()]
    nodes.append(Node("ternary", stock(ternary=True), ("x",)))
    found = unsupported_by_lif(Graph(tuple(nodes), ("soft",), 2))
    assert Counter(f.node for f in found) == {name: count for name, (_, count) in ours.items()}


def test_declines_messages_that_are_too_long() -> None:
    huge = TensorType((2,), IntRange(0, 1 << 31), Kind.GRADED)
    nodes = (Node("huge", ops.Input(type=huge)), Node("twice", ops.Add(), ("huge", "huge")))
    with pytest.raises(UnsupportedError) as caught:
        Lava().compile(Graph(nodes, ("twice",), 2))
    assert [r.node for r in caught.value.reasons] == ["huge", "twice"]


def test_integer_spikes_and_rectified_values_in_a_network() -> None:
    """A staircase gates what a Relu keeps: in front of, behind and beside other processes."""
    rng = np.random.default_rng(0)
    weight, bias = IntTensor.of(rng.integers(-8, 9, (4, 4))), IntTensor.of([1, -2, 0, 3])
    kind = TensorType((3, 4), IntRange(-30, 30), Kind.GRADED)
    steps = ops.Staircase(thresholds=IntTensor.of([[2], [6], [11]]))
    nodes = (
        Node("x", ops.Input(type=kind)),
        Node("q", steps, ("x",)),
        Node("k", ops.Relu(), ("x",)),
        Node("k.t", ops.Permute(axes=(1, 0)), ("k",)),
        Node("scores", ops.SpikeMatmul(), ("q", "k.t")),
        Node("fired", ops.Staircase(thresholds=IntTensor.of([60, 150])), ("scores",)),
        Node("again", ops.Staircase(thresholds=IntTensor.of([1, 2])), ("fired",)),
        Node("v", ops.Linear(weight=weight, bias=bias), ("q",)),
        Node("mixed", ops.SpikeMatmul(), ("again", "v")),
        Node("out", stock(ternary=True, dv=2048), ("mixed",)),
        Node("sum", ops.Add(), ("out", "k")),
        Node("logits", ops.Readout(), ("sum",)),
    )
    graph = Graph(nodes, ("logits",), 4)
    inputs = {"x": rng.integers(-30, 31, (4, 6, 3, 4))}
    want = Reference().compile(graph).run(inputs)
    got = Lava(batch=2).compile(graph).run(inputs)
    assert got.values.keys() == {*graph.firing, "logits"}
    assert got.current_digests.keys() == set(graph.firing)
    assert differing(got, want) == []
    kinds = {name: len(np.unique(want.values[name])) for name in graph.firing}
    assert kinds == {"q": 4, "fired": 3, "again": 3, "out": 3}


@pytest.mark.parametrize("lava", [Lava(), StockLava()], ids=lambda lava: lava.name)
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("value", r"^node 'x': input in \[2, 2\] leaves spikes\[4,6\]$"),
        ("shape", r"^node 'x': input \(8, 2, 4, 5\) is not \(T = 8, B\) of spikes\[4,6\]$"),
        ("flat", r"^node 'x': input \(8,\) is not \(T = 8, B\) of"),
        ("steps", r"^node 'x': input \(7, 2, 4, 6\) is not"),
        ("missing", "^the graph takes x, and no 'x' is given$"),
        ("none", r"^the same number of samples is needed of each input, got \{'x': 0\}$"),
    ],
)
def test_inputs_that_the_graph_was_not_proved_for(
    lava: Lava | StockLava, fault: str, sentence: str
) -> None:
    x = np.ones((8, 2, 4, 6), np.int64)
    bad = {
        "value": {"x": 2 * x},
        "shape": {"x": x[..., :-1]},
        "flat": {"x": x[:, 0, 0, 0]},
        "steps": {"x": x[:-1]},
        "missing": {"y": x},
        "none": {"x": x[:, :0]},
    }
    executable = lava.compile(attention_block())
    with pytest.raises((InputError, RangeError), match=sentence):
        executable.run(bad[fault])


def test_a_state_that_leaves_its_register() -> None:
    spikes = Node("x", ops.Input(type=TensorType.spikes(2)))
    weight = IntTensor.of([[1 << 17, 1 << 17], [1, -1]])
    wide = Node("l", ops.Linear(weight=weight, bias=IntTensor.of([0, 0])), ("x",))
    graph = Graph((spikes, wide, Node("s", stock(dv=2048), ("l",))), ("s",), 4)
    assert unsupported_by_lif(graph) == (Unsupported("s", "state needs 26 bits, there are 24"),)
    with pytest.raises(UnsupportedError, match=r"  s: state needs 26 bits, there are 24$"):
        StockLava().compile(graph)


def test_no_lanes() -> None:
    with pytest.raises(ValueError, match="batch"):
        Lava(batch=0)
