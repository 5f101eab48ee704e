"""One network, one file, and what other people's importers make of it: every spike the same."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lapilli.export.nir.write.dialect import Flavour
from lapilli.ir import ops
from lapilli.ir.errors import MismatchError, SimulatorUnavailableError, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import Case, check
from lapilli.simulators.nir import nirtorch as nir_runtime
from lapilli.simulators.nir import norse as norse_runtime
from lapilli.simulators.nir import snntorch as snntorch_runtime
from lapilli.simulators.nir import spikingjelly as spikingjelly_runtime
from lapilli.simulators.nir.playback import Imported, Playback, played
from lapilli.simulators.protocol import Simulator
from lapilli.simulators.reference import Reference

for package in ("nir", "nirtorch", "torch", "snntorch", "spikingjelly", "norse"):
    pytest.importorskip(package)

from lapilli.export.nir.write.writer import to_nir  # noqa: E402  (needs nir)

pytestmark = pytest.mark.torch

Load = Callable[[Any], Imported]
RUNTIMES: tuple[tuple[Simulator, Flavour, Load], ...] = (
    (nir_runtime.NirTorch(), Flavour.PORTABLE, nir_runtime.load_portable),
    (snntorch_runtime.SnnTorch(), Flavour.PORTABLE, snntorch_runtime.load),
    (spikingjelly_runtime.SpikingJelly(), Flavour.PORTABLE, spikingjelly_runtime.load),
    (norse_runtime.Norse(), Flavour.FUSED, norse_runtime.load),
)
each_runtime = pytest.mark.parametrize(
    ("simulator", "flavour", "load"), RUNTIMES, ids=[r[0].name for r in RUNTIMES]
)
each_simulator = pytest.mark.parametrize(
    "simulator", [r[0] for r in RUNTIMES], ids=lambda s: s.name
)


@pytest.fixture(scope="session")
def networks() -> ModuleType:
    """`test_nir`, whose Spike-driven network has every layout at once."""
    spec = importlib.util.spec_from_file_location(
        "nir_networks", Path(__file__).parent / "test_nir.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["nir_networks"] = module
    spec.loader.exec_module(module)
    return module


@each_simulator
@pytest.mark.parametrize("seed", [0, 7])
def test_every_spike_and_logit_is_that_of_the_graph(
    networks: ModuleType, simulator: Simulator, seed: int
) -> None:
    tried = networks.case(seed)
    graph = tried.graph

    compared = check(simulator, tried)

    got = simulator.compile(graph).run(tried.inputs).values
    names = {*graph.neurons, "stem.pool", "kv", "masked", "logits"}
    assert got.keys() == names
    assert compared == 2 * sum(got[n].size for n in names) > 10_000
    for name in names - {"logits"}:
        assert 0 < got[name].mean() < 1, name


@dataclass(frozen=True)
class Tampered:
    """A runtime on a file that somebody has changed."""

    flavour: Flavour
    load: Load
    change: Callable[[Any], None]
    name: str = "tampered"

    def compile(self, graph: Graph) -> Playback:
        return played(graph, self.flavour, self.load, self.change)


def _node(read: Any, end: str) -> Any:
    """The node that ends like this; in a fused file the last with weights, or with a membrane."""
    found = [n for n in read.nodes if n.split("_", 1)[1] == end]
    if not found:
        wanted = "weight" if end == "fc" else "v_threshold"
        found = [n for n in sorted(read.nodes) if hasattr(read.nodes[n], wanted)]
    return read.nodes[found[-1]]


def _unchanged(read: Any) -> None:
    pass


def _threshold(read: Any) -> None:
    node = _node(read, "fc_lif")
    node.v_threshold = node.v_threshold + 1


def _weight(read: Any) -> None:
    _node(read, "fc").weight.flat[1] += 1


def _bias(read: Any) -> None:
    node = _node(read, "fc")
    node.bias = node.bias + 1


def _edge(read: Any) -> None:
    """One of the several branches of a membrane stream; or one spike, in a chain."""
    stream = [edge for edge in read.edges if edge[0].endswith("_rpe_conv")]
    if stream:
        read.edges.remove(stream[-1])
    else:
        _node(read, "fc").weight[:, 0] = 0


def test_the_tampering_itself_changes_nothing(networks: ModuleType) -> None:
    for _, flavour, load in RUNTIMES:
        assert check(Tampered(flavour, load, _unchanged), networks.case()) > 0


@each_runtime
@pytest.mark.parametrize("change", [_threshold, _weight, _bias, _edge])
def test_a_fault_is_caught(
    networks: ModuleType,
    simulator: Simulator,
    flavour: Flavour,
    load: Load,
    change: Callable[[Any], None],
) -> None:
    with pytest.raises(MismatchError, match="values differ"):
        check(Tampered(flavour, load, change), networks.case(7, batch=32))


@each_runtime
def test_a_fraction_is_no_integer(
    networks: ModuleType, simulator: Simulator, flavour: Flavour, load: Load
) -> None:
    def change(read: Any) -> None:
        last = [n for n in sorted(read.nodes) if hasattr(read.nodes[n], "weight")][-1]
        read.nodes[last].bias += np.float32(0.25)

    with pytest.raises(MismatchError, match="no integer"):
        check(Tampered(flavour, load, change), networks.case())


_SPIKES = TensorType.spikes(4, 3, 5)
_ONE = IntTensor.of([1])


def _half(*theta: int, axes: int = 0) -> ops.Neuron:
    threshold = np.array(theta).reshape(-1, *[1] * axes)
    return ops.Neuron(threshold=IntTensor.of(threshold), dv=ops.DECAY_ONE // 2)


@each_simulator
@pytest.mark.parametrize(
    "chain",
    [
        (ops.Add(), ops.Add(), _half(100)),
        (ops.Gate(), ops.Gate()),
        (_half(65, 70, 65, 99, axes=2),),
        (
            ops.Reshape(shape=(60,)),
            ops.Linear(
                weight=IntTensor.of(np.arange(180).reshape(3, 60) % 7 - 3),
                bias=IntTensor.of([1, 2, 3]),
            ),
            _half(64, 500, 700),
        ),
        (
            ops.Sum(axes=(1, 2)),
            _half(300),
            ops.Linear(weight=IntTensor.of([[1, 2, 3, -4]]), bias=_ONE),
        ),
        (
            ops.Reshape(shape=(60,)),
            ops.Slice(axis=0, start=7, stop=9),
            ops.Linear(weight=IntTensor.of([[5, -3]]), bias=_ONE),
        ),
        (ops.Permute(axes=(2, 1, 0)), ops.Linear(weight=IntTensor.of([[1, 2, 3, -4]]), bias=_ONE)),
        (ops.MaxPool2d(kernel=(3, 3), stride=(1, 2), padding=(1, 1)),),
        (ops.MaxPool2d(kernel=(2, 2), stride=(1, 1)),),
        (
            ops.Conv2d(
                weight=IntTensor.of(np.arange(24).reshape(4, 2, 3, 1)),
                padding=(1, 0),
                groups=2,
                bias=IntTensor.of([1, 2, 0, -300]),
            ),
            _half(500),
        ),
    ],
    ids=lambda chain: "-".join(type(op).__name__ for op in chain),
)
def test_ops_one_by_one(simulator: Simulator, chain: tuple[ops.Op, ...]) -> None:
    nodes = [Node("in", ops.Input(type=_SPIKES))]
    for i, op in enumerate(chain):
        operands = (nodes[-1].name,) * (2 if isinstance(op, ops.Add | ops.Gate) else 1)
        nodes.append(Node(f"n.{i}", op, operands))
    graph = Graph(tuple(nodes), (nodes[-1].name,), 5)
    x = np.random.default_rng(0).integers(0, 2, (5, 3, *_SPIKES.shape))
    case = Case("ops", "one by one", graph, {"in": x})

    assert check(simulator, case) > 0
    fired = Reference().compile(graph).run(case.inputs).values
    for name in graph.neurons:
        assert 0 < fired[name].mean() < 1, name


@each_simulator
def test_a_vector_of_thresholds(simulator: Simulator) -> None:
    nodes = (
        Node("x", ops.Input(type=TensorType((4,), IntRange(-9, 9), Kind.GRADED))),
        Node("s", _half(100, 300, 100, 64), ("x",)),
    )
    x = np.random.default_rng(0).integers(-9, 10, (5, 3, 4))
    assert check(simulator, Case("vector", "split", Graph(nodes, ("s",), 5), {"x": x})) > 0


def test_thresholds_that_differ_within_a_channel_are_refused() -> None:
    several = ops.Neuron(threshold=IntTensor.of(64 * np.arange(1, 16).reshape(3, 5)))
    graph = Graph((Node("x", ops.Input(type=_SPIKES)), Node("s", several, ("x",))), ("s",), 2)
    with pytest.raises(UnsupportedError, match="s: has thresholds that differ within a channel"):
        to_nir(graph, flavour=Flavour.PORTABLE)


@pytest.mark.parametrize("flavour", [Flavour.PORTABLE, Flavour.FUSED])
def test_refusals_name_every_node(flavour: Flavour) -> None:
    nodes = (
        Node("x", ops.Input(type=TensorType((2, 4, 4), IntRange(-200, 200), Kind.GRADED))),
        Node("current", ops.Neuron(threshold=_ONE, du=2048), ("x",)),
        Node("third", ops.Neuron(threshold=_ONE, dv=1365), ("current",)),
        Node("y", ops.Readout(), ("third",)),
        Node("late", ops.Neuron(threshold=_ONE), ("y",)),
    )
    with pytest.raises(UnsupportedError) as caught:
        to_nir(Graph(nodes, ("late",), 4), flavour=flavour)

    reasons = {r.node: r.reason for r in caught.value.reasons}
    assert "synaptic current" in reasons["current"]
    assert "membrane decays by 1365/4096" in reasons["third"]
    assert "only the host" in reasons["late"]
    assert reasons.keys() == {"current", "third", "late"}


@pytest.mark.parametrize("flavour", [Flavour.PORTABLE, Flavour.FUSED])
def test_what_float32_would_round_is_refused(flavour: Flavour) -> None:
    """Fourteen bits of fraction behind a leak of one half, over fifteen steps."""
    weight = IntTensor.of(np.full((2, 8), 100))
    synapse = ops.Linear(weight=weight, bias=IntTensor.of([0, 0]))
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(8))),
        Node("y", synapse, ("x",)),
        Node("s", ops.Neuron(threshold=_ONE, dv=2048, fraction_bits=20), ("y",)),
    )
    assert to_nir(Graph(nodes, ("s",), 14), flavour=flavour)
    with pytest.raises(UnsupportedError, match=r"s: its sums can need 25 bits; float32 is exact"):
        to_nir(Graph(nodes, ("s",), 15), flavour=flavour)
    assert to_nir(Graph(nodes, ("s",), 15))  # float64


@pytest.mark.parametrize("steps", [14, 15])
def test_the_largest_of_a_window_is_no_longer_than_its_candidates(steps: int) -> None:
    """Binary neurons make it of three gains, each of which could be as large as the value."""
    kernel = ops.Conv2d(weight=IntTensor.of(np.full((1, 8, 1, 1), 100)), bias=IntTensor.of([-100]))
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(8, 2, 2))),
        Node("y", kernel, ("x",)),
        Node("best", ops.MaxPool2d(kernel=(2, 2), stride=(2, 2)), ("y",)),
        Node("s", ops.Neuron(threshold=_ONE, dv=2048, fraction_bits=20), ("best",)),
    )
    graph = Graph(nodes, ("s",), steps)
    if steps == 14:
        assert to_nir(graph, flavour=Flavour.PORTABLE)
        return
    with pytest.raises(UnsupportedError, match="s: its sums can need 25 bits"):
        to_nir(graph, flavour=Flavour.PORTABLE)


def _rising(weight: int, theta: int) -> Case:
    """A membrane that halves and gains for fourteen steps, down to its last bit."""
    synapse = ops.Linear(weight=IntTensor.of(np.full((2, 8), weight)), bias=IntTensor.of([0, 0]))
    fire = ops.Neuron(threshold=IntTensor.of([theta]), dv=2048, fraction_bits=13)
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(8))),
        Node("y", synapse, ("x",)),
        Node("s", fire, ("y",)),
    )
    x = np.ones((14, 2, 8), np.int64)
    return Case("rising", "the last bit of float32", Graph(nodes, ("s",), 14), {"x": x})


@each_simulator
@pytest.mark.parametrize("beyond", [0, 1])
def test_the_last_bit_of_float32_decides(simulator: Simulator, beyond: int) -> None:
    """It fires in the last step, or by one unit in the last place never."""
    tried = _rising(64, 512 * (2**14 - 1) + beyond)
    assert check(simulator, tried) > 0
    fired = simulator.compile(tried.graph).run(tried.inputs).values["s"]
    assert fired.sum() == (1 - beyond) * fired[-1].size


@pytest.mark.parametrize("flavour", [Flavour.PORTABLE, Flavour.FUSED])
def test_a_threshold_that_lies_between_no_two_floats_is_refused(flavour: Flavour) -> None:
    reached, beyond = 800 * (2**14 - 1), 800 * 2**15
    with pytest.raises(UnsupportedError, match="s: its sums can need 25 bits"):
        to_nir(_rising(100, reached).graph, flavour=flavour)
    with pytest.raises(UnsupportedError, match="s: its sums can need 25 bits"):
        to_nir(_rising(100, beyond).graph, flavour=flavour)
    assert to_nir(_rising(63, beyond).graph, flavour=flavour)  # half of what a float holds


def test_sizes_are_refused_before_they_are_built(networks: ModuleType) -> None:
    with pytest.raises(
        UnsupportedError,
        match=r"matrices with 243,096 weights, .*limit is 131,072; .*--memory-limit 2; the port",
    ):
        to_nir(networks.spike_driven(), flavour=Flavour.FUSED, memory_limit=1 << 20)
    assert to_nir(networks.spike_driven(), flavour=Flavour.FUSED, memory_limit=2 << 20)


def test_an_image_that_is_needed_behind_neurons_is_refused() -> None:
    nodes = (
        Node("x", ops.Input(type=TensorType((4,), IntRange(-9, 9), Kind.GRADED))),
        Node("a", ops.Neuron(threshold=_ONE), ("x",)),
        Node("sum", ops.Add(), ("x", "a")),
        Node("b", ops.Neuron(threshold=_ONE), ("sum",)),
    )
    with pytest.raises(UnsupportedError, match="x: is needed behind neurons"):
        to_nir(Graph(nodes, ("b",), 2), flavour=Flavour.FUSED)


def test_what_the_portable_file_holds(networks: ModuleType) -> None:
    read = to_nir(networks.spike_driven(), flavour=Flavour.PORTABLE)

    kinds = [type(node).__name__ for node in read.nodes.values()]
    assert set(kinds) == {"Input", "Output", "Conv2d", "CubaLIF"}
    assert kinds.count("Input") == kinds.count("Output") == 1
    assert list(read.nodes) == sorted(read.nodes)  # the order in which HDF5 returns them
    assert all(name.isidentifier() and "." not in name for name in read.nodes)
    assert len(set(read.edges)) == len(read.edges)
    (output,) = (n for n, node in read.nodes.items() if type(node).__name__ == "Output")
    assert sum(target == output for _, target in read.edges) == 1
    for node in read.nodes.values():
        if type(node).__name__ == "Conv2d":
            assert node.weight.dtype == node.bias.dtype == np.float32
            assert node.groups == 1
        if type(node).__name__ == "CubaLIF":
            assert node.tau_syn.dtype == node.tau_mem.dtype == np.float64
            assert len(np.unique(node.v_threshold)) == 1
            assert np.all(node.v_threshold.astype(np.float32) == node.v_threshold)
            assert np.all(node.tau_syn == 1e-4)
            assert np.all(node.r * 1e-4 == node.tau_mem)
            assert not node.v_leak.any()
            assert not node.v_reset.any()
            assert np.all(node.w_in == 1)


def test_what_the_fused_file_holds(networks: ModuleType) -> None:
    read = to_nir(networks.spike_driven(), flavour=Flavour.FUSED)

    names = sorted(read.nodes)
    assert sorted(read.edges) == list(pairwise(names))
    kinds = [type(read.nodes[name]).__name__ for name in names]
    assert kinds[:1] + kinds[-2:] == ["Input", "Affine", "Output"]
    assert kinds[1:-2] == ["Affine", "CubaLIF"] * (len(names) // 2 - 1)


@each_simulator
def test_a_missing_package_is_named(
    networks: ModuleType, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nirtorch", None)
    with pytest.raises(SimulatorUnavailableError, match=r"needs nirtorch: pip install 'lapilli\["):
        simulator.compile(networks.spike_driven())
