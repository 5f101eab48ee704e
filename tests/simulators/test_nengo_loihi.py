"""nengo-loihi: every spike, every reason to decline, registers, cores, planted faults."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapilli.ir import ops
from lapilli.ir.errors import (
    InputError,
    SimulatorFailedError,
    SimulatorUnavailableError,
    UnsupportedError,
)
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import CASES, Case, attention_block, check
from lapilli.simulators.conformance.random_graphs import random_case
from lapilli.simulators.lava.stock.mapping import to_stock
from lapilli.simulators.nengo_loihi import blocks
from lapilli.simulators.nengo_loihi.blocks import Block, divided
from lapilli.simulators.nengo_loihi.environment import NENGO_LOIHI
from lapilli.simulators.nengo_loihi.mapping import to_compartments
from lapilli.simulators.nengo_loihi.network import LIMITS, LoihiNetwork
from lapilli.simulators.nengo_loihi.simulator import LoihiExecutable, NengoLoihi
from lapilli.simulators.reference import Reference

QUICK = ("neuron-bias-every-step", "ternary-fires-both-ways")


def _built() -> bool:
    try:
        NENGO_LOIHI.find()
    except SimulatorUnavailableError:
        return False
    return True


built = pytest.mark.skipif(
    not _built(), reason="nengo-loihi's environment is not built: lapilli doctor --fix"
)


def declined(case: Case, lower: Callable[[Graph, int], object]) -> dict[str, str]:
    """Node and reason of what this lowering refuses."""
    try:
        lower(case.graph, 100_000)
    except UnsupportedError as error:
        return {r.node: r.reason for r in error.reasons}
    return {}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_declines_what_stock_lava_declines(case: Case) -> None:
    here, there = declined(case, to_compartments), declined(case, to_stock)
    assert here.keys() == there.keys(), "the reasons are in tests/simulators/test_lava_stock.py"


@built
@pytest.mark.parametrize(
    "case",
    [
        case if case.name in QUICK else pytest.param(case, marks=pytest.mark.slow)
        for case in CASES
        if not declined(case, to_compartments)
    ],
    ids=str,
)
def test_conforms(case: Case) -> None:
    assert check(NengoLoihi(), case) > 0


@built
@pytest.mark.slow
def test_random_graphs() -> None:
    exact = 0
    for seed in range(60):
        try:
            exact += check(NengoLoihi(), random_case(seed)) > 0
        except UnsupportedError:
            continue
    assert exact >= 10


def chain(depth: int = 4, width: int = 12, **options: Any) -> Graph:
    """Neurons with a bias in a row, each layer with other decays; 12 inputs, 6 steps."""
    rng = np.random.default_rng(5)
    nodes = [Node("x", ops.Input(type=TensorType.spikes(width)))]
    for i in range(depth):
        weight, bias = rng.integers(-120, 128, (width, width)), rng.integers(-20, 21, width)
        leak = {"dv": (0, 1024, 2048, 4095)[i % 4], "du": (4096, 4096, 3000, 1)[i % 4], **options}
        neuron = ops.Neuron(
            threshold=IntTensor.of([64 * 150 + 1]), bias=IntTensor.of([64 * 45 + i]), **leak
        )
        synapse = ops.Linear(weight=IntTensor(weight), bias=IntTensor(bias))
        nodes += [
            Node(f"l{i}", synapse, (nodes[-1].name,)),
            Node(f"s{i}", neuron, (f"l{i}",)),
        ]
    nodes.append(Node("logits", ops.Readout(), (nodes[-1].name,)))
    return Graph(tuple(nodes), ("logits",), 6)


def samples(graph: Graph, count: int = 4) -> dict[str, IntArray]:
    rng = np.random.default_rng(1)
    kinds = {name: graph.types[name] for name in graph.inputs}
    return {
        name: rng.integers(kind.range.lo, kind.range.hi + 1, (graph.T, count, *kind.shape))
        for name, kind in kinds.items()
    }


def compiled(graph: Graph) -> LoihiExecutable:
    return NengoLoihi().compile(graph)


def wrong(executable: LoihiExecutable, inputs: dict[str, IntArray]) -> list[str]:
    """Nodes with a value that is not the reference's."""
    got = executable.run(inputs).values
    want = Reference().compile(executable.graph).run(inputs).values
    assert got.keys() == set(executable.graph.recorded)
    assert all(0.03 < want[n].mean() < 0.97 for n in executable.graph.neurons)
    return [name for name, value in got.items() if not np.array_equal(value, want[name])]


