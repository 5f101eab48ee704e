"""Delays and membranes of a `.nir` file, imported: written out by hand in exact floats."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lapilli.deploy.comparison.targets import target
from lapilli.export.nir.read.delays import held, later
from lapilli.export.nir.read.dynamics import Reading
from lapilli.export.nir.read.importer import from_nir, network_from_nir
from lapilli.export.nir.read.metadata import Stated
from lapilli.ir import ops
from lapilli.ir.errors import FormatError, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import Case, check
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference

nir = pytest.importorskip("nir")

pytestmark = pytest.mark.usefixtures("nir_in_process")
DT, T, N = 1e-4, 7, 3
STATED = Stated(reading=Reading.EULER, dt=DT, T=T, input_range=(0, 1))
FIRST, LAST = (np.random.default_rng(seed).integers(-2, 4, (N, N)) / 2.0 for seed in (1, 3))
LATE = np.array([0, 2, 3])
ONE = np.ones(N)
Floats = npt.NDArray[Any]
WAIT = ops.GeneralNeuron(
    taps=IntTensor.of([[[0], [1]]]), threshold=IntTensor.of([[[1]]]),
    dv=IntTensor.of([[ops.DECAY_ONE]]), reset=ops.Reset.NONE, fraction_bits=0,
)  # fmt: skip
SILENT = ops.Neuron(threshold=IntTensor.of([1]), dv=2048, reset=ops.Reset.NONE, fraction_bits=12)


def lif(tau: float = 2.0) -> Any:
    return nir.LIF(tau=ONE * tau * DT, r=ONE * tau, v_leak=ONE * 0, v_threshold=ONE)


def chain(*named: tuple[str, Any], width: int = N) -> Any:
    nodes = {
        "x": nir.Input(np.array([N])), **dict(named), "y": nir.Output(np.array([width]))
    }  # fmt: skip
    names = list(nodes)
    return nir.NIRGraph(nodes, list(itertools.pairwise(names)), type_check=False)


def read(graph: Any, path: Path, stated: Stated = STATED) -> Graph:
    nir.write(path, graph)
    return from_nir(path, stated)


def given(shape: tuple[int, ...] = (N,), most: int = 1) -> IntArray:
    return np.random.default_rng(0).integers(0, most + 1, (T, 40, *shape))


def run(graph: Graph, x: IntArray) -> dict[str, IntArray]:
    """Every value, of two simulators that agree."""
    given = {graph.inputs[0]: x}
    one, two = (s.compile(graph).run(given).values for s in (Reference(), EventDriven()))
    for name in graph.recorded:
        assert np.array_equal(one[name], two[name]), name
    return dict(one)


def late(x: Floats, steps: IntArray) -> Floats:
    """Each element (T, B, ...) by its own steps later, zeros before."""
    steps = np.broadcast_to(steps, x.shape[2:])
    out = np.zeros_like(x)
    for at in np.ndindex(*steps.shape):
        k = int(steps[at])
        after, before = (slice(k, None), slice(None)), (slice(0, len(x) - k), slice(None))
        out[after + at] = x[before + at]
    return out


def fire(x: Floats) -> Floats:
    v, spikes = np.zeros(x.shape[1:]), []
    for step in x:
        v = v / 2 + step
        spikes.append(v > 1)
        v = np.where(v > 1, 0, v)
    return np.stack(spikes).astype(float)


def leak(x: Floats, keeps: float = 0.5, current: float = 0.0) -> Floats:
    i = v = np.zeros(x.shape[1:])
    shown = []
    for step in x:
        i = current * i + step
        v = keeps * v + i
        shown.append(v)
    return np.stack(shown)


@pytest.mark.parametrize(
    "steps", [LATE, np.array([2]), np.array([1, 1, 1]), np.array([0, T + 3, 1]), np.zeros(3, int)]
)
def test_spikes_arrive_as_many_whole_steps_later(steps: IntArray, tmp_path: Path) -> None:
    parts = [("a", nir.Linear(weight=FIRST)), ("la", lif()), ("wait", nir.Delay(steps * DT)),
             ("b", nir.Linear(weight=LAST)), ("lb", lif())]  # fmt: skip
    values = run(read(chain(*parts), tmp_path / "x.nir"), x := given())
    first = fire(x @ FIRST.T)
    waited = late(first, np.minimum(steps, T))
    second = fire(waited @ LAST.T)
    assert np.array_equal(values["la"], first)
    assert np.array_equal(values["lb"], second)
    assert 0.05 < second.mean() < 0.95
    if steps.any():
        assert np.array_equal(values["wait"], waited)
        assert not np.array_equal(fire(first @ LAST.T), second)


@pytest.mark.parametrize("steps", [LATE, np.array([2])])
def test_a_neuron_takes_a_delayed_current_late(steps: IntArray, tmp_path: Path) -> None:
    """A bias in it arrives late as well; two delays in a row add up."""
    bias = np.array([0.5, 0.25, 0.5])
    parts = [("a", nir.Affine(weight=FIRST, bias=bias)), ("wait", nir.Delay(steps * DT)),
             ("more", nir.Delay(np.array([DT]))), ("la", lif())]  # fmt: skip
    graph = read(chain(*parts), tmp_path / "x.nir")
    assert isinstance(graph["la"].op, ops.GeneralNeuron)
    values = run(graph, x := given())
    want = fire(late(x @ FIRST.T + bias, steps + 1))
    assert np.array_equal(values["la"], want)
    assert 0.05 < want.mean() < 0.95


@pytest.mark.parametrize("name", ["fast", "onnx"])
def test_delays_of_each_element_of_a_map_on_other_simulators(name: str) -> None:
    pytest.importorskip({"fast": "numba", "onnx": "onnxruntime"}[name])
    rng = np.random.default_rng(0)
    image = TensorType((2, 3, 4), IntRange(0, 1), Kind.SPIKES)
    wait = held(rng.integers(0, T + 1, image.shape), image, T)
    assert wait is not None
    weight = IntTensor.of(rng.integers(-2, 4, (2, 2, 1, 1)))
    fires = ops.Neuron(threshold=IntTensor.of([128]), dv=2048)
    nodes = (
        Node("x", ops.Input(type=image)),
        Node("wait", wait, ("x",)),
        Node("a", ops.Conv2d(weight=weight, bias=IntTensor.of([1, 0])), ("wait",)),
        Node("n", later(fires, rng.integers(0, 3, image.shape), T), ("a",)),
        Node("li", ops.Membrane(neuron=SILENT), ("a",)),
    )
    x = given(image.shape)
    assert check(target(name), Case("late", "", Graph(nodes, ("n", "li"), T), {"x": x})) > 10_000


def test_sums_of_spikes_are_held_event_by_event(tmp_path: Path) -> None:
    parts = [("pool", nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))),
             ("wait", nir.Delay(np.array([2 * DT]))),
             ("flat", nir.Flatten(np.array([2, 1, 2]), 0, -1))]  # fmt: skip
    graph = chain(*parts, width=4)
    graph.nodes["x"] = nir.Input(np.array([2, 2, 4]))
    values = run(read(graph, tmp_path / "x.nir"), x := given((2, 2, 4)))
    pooled = x.reshape(T, -1, 2, 1, 2, 2, 2).sum((4, 6))
    assert np.array_equal(values["wait"], late(pooled, np.array([2])))
    assert np.unique(values["wait"]).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("node", "keeps", "current", "gain"),
    [
        (nir.LI(tau=ONE * 2 * DT, r=ONE * 2, v_leak=ONE * 0), 0.5, 0.0, 1.0),
        (nir.I(r=ONE / DT / 4), 1.0, 0.0, 0.25),
        (nir.CubaLI(tau_syn=ONE * 2 * DT, tau_mem=ONE * 4 / 3 * DT, r=ONE * 4 / 3,
                    v_leak=ONE * 0, w_in=2.0), 0.25, 0.5, 1.0),
    ],
)  # fmt: skip
def test_a_membrane_is_an_answer(
    node: Any, keeps: float, current: float, gain: float, tmp_path: Path
) -> None:
    """Read at each step, weighed by a last layer, and added up over time."""
    parts = [("a", nir.Linear(weight=FIRST)), ("la", lif()), ("b", nir.Linear(weight=LAST)),
             ("li", node), ("c", nir.Affine(weight=FIRST, bias=ONE))]  # fmt: skip
    nir.write(tmp_path / "x.nir", chain(*parts))
    network = network_from_nir(tmp_path / "x.nir", STATED)
    graph = network.graph
    assert graph.membranes == ("li",)
    values = run(graph, x := given())
    membrane = gain * leak(fire(x @ FIRST.T) @ LAST.T, keeps, current)
    scale = float(network.logit_scale)
    want = (membrane @ FIRST.T + 1).cumsum(axis=0)
    assert np.array_equal(values[graph.outputs[0]] * scale, want)
    assert len(np.unique(membrane)) > 10
    assert not np.array_equal(values[graph.outputs[0]] * scale, (membrane @ FIRST.T).cumsum(0))


def waiting(delay: Any) -> list[tuple[str, Any]]:
    return [("a", nir.Linear(weight=FIRST)), ("la", lif()), ("wait", delay)]


LI = nir.LI(tau=ONE * 2 * DT, r=ONE * 2, v_leak=ONE * 0)
CURRENT = [("a", nir.Linear(weight=FIRST)), ("wait", nir.Delay(LATE * DT))]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (waiting(nir.Delay(np.array([1.5 * DT]))),
         "node 'wait': delays by 0.00015 s, which are 1.5 steps of 0.0001 s; whole steps"),
        (waiting(nir.Delay(np.array([-DT]))), "node 'wait': delays by -0.0001 s, which are -1 st"),
        (waiting(nir.Delay(np.array([1.0]))), "delays by 7 steps or more; nothing of a sample"),
        (waiting(nir.Delay(np.array([DT, 2 * DT]))), r"delays \[2\] for values \[3\]"),
        ([*CURRENT, ("b", nir.Linear(weight=LAST))], "node 'b': reads a current that is delayed"),
        (CURRENT, "node 'y': reads a current that is delayed, which only a neuron can"),
        ([("a", nir.Linear(weight=FIRST)), ("li", LI), ("wait", nir.Delay(LATE * DT))],
         "node 'wait': takes a membrane, which a chip's neurons do not send"),
        ([("a", nir.Linear(weight=FIRST)), ("li", LI), ("b", nir.Linear(weight=LAST)),
          ("lb", lif())], "node 'lb': takes a membrane, which a chip's neurons do not send"),
        ([("li", nir.LI(tau=ONE * DT, r=ONE, v_leak=ONE))], "node 'li': v_leak 1: a membrane that"),
        ([("li", nir.LI(tau=ONE * 1e-3, r=ONE * 10, v_leak=ONE * 0))], "tau takes 0.1 of its st"),
        ([("li", nir.LI(tau=ONE * DT * 4096, r=ONE * 4096, v_leak=ONE * 0))],
         "node 'li': 7 steps of its decay need 72 bits below the unit"),
    ],
)  # fmt: skip
def test_what_is_not_exact_is_refused(
    parts: list[tuple[str, Any]], says: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=says):
        read(chain(*parts), tmp_path / "x.nir")


def test_values_that_are_no_spikes_are_not_held(tmp_path: Path) -> None:
    graph = chain(("wait", nir.Delay(LATE * DT)), ("la", lif()))
    with pytest.raises(FormatError, match=r"node 'wait': delays values in \[-3, 3\]; spikes, sums"):
        read(graph, tmp_path / "x.nir", replace(STATED, input_range=(-3, 3)))
    with pytest.raises(FormatError, match=r"node 'wait': delays values in \[0, 17\]"):
        read(graph, tmp_path / "x.nir", replace(STATED, input_range=(0, 17)))


@pytest.mark.parametrize("reading", [Reading.SNNTORCH, Reading.SPIKINGJELLY])
def test_a_membrane_means_nothing_where_no_exporter_writes_it(
    reading: Reading, tmp_path: Path
) -> None:
    stated = replace(STATED, reading=reading)
    says = f"node 'li': is a LI, which no exporter of {reading.value} writes"
    with pytest.raises(FormatError, match=says):
        read(chain(("li", LI)), tmp_path / "x.nir", stated)
    with pytest.raises(FormatError, match=r"sinabs decays by exp"):
        read(chain(("li", LI)), tmp_path / "x.nir", replace(stated, reading=Reading.SINABS))


def test_a_delay_is_written_and_comes_back(tmp_path: Path) -> None:
    """Per channel of a map, behind a permutation; run by nirtorch, and read again."""
    pytest.importorskip("nirtorch")
    from lapilli.export.nir.write.flavour import Flavour
    from lapilli.export.nir.write.writer import to_nir
    from lapilli.simulators.nir.nirtorch import Nir

    rng = np.random.default_rng(4)
    image = TensorType((2, 3, 4), IntRange(0, 1), Kind.SPIKES)
    steps = np.array([0, 2, 1, T + 1]).reshape(4, 1, 1)
    weight, bias = IntTensor.of(rng.integers(-2, 4, (4, 2, 1, 1))), IntTensor.of([0] * 4)
    last = ops.Conv2d(weight=IntTensor.of(rng.integers(-3, 4, (3, 4, 1, 1))),
                      bias=IntTensor.of([0] * 3))  # fmt: skip
    wait = held(np.minimum(steps, T), image, T)
    assert wait is not None
    nodes = (
        Node("x", ops.Input(type=image)),
        Node("a", ops.Conv2d(weight=weight, bias=bias), ("x",)),
        Node("la", ops.Neuron(threshold=IntTensor.of([64 * 2])), ("a",)),
        Node("turned", ops.Permute(axes=(0, 2, 1)), ("la",)),
        Node("wait", wait, ("turned",)),
        Node("b", last, ("wait",)),
        Node("lb", ops.Neuron(threshold=IntTensor.of([64 * 3])), ("b",)),
        Node("counts", ops.Readout(), ("lb",)),
    )
    graph = Graph(nodes, ("counts",), T)
    x = given((2, 3, 4))
    want = run(graph, x)
    assert np.array_equal(want["wait"], late(want["la"].swapaxes(-1, -2), np.minimum(steps, T)))
    written = to_nir(graph)
    assert [type(node) for name, node in written.nodes.items() if "wait" in name] == [nir.Delay]
    nir.write(tmp_path / "own.nir", written)
    back = run(from_nir(tmp_path / "own.nir", Stated(input_range=(0, 1))), x)
    played = Nir().compile(graph).run({"x": x}).values
    assert np.array_equal(back["la"], want["la"])
    assert np.array_equal(back["lb"].swapaxes(-1, -2), want["lb"])  # wiring is not in NIR
    assert np.array_equal(back["counts"], want["counts"])
    for name in ("la", "wait", "lb", "counts"):
        assert np.array_equal(played[name], want[name]), name
    assert 0.05 < want["lb"].mean() < 0.95
    key = next(name for name in written.nodes if "wait" in name)
    written.nodes[key].delay = written.nodes[key].delay[::-1].copy()  # a planted error
    nir.write(tmp_path / "own.nir", written)
    wrong = run(from_nir(tmp_path / "own.nir", Stated(input_range=(0, 1))), x)
    assert not np.array_equal(wrong["counts"], want["counts"])
    with pytest.raises(UnsupportedError, match="wait: a general neuron"):
        to_nir(graph, flavour=Flavour.PORTABLE)


@pytest.mark.parametrize("dv", [0, 1024, 2048, 4096])
def test_a_membrane_is_written_and_comes_back(dv: int, tmp_path: Path) -> None:
    pytest.importorskip("nirtorch")
    from lapilli.export.nir.write.writer import save_nir, to_nir
    from lapilli.simulators.nir.nirtorch import Nir

    rng = np.random.default_rng(4)
    first, head = (
        ops.Linear(weight=IntTensor.of(rng.integers(-2, 4, (N, N))), bias=IntTensor.of([0] * N),
                   graded=graded) for graded in (False, True)
    )  # fmt: skip
    neuron = ops.Neuron(threshold=IntTensor.of([1]), dv=dv, reset=ops.Reset.NONE, fraction_bits=12)
    nodes = (
        Node("x", ops.Input(type=TensorType.spikes(N))),
        Node("a", first, ("x",)),
        Node("la", ops.Neuron(threshold=IntTensor.of([64 * 2])), ("a",)),
        Node("b", first, ("la",)),
        Node("li", ops.Membrane(neuron=neuron), ("b",)),
        Node("c", head, ("li",)),
        Node("y", ops.Readout(), ("c",)),
    )
    graph, x = Graph(nodes, ("y",), T), given()
    want = run(graph, x)
    assert len(np.unique(want["li"])) > 3
    written = to_nir(graph)
    (shown,) = (node for node in written.nodes.values() if isinstance(node, nir.LI | nir.I))
    assert isinstance(shown, nir.LI) is (dv > 0)
    played = Nir().compile(graph).run({"x": x}).values
    for name in ("la", "li", "y"):
        assert np.array_equal(played[name], want[name]), name
    quantizer = InputQuantizer(
        mean=(Fraction(0),) * N, std=(Fraction(1),) * N, exponent=0, lo=0, hi=1
    )
    network = Network(
        graph=graph, input=quantizer, logit_scale=Fraction(3, 7), classes=("a", "b", "c")
    )
    save_nir(network, tmp_path / "own.nir")
    back = network_from_nir(tmp_path / "own.nir")
    found = run(back.graph, x)[back.graph.outputs[0]]
    ratio = network.logit_scale / back.logit_scale
    assert np.array_equal(found * ratio.denominator, want["y"] * ratio.numerator)


@pytest.mark.parametrize(
    "op",
    [
        replace(WAIT, threshold=IntTensor.of([[[2]]])),
        replace(WAIT, taps=IntTensor.of([[[1], [1]]])),
        replace(WAIT, dv=IntTensor.of([[2048]])),
        replace(WAIT, bias=IntTensor.of([[1]])),
        ops.Membrane(neuron=ops.Neuron(threshold=IntTensor.of([3]), fraction_bits=0)),
        ops.Membrane(neuron=replace(SILENT, dv=1365)),
        ops.Membrane(neuron=replace(SILENT, du=2048)),
        ops.Membrane(neuron=replace(SILENT, bias=IntTensor.of([1]))),
    ],
)
def test_what_does_more_is_no_node_of_nir(op: ops.Op) -> None:
    from lapilli.export.nir.write.writer import to_nir

    nodes = (Node("x", ops.Input(type=TensorType.spikes(N))), Node("n", op, ("x",)))
    with pytest.raises(UnsupportedError, match=r"n: (a general neuron|shows a membrane)"):
        to_nir(Graph(nodes, ("n",), T))


@pytest.mark.torch
def test_the_membrane_of_norse_is_the_one_that_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    norse = pytest.importorskip("norse.torch")
    from norse.torch.utils.export_nir import to_nir as norse_to_nir

    rng, inverse = np.random.default_rng(0), torch.full((4,), 500.0)
    net = norse.SequentialState(
        torch.nn.Linear(N, 4),
        norse.LIFBoxCell(norse.LIFBoxParameters(
            tau_mem_inv=inverse, v_th=torch.full((4,), 0.5), v_leak=torch.zeros(4))),
        torch.nn.Linear(4, 4),
        norse.LIBoxCell(norse.LIBoxParameters(tau_mem_inv=inverse, v_leak=torch.zeros(4))),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            whole = rng.integers(-6, 7, tuple(parameter.shape)) / 8
            parameter.copy_(torch.from_numpy(whole).float())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of nirtorch, about what norse calls
        nir.write(tmp_path / "x.nir", norse_to_nir(net, torch.zeros(1, N)))
    stated = Stated(reading=Reading.NORSE, dt=1e-3, T=T, reset=ops.Reset.TO_ZERO)
    stated = replace(stated, input_range=(0, 3))
    network = network_from_nir(tmp_path / "x.nir", stated)
    given_steps, state, shown = given(most=3), None, []
    with torch.no_grad():
        for x in given_steps:
            y, state = net(torch.from_numpy(x).float(), state)
            shown.append(y.numpy())
    graph = network.graph
    shape = graph.types[graph.inputs[0]].shape  # norse writes the batch axis of a sample
    values = run(graph, given_steps.reshape(T, -1, *shape))
    want = np.stack(shown).cumsum(axis=0)
    got = values[graph.outputs[0]] * float(network.logit_scale)
    assert np.array_equal(got.reshape(want.shape), want)
    assert len(np.unique(want)) > 20