@built
def test_a_chain_with_a_bias_four_layers_deep() -> None:
    executable = compiled(chain())
    assert executable.network.compartments.bias.any()
    assert wrong(executable, samples(executable.graph)) == []
    told: list[tuple[str, int, int]] = []
    quiet = replace(executable, progress=lambda *said: told.append(said))
    run = quiet.run(samples(executable.graph, 2))
    assert told == [("nengo-loihi", k, 20) for k in range(1, 21)]  # 2 samples, 6 steps + 4 layers
    assert run.steps == 20
    assert run.seconds


def _unbiased(network: LoihiNetwork) -> LoihiNetwork:
    return _with(network, bias=np.zeros_like(network.compartments.bias))


def _higher(network: LoihiNetwork) -> LoihiNetwork:
    return _with(network, vth=network.compartments.vth + 64)


def _leaks(network: LoihiNetwork) -> LoihiNetwork:
    return _with(network, decay_v=np.minimum(4095, network.compartments.decay_v + 200))


def _lasts(network: LoihiNetwork) -> LoihiNetwork:
    return _with(network, decay_u=np.maximum(0, network.compartments.decay_u - 200))


def _early(network: LoihiNetwork) -> LoihiNetwork:
    """The state of the layers is cleared a step too soon."""
    return _with(network, first=network.compartments.first - 1)


def _never_at_rest(network: LoihiNetwork) -> LoihiNetwork:
    return _with(network, first=np.zeros_like(network.compartments.first))


def _cannot_sink(network: LoihiNetwork) -> LoihiNetwork:
    return _with(network, vmin=np.zeros_like(network.compartments.vmin))


def _other_weight(network: LoihiNetwork) -> LoihiNetwork:
    weights = network.weights.copy()
    weights.data = -weights.data
    return replace(network, weights=weights)


def _with(network: LoihiNetwork, **registers: IntArray) -> LoihiNetwork:
    return replace(network, compartments=replace(network.compartments, **registers))


@built
@pytest.mark.parametrize(
    "fault",
    [_unbiased, _higher, _leaks, _lasts, _early, _never_at_rest, _cannot_sink, _other_weight],
)
def test_a_planted_fault_shows(fault: Callable[[LoihiNetwork], LoihiNetwork]) -> None:
    executable = compiled(chain())
    network = fault(executable.network)
    assert wrong(
        replace(executable, network=network, blocks=divided(network)), samples(executable.graph)
    )


@built
def test_attention_comes_together_in_time() -> None:
    """Products as AND of spikes, bit planes, and spikes that wait for a longer branch."""
    executable = compiled(attention_block())
    assert executable.size.relays == 474
    assert "912 compartments (474 repeat spikes)" in str(executable.size)
    assert wrong(executable, samples(executable.graph, 2)) == []


MOST = 32767  # of a step's input, in synaptic units: 21 bits and a sign, and a shift by 6
_SPIKES = ops.Input(type=TensorType.spikes(6))


def lif(vth: int, bias: int = 0, **options: Any) -> ops.Neuron:
    return ops.Neuron(threshold=IntTensor.of([64 * vth + 1]), bias=IntTensor.of([bias]), **options)


def linear(*weights: int, bias: int = 0) -> ops.Linear:
    """Two neurons, which listen to the same six spikes with other signs."""
    row = np.resize(np.array(weights), 6)
    return ops.Linear(weight=IntTensor.of([row, -row[::-1]]), bias=IntTensor.of([bias, bias]))


# Neurons at the end of each register: what drives two of them, and they.
ENDS: dict[str, tuple[ops.Linear, ops.Neuron]] = {
    "vth of 17 bits, at the end of a state": (linear(0, bias=21845), lif((1 << 17) - 1, bias=21)),
    "bias 4095": (linear(40), lif(300, bias=4095)),
    "bias -4095": (linear(64), lif(64, bias=-4095)),
    "bias 4095 << 7": (linear(-9000, 100), lif(9000, bias=4095 << 7, dv=2000)),
    "a constant beyond the register": (linear(-2000, bias=4 * 4095 + 1), lif(15_000, dv=2000)),
    "a constant beside a current that lasts": (linear(30, bias=-20), lif(40, du=1000)),
    "du 0": (linear(30), lif(200, du=1)),
    "du 4094": (linear(30), lif(20, du=4095)),
    "du 4095, dv 1": (linear(30), lif(60, dv=1)),
    "dv 4095": (linear(30), lif(20, du=4000, dv=4095)),
    "no memory, far below": (linear(-9000, 100), lif(100, dv=4096, bias=33)),
    "no memory, at its threshold": (linear(30), lif(60, dv=4096, bias=1)),
    "no memory, vth 0": (linear(-200, 100), lif(0, dv=4096)),
    "no memory, vth of 14 bits": (linear(16_000, 383, 0, 0, 0, 0), lif(16_382, dv=4096)),
    "a sum of 21 bits": (linear(MOST, 0, 0, 0, 0, 0), lif(900, dv=4096)),
    "even 254 and -256": (linear(254, -256), lif(90)),
}  # fmt: skip


def graph_of(rows: dict[str, tuple[ops.Linear, ops.Neuron]]) -> Graph:
    nodes = [Node("x", _SPIKES)]
    for name, (synapse, neuron) in rows.items():
        nodes += [
            Node(f"{name}.synapse", synapse, ("x",)),
            Node(name, neuron, (f"{name}.synapse",)),
        ]
    return Graph(tuple(nodes), tuple(rows), 6)


@built
def test_registers_at_their_ends_are_exact() -> None:
    executable = compiled(graph_of(ENDS))
    registers = executable.network.compartments
    assert {int(v) for v in registers.vth} >= {((1 << 17) - 1) << 6, 64}
    assert {int(d) for d in registers.decay_u} >= {0, 4094, 4095}
    assert {int(d) for d in registers.decay_v} >= {0, 1, 4095}
    assert {int(b) for b in registers.bias} >= {4095, -4095, 4095 << 7}
    kept = [s.weights.data for block in executable.blocks for s in block.synapses]
    assert (min(w.min() for w in kept), max(w.max() for w in kept)) == (-256, 254)
    assert all(not np.any(w & 1) for w in kept)
    assert wrong(executable, samples(executable.graph, 12)) == []


BEYOND: dict[str, tuple[ops.Linear, ops.Neuron, str]] = {
    "vth": (linear(30), lif(1 << 17), "vth 131072 needs more than 17 bits"),
    "no vth": (linear(30), lif(0), "vth 0; the register counts from 1"),
    "between": (linear(30), ops.Neuron(threshold=IntTensor.of([322]), dv=1111), "is not 64"),
    "bias": (linear(30), lif(9, bias=4097, du=9), "bias 4097 needs more than 13 bits"),
    "sum": (linear(MOST + 1, 0, 0, 0, 0, 0), lif(90), "needs 22 bits and a sign"),
    "state": (linear(MOST, 0, 0, 0, 0, 0), lif(90, du=1), "state needs"),
    "endless": (linear(30), lif(90, du=0), "a current that never decays"),
    "leak": (linear(30), lif(90, du=9, dv=4096), "a full leak of v under a decaying current"),
    "coarse": (linear(30), lif(90, du=9, fraction_bits=3), "3 fraction bits"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_one_more_is_refused_by_name(name: str) -> None:
    synapse, neuron, reason = BEYOND[name]
    with pytest.raises(UnsupportedError, match=reason) as refused:
        to_compartments(graph_of({name: (synapse, neuron)}), 100)
    assert {r.node for r in refused.value.reasons} == {name}


def test_a_constant_alone_is_added_up_before_the_sample() -> None:
    """What the input always takes off it is not there yet."""
    kind = TensorType((1,), IntRange(10, 11), Kind.GRADED)
    for more, refused in ((-1, False), (0, True)):
        bias = IntTensor.of([MOST + 1 + more])
        synapse = ops.Linear(weight=IntTensor.of([[-2000]]), bias=bias, graded=True)
        nodes = (
            Node("x", ops.Input(type=kind)), Node("l", synapse, ("x",)),
            Node("s", lif(9000, dv=2000), ("l",)),
        )  # fmt: skip
        graph = Graph(nodes, ("s",), 2)
        if refused:
            with pytest.raises(UnsupportedError, match=r"can reach \[.*, 2097152\]"):
                to_compartments(graph, 10)
        else:
            assert to_compartments(graph, 10).count == 2  # it, and the constant


def test_a_limit_refuses_before_anything_is_built() -> None:
    with pytest.raises(UnsupportedError, match="438 neurons"):
        NengoLoihi(max_neurons=400).compile(attention_block())


def _whole(found: tuple[Block, ...], network: LoihiNetwork) -> None:
    """Each compartment is in one block, and synapses say every weight."""
    members = np.concatenate([block.members for block in found])
    assert np.array_equal(np.sort(members), np.arange(network.count))
    for block in found:
        told = np.zeros((len(block.members), network.weights.shape[1]), np.int64)
        for s in block.synapses:
            told[:, s.sources] += s.weights.toarray()[:, s.axons] << (1 + s.exponent) >> 1
        assert np.array_equal(told, network.weights[block.members].toarray())
        assert block.beyond(network) is None


@pytest.mark.parametrize(
    ("limit", "most"),
    [
        ("compartments", 7), ("input axons", 9), ("output axons", 6), ("bits of synapses", 512),
        ("thresholds", 3), ("synapse formats", 1),
    ],
)  # fmt: skip
def test_cores_hold_what_they_are_given(
    monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    rng = np.random.default_rng(0)
    theta = rng.integers(1, 40, 20) * 64 + 1
    weight = np.where(rng.random((20, 8)) < 0.2, rng.integers(-100, 100, (20, 8)), 0)
    weight[0] = [300, *[0] * 7]  # beside others it needs a second format
    weight[:, 7] = weight[:, 6]  # which then share an axon
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(8))),
        Node("l", ops.Linear(weight=IntTensor(weight), bias=IntTensor.of([0] * 20)), ("x",)),
        Node("s", ops.Neuron(threshold=IntTensor(theta), dv=9), ("l",)),
        Node("m", ops.Linear(weight=IntTensor(weight.T % 5), bias=IntTensor.of([0] * 8)), ("s",)),
        Node("t", ops.Neuron(threshold=IntTensor.of([65]), dv=9), ("m",)),
    )
    network = to_compartments(Graph(nodes, ("t",), 2), 100)
    roomy = {**LIMITS, "thresholds": 100}
    monkeypatch.setattr(blocks, "LIMITS", roomy)
    before = divided(network)
    assert len(before) == 2
    _whole(before, network)
    shared = [s for block in before for s in block.synapses]
    assert sum(len(s.sources) for s in shared) > sum(s.weights.shape[1] for s in shared)
    monkeypatch.setitem(roomy, limit, most)
    found = divided(network)
    assert len(found) > 2
    _whole(found, network)


def test_a_neuron_that_no_core_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "input axons", 5)
    with pytest.raises(UnsupportedError, match=r"s0: one neuron needs more than 5 input axons"):
        divided(to_compartments(chain(), 100))


@built
def test_an_overflow_is_an_error() -> None:
    """nengo-loihi would warn and wrap; its blocks must never be filled so."""
    executable = compiled(chain())
    weights = executable.network.weights.copy()
    weights.data = np.full_like(weights.data, 127 << 8)
    network = replace(executable.network, weights=weights)
    faulty = replace(executable, network=network, blocks=divided(network))
    with pytest.raises(SimulatorFailedError, match="Overflow in q0"):
        faulty.run(samples(executable.graph))


@built
def test_its_own_rules_are_asked() -> None:
    """A block that is too large for a core is refused by nengo-loihi itself."""
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(1030))),
        Node("s", lif(1, dv=9), ("x",)),
    )
    executable = compiled(Graph(nodes, ("s",), 2))
    assert len(executable.blocks) == 2
    whole = Block(np.arange(1030), ())
    with pytest.raises(SimulatorFailedError, match=r"Number of compartments \(1030\) exceeded"):
        replace(executable, blocks=(whole,)).run(samples(executable.graph, 1))


GRAPH = chain(depth=1)


def fake(folder: Path, script: str) -> Path:
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return python


@pytest.mark.parametrize(
    ("script", "error", "match"),
    [
        ("echo hi", SimulatorFailedError, "said 'hi"),
        ("echo no >&2; exit 3", SimulatorUnavailableError, r"exited with 3.*: no; run `lapilli"),
        ("kill -9 $$", SimulatorUnavailableError, "killed by signal 9"),
        ("true", SimulatorUnavailableError, "exited with 0"),
        (
            """echo '{"versions": {"nengo-loihi": "1.0.0"}}'; exec sleep 20""",
            SimulatorUnavailableError,
            "is proved against .*1.1.0",
        ),
    ],
)
def test_a_worker_that_is_none(
    tmp_path: Path, script: str, error: type[Exception], match: str
) -> None:
    executable = NengoLoihi(python=fake(tmp_path, script)).compile(GRAPH)
    with pytest.raises(error, match=match):
        executable.run(samples(GRAPH))


def test_no_environment_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NENGO_LOIHI.variable, raising=False)
    monkeypatch.setattr("lapilli.simulators.environments.cache", lambda: tmp_path)
    with pytest.raises(SimulatorUnavailableError, match="lapilli doctor --fix"):
        NengoLoihi().compile(GRAPH)
    with pytest.raises(SimulatorUnavailableError, match="does not exist"):
        NengoLoihi(python=tmp_path / "none").compile(GRAPH)


def test_inputs_that_the_graph_was_not_proved_for() -> None:
    executable = NengoLoihi(python=Path(sys.executable)).compile(GRAPH)
    with pytest.raises(InputError, match="no 'x' is given"):
        executable.run({})


@built
def test_an_interrupt_leaves_no_worker() -> None:
    started: list[subprocess.Popen[str]] = []

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def kept(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        started.append(process)
        return process

    executable = replace(compiled(GRAPH), progress=stop)
    real = subprocess.Popen
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(subprocess, "Popen", lambda *a, **k: kept(real(*a, **k)))
        with pytest.raises(KeyboardInterrupt):
            executable.run(samples(GRAPH, 500))
    assert started[0].returncode == -9


def test_graded_inputs_are_played_as_bits() -> None:
    kind = TensorType((2,), IntRange(-5, 3), Kind.GRADED)
    weight = IntTensor.of([[3, -2]])
    nodes = (
        Node("x", ops.Input(type=kind)),
        Node("l", ops.Linear(weight=weight, bias=IntTensor.of([0]), graded=True), ("x",)),
        Node("s", lif(4), ("l",)),
    )
    network = to_compartments(Graph(nodes, ("s",), 2), 10)
    (played,) = network.played
    assert (played.planes, played.late) == (4, 0)
    assert network.weights.toarray().tolist() == [[0, 3, -2, 6, -4, 12, -8, -24, 16]]
