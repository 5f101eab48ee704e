"""Files of four frameworks' exporters, imported: spikes are those of the framework's own run."""

from __future__ import annotations

import json
import tracemalloc
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lapilli.export import nir_reader
from lapilli.export.hdf5 import Tree, parse_tree
from lapilli.export.nir_facts import Stated
from lapilli.export.nir_import import from_nir, network_from_nir
from lapilli.export.nir_meaning import Reading
from lapilli.ir.errors import FormatError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.ops import DECAY_ONE, Add, Conv2d, Input, Linear, Neuron, Permute, Readout, Reset
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference

nir = pytest.importorskip("nir")
torch = pytest.importorskip("torch")

from lapilli.export.nir import save_nir, to_nir  # noqa: E402  (needs nir)

pytestmark = pytest.mark.torch
T, BATCH = 8, 16


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process: a worker for each file is for strangers (test_nir_reader.py)."""

    def read_tree(path: Path, most_bytes: int | None = None) -> Tree:
        assert most_bytes is None
        return parse_tree(path.read_bytes(), 1 << 24)

    monkeypatch.setattr(nir_reader, "read_tree", read_tree)


# ---- other people's exporters -----------------------------------------------------------


@dataclass(frozen=True)
class Exported:
    """A framework's module, the file that its exporter wrote, and its own run of spikes."""

    file: Path
    stated: Stated
    given: npt.NDArray[np.int64]  # (T, B, ...)
    spikes: Mapping[str, npt.NDArray[np.int64]]  # NIR's name of a neuron -> (T, B, ...)


def _dyadic(module: Any, rng: np.random.Generator, bits: int = 3, most: int = 6) -> Any:
    with torch.no_grad():
        for p in module.parameters():
            whole = rng.integers(-most, most + 1, tuple(p.shape))
            p.copy_(torch.from_numpy(whole / 2.0**bits).float())
    return module


def _inputs(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.int64]:
    return rng.integers(-3, 4, (T, BATCH, *shape))


def _listen(net: Any, neurons: Mapping[str, Any], given: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Run step by step; what each neuron module answers."""
    heard: dict[str, list[Any]] = {name: [] for name in neurons}
    hooks = [
        module.register_forward_hook(
            lambda m, i, o, name=name: heard[name].append(
                (o[0] if isinstance(o, tuple) else o).detach().numpy().astype(np.int64)
            )
        )
        for name, module in neurons.items()
    ]
    state: Any = None
    with torch.no_grad():
        for x in given:
            if state is None:
                out = net(torch.from_numpy(x).float())
            else:
                out = net(torch.from_numpy(x).float(), state)
            state = (
                out[1]
                if isinstance(out, tuple) and type(net).__name__ == "SequentialState"
                else None
            )
    for hook in hooks:
        hook.remove()
    return {name: np.stack(steps) for name, steps in heard.items()}


def _snntorch(folder: Path, reset: Reset, seed: int) -> Exported:
    snn = pytest.importorskip("snntorch")
    from snntorch.export_nir import export_to_nir

    rng = np.random.default_rng(seed)
    mechanism = {Reset.TO_ZERO: "zero", Reset.BY_SUBTRACTION: "subtract", Reset.NONE: "none"}[reset]

    def leaky(n: int, beta: float, threshold: float) -> Any:
        return snn.Leaky(
            beta=torch.full((n,), beta),
            threshold=torch.full((n,), threshold),
            init_hidden=True,
            reset_mechanism=mechanism,
        )

    def synaptic(n: int) -> Any:
        return snn.Synaptic(
            alpha=torch.full((n,), 0.5),
            beta=torch.full((n,), 0.5),
            threshold=torch.full((n,), 2.0),
            init_hidden=True,
            reset_mechanism=mechanism,
        )

    net = torch.nn.Sequential(
        _dyadic(torch.nn.Linear(6, 12), rng),
        leaky(12, 0.5, 1.0),
        _dyadic(torch.nn.Linear(12, 10, bias=False), rng),
        leaky(10, 0.5 if reset is Reset.BY_SUBTRACTION else 0.75, 0.5),
        _dyadic(torch.nn.Linear(10, 8), rng),
        leaky(8, 0.5, 1.5) if reset is Reset.TO_ZERO else synaptic(8),
    )
    graph = export_to_nir(net, torch.zeros(1, 6), ignore_dims=[0])
    nir.write(folder / "net.nir", graph)
    given = _inputs(rng, 6)
    for module in (net[1], net[3], net[5]):
        module.reset_mem()
    spikes = _listen(net, {"1": net[1], "3": net[3], "5": net[5]}, given)
    stated = Stated(reading=Reading.SNNTORCH, dt=1e-4, T=T, reset=reset, input_range=(-3, 3))
    return Exported(folder / "net.nir", stated, given, spikes)


def _norse(folder: Path, reset: Reset, seed: int) -> Exported:
    norse = pytest.importorskip("norse.torch")
    from norse.torch.functional.reset import reset_subtract, reset_value
    from norse.torch.utils.export_nir import to_nir as norse_to_nir

    rng = np.random.default_rng(seed)

    def box(n: int, inverse: float, threshold: float) -> Any:
        p = norse.LIFBoxParameters(
            tau_mem_inv=torch.full((n,), inverse),
            v_th=torch.full((n,), threshold),
            v_leak=torch.zeros(n),
            reset_method=reset_subtract if reset is Reset.BY_SUBTRACTION else reset_value,
        )
        return norse.LIFBoxCell(p)

    def cell(n: int) -> Any:
        p = norse.LIFParameters(
            tau_mem_inv=torch.full((n,), 500.0),
            tau_syn_inv=torch.full((n,), 500.0),
            v_th=torch.full((n,), 0.5),
            v_leak=torch.zeros(n),
            v_reset=torch.zeros(n),
        )
        return norse.LIFCell(p)

    net = norse.SequentialState(
        _dyadic(torch.nn.Linear(6, 12), rng),
        box(12, 500.0, 0.75),
        _dyadic(torch.nn.Linear(12, 10), rng),
        box(10, 500.0, 0.25),
        _dyadic(torch.nn.Linear(10, 8), rng),
        cell(8) if reset is Reset.TO_ZERO else box(8, 500.0, 0.25),
    )
    nir.write(folder / "net.nir", norse_to_nir(net, torch.zeros(1, 6)))
    given = _inputs(rng, 6)
    modules = list(net.children())
    spikes = _listen(net, {"1": modules[1], "3": modules[3], "5": modules[5]}, given)
    stated = Stated(reading=Reading.NORSE, dt=1e-3, T=T, reset=reset, input_range=(-3, 3))
    return Exported(folder / "net.nir", stated, given, spikes)


def _spikingjelly(folder: Path, reset: Reset, seed: int) -> Exported:
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    rng = np.random.default_rng(seed)
    rest = -0.5 if seed % 2 else 0.0
    net = torch.nn.Sequential(
        _dyadic(layer.Conv2d(2, 4, 3, padding=1), rng),
        neuron.LIFNode(tau=2.0, v_reset=rest),
        _dyadic(layer.Conv2d(4, 6, 3, stride=2, padding=1), rng),
        neuron.IFNode(v_reset=rest),
        layer.AvgPool2d(2, 2),
        _dyadic(layer.Conv2d(6, 8, 1, bias=False), rng, bits=2, most=9),
        neuron.CUBALIFNode(c_decay=0.5, v_decay=0.5, v_reset=0.0),
        layer.Flatten(),
        _dyadic(layer.Linear(8, 7), rng),
        neuron.LIFNode(tau=4.0, decay_input=False),
    )
    export_to_nir(net, torch.zeros(1, 2, 4, 4), save_path=folder / "net.nir")
    functional.reset_net(net)
    given = _inputs(rng, 2, 4, 4)
    spikes = _listen(net, {"_1": net[1], "_3": net[3], "_6": net[6], "_9": net[9]}, given)
    stated = Stated(reading=Reading.SPIKINGJELLY, dt=1e-4, T=T, input_range=(-3, 3))
    return Exported(folder / "net.nir", stated, given, spikes)


def _sinabs(folder: Path, reset: Reset, seed: int) -> Exported:
    sl = pytest.importorskip("sinabs.layers")
    import sinabs.activation as activation
    import sinabs.nir

    rng = np.random.default_rng(seed)
    by = {
        Reset.TO_ZERO: activation.MembraneReset,
        Reset.BY_SUBTRACTION: activation.MembraneSubtract,
    }

    def iaf(threshold: float) -> Any:
        return sl.IAFSqueeze(
            batch_size=1,
            spike_threshold=torch.tensor(threshold),
            spike_fn=activation.SingleSpike,
            reset_fn=by[reset](),
        )

    net = torch.nn.Sequential(
        _dyadic(torch.nn.Conv2d(2, 4, 3, padding=1), rng),
        iaf(1.0),
        sl.SumPool2d(2),
        torch.nn.Flatten(),
        _dyadic(torch.nn.Linear(16, 8), rng),
        iaf(1.5),
    )
    with torch.no_grad():
        net(torch.zeros(1, 2, 4, 4))
    graph = sinabs.nir.to_nir(net, torch.zeros(1, 2, 4, 4))
    graph.nodes["0"].input_shape = (4, 4)  # sinabs leaves out what nir cannot write as None
    graph.nodes["3"].input_type = {"input": np.array([4, 2, 2])}
    nir.write(folder / "net.nir", graph)
    given = _inputs(rng, 2, 4, 4)
    heard: dict[str, list[Any]] = {"1": [], "5": []}
    for sample in range(BATCH):  # Squeeze layers take batch and time in one axis
        for name in heard:
            net[int(name)].reset_states()
        steps = torch.from_numpy(given[:, sample]).float()
        x = steps
        with torch.no_grad():
            for i, module in enumerate(net):
                x = module(x)
                if str(i) in heard:
                    heard[str(i)].append(x.numpy().astype(np.int64))
    spikes = {name: np.stack(runs, axis=1) for name, runs in heard.items()}
    stated = Stated(reading=Reading.SINABS, dt=1.0, T=T, reset=reset, input_range=(-3, 3))
    return Exported(folder / "net.nir", stated, given, spikes)


_ROWS = [
    (_snntorch, Reset.TO_ZERO),
    (_snntorch, Reset.BY_SUBTRACTION),
    (_snntorch, Reset.NONE),
    (_norse, Reset.TO_ZERO),
    (_norse, Reset.BY_SUBTRACTION),
    (_spikingjelly, Reset.TO_ZERO),
    (_sinabs, Reset.TO_ZERO),
    (_sinabs, Reset.BY_SUBTRACTION),
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("make", "reset"), _ROWS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_every_spike_is_the_frameworks(
    make: Callable[[Path, Reset, int], Exported], reset: Reset, seed: int, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the frameworks
        made = make(tmp_path, reset, seed)
    graph = from_nir(made.file, made.stated)
    given = {graph.inputs[0]: made.given.reshape(T, BATCH, *graph.types[graph.inputs[0]].shape)}

    assert set(graph.neurons) == set(made.spikes)
    for simulator in (Reference(), EventDriven()):
        got = simulator.compile(graph).run(given)
        for name, spikes in made.spikes.items():
            assert np.array_equal(got.values[name].reshape(spikes.shape), spikes), name
            assert 0 < spikes.mean() < 1, name


@pytest.mark.parametrize(("make", "reset"), [r for r in _ROWS if r[1] is not Reset.NONE],
                         ids=lambda v: getattr(v, "__name__", str(v)))  # fmt: skip
def test_another_reading_is_caught(
    make: Callable[[Path, Reset, int], Exported], reset: Reset, tmp_path: Path
) -> None:
    """The comparison above would notice that a neuron is reset otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = make(tmp_path, reset, 0)
    graph = from_nir(made.file, made.stated)
    other = Reset.NONE if reset is Reset.BY_SUBTRACTION else Reset.BY_SUBTRACTION
    nodes = tuple(
        replace(n, op=replace(n.op, reset=other, reset_by=int(n.op.threshold.array.max())))
        if isinstance(n.op, Neuron) else n
        for n in graph.nodes
    )  # fmt: skip
    wrong = Graph(nodes, graph.outputs, graph.T)
    given = {graph.inputs[0]: made.given.reshape(T, BATCH, *graph.types[graph.inputs[0]].shape)}
    got = Reference().compile(wrong).run(given)
    assert any(
        not np.array_equal(got.values[n].reshape(s.shape), s) for n, s in made.spikes.items()
    )


def test_what_an_exporter_drops_must_be_stated(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = _snntorch(tmp_path, Reset.BY_SUBTRACTION, 0)
    for missing, sentence in (
        ({"reset": None}, "node '1': the exporter of snntorch does not write how its neurons are"),
        ({"reading": None}, "nothing says how to discretise it; state a reading: euler, snntorch"),
        ({"dt": None}, "nothing says its dt"),
        ({"T": None}, "nothing says its T"),
        ({"input_range": None}, "nothing says the range of its input"),
        ({"T": 20}, "float32 holds 24"),
        ({"T": 64}, "64 steps of its decay need 63 bits"),
    ):
        with pytest.raises(FormatError, match=sentence):
            from_nir(made.file, replace(made.stated, **missing))


def test_snntorchs_synaptic_drops_an_input_where_it_resets_to_zero(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = _snntorch(tmp_path, Reset.BY_SUBTRACTION, 0)
    with pytest.raises(FormatError, match="node '5': a Synaptic that is reset to zero drops"):
        from_nir(made.file, replace(made.stated, reset=Reset.TO_ZERO))


# ---- our own files ----------------------------------------------------------------------


_IMAGE = TensorType((2, 4, 4), IntRange(-8, 8), Kind.GRADED)


def _own(seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)

    def conv(out: int, fan_in: int, side: int, **options: Any) -> Conv2d:
        weight = IntTensor.of(rng.integers(-7, 9, (out, fan_in, side, side)))
        return Conv2d(weight=weight, bias=IntTensor.of(rng.integers(-3, 4, out)), **options)

    leaky = Neuron(threshold=IntTensor.of([64 * 20]), dv=DECAY_ONE // 2)
    whole = Neuron(threshold=IntTensor.of(64 * rng.integers(5, 30, (4, 1, 1))))
    weight = IntTensor.of(rng.integers(-7, 8, (3, 4)))
    nodes = (
        Node("image", Input(type=_IMAGE)),
        Node("a.conv", conv(4, 2, 3, padding=(1, 1), graded=True), ("image",)),
        Node("a.lif", leaky, ("a.conv",)),
        Node("b.conv", conv(4, 4, 1), ("a.lif",)),
        Node("sum", Add(), ("a.conv", "b.conv")),
        Node("b.if", whole, ("sum",)),
        Node("c", Linear(weight=weight, bias=IntTensor.of([1, -2, 3])), ("turned",)),
        Node("logits", Readout(), ("c.back",)),
    )
    wired = (
        Node("turned", Permute(axes=(1, 2, 0)), ("b.if",)),
        nodes[6],
        Node("c.back", Permute(axes=(2, 0, 1)), ("c",)),
        nodes[7],
    )
    return Graph((*nodes[:6], *wired), ("logits",), 4)


def _given(graph: Graph, seed: int) -> dict[str, IntArray]:
    shape = (graph.T, 8, *_IMAGE.shape)
    return {"image": np.random.default_rng(seed).integers(-8, 9, shape)}


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_file_of_ours_comes_back_spike_for_spike(seed: int, tmp_path: Path) -> None:
    graph = _own(seed)
    nir.write(tmp_path / "own.nir", to_nir(graph))

    back = from_nir(tmp_path / "own.nir", Stated(input_range=(-8, 8)))

    assert back.T == graph.T
    assert set(back.neurons) == set(graph.neurons)
    given = _given(graph, seed)
    want, got = (Reference().compile(g).run(given) for g in (graph, back))
    for name in (*graph.neurons, "logits"):
        assert np.array_equal(got.values[name], want.values[name]), name
    for name in graph.neurons:
        assert 0 < want.values[name].mean() < 1, name


def _network(graph: Graph) -> Network:
    quantizer = InputQuantizer(
        mean=(Fraction(1, 3),) * 2, std=(Fraction(1, 2),) * 2, exponent=2, lo=-8, hi=8
    )
    return Network(
        graph=graph, input=quantizer, logit_scale=Fraction(1, 48), classes=("a", "b", "c")
    )


def test_a_network_of_ours_comes_back_with_its_input_and_answers(tmp_path: Path) -> None:
    before = _network(_own())
    save_nir(before, tmp_path / "own.nir")
    after = network_from_nir(tmp_path / "own.nir")
    assert (after.input, after.logit_scale, after.classes) == (
        before.input, before.logit_scale, before.classes,
    )  # fmt: skip
    assert after.graph.types["image"] == _IMAGE


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        (Stated(dt=1e-3), "its metadata says dt 0.0001, and 0.001 is stated"),
        (Stated(T=5), "its metadata says T 4, and 5 is stated"),
        (Stated(reading=Reading.NORSE), "its metadata says reading"),
        (Stated(input_range=(0, 1)), "its metadata says inputs"),
        (Stated(reset=Reset.BY_SUBTRACTION), "a file of euler has hard resets"),
    ],
)  # fmt: skip
def test_the_metadata_is_not_overruled(stated: Stated, sentence: str, tmp_path: Path) -> None:
    save_nir(_network(_own()), tmp_path / "own.nir")
    with pytest.raises(FormatError, match=sentence):
        from_nir(tmp_path / "own.nir", stated)


# ---- what is not certain, or not exact --------------------------------------------------


_EULER = Stated(reading=Reading.EULER, dt=1e-4, T=4, input_range=(0, 1))


def _chain(node: Any, shape: tuple[int, ...] = (2,), **more: Any) -> Any:
    nodes = {"x": nir.Input(np.array(shape)), "n": node, "y": nir.Output(np.array(shape))}
    return nir.NIRGraph({**nodes, **more}, [("x", "n"), ("n", "y")], type_check=False)


def _lif(**fields: Any) -> Any:
    one = np.ones(2)
    given = {"tau": one * 2e-4, "r": one * 2, "v_leak": one * 0, "v_threshold": one, **fields}
    return nir.LIF(**given)


_ONE = np.ones(2)


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (_lif(tau=_ONE * 1e-3, r=_ONE * 10), "node 'n': tau takes 0.1 of its state in a step"),
        (_lif(tau=_ONE * 1e-5, r=_ONE), "tau takes 10 of its state"),
        (_lif(tau=np.array([1e-4, 2e-4])), "tau differs between its neurons"),
        (_lif(r=_ONE * 3), "multiplies its input by 1.5; only powers of two"),
        (_lif(r=-_ONE), "multiplies its input by -0.5"),
        (_lif(v_leak=_ONE), "v_leak 1, v_reset 0"),
        (_lif(v_reset=_ONE), "v_leak 0, v_reset 1"),
        (_lif(v_threshold=_ONE * 0), "v_threshold is not above the resting potential"),
        (_lif(v_threshold=_ONE * 1e30), "v_threshold is not above"),
        (_lif(tau=_ONE * 0), "tau is 0; it must be positive"),
        (_lif(tau=-_ONE), "tau is -1; it must be positive"),
        (_lif(tau=_ONE * 1e-300), "multiplies its input by 0, or by more than any|out of all prop"),
        (_lif(r=_ONE * 0), "multiplies its input by 0, or by more than any"),
        (_lif(r=_ONE * 1e300), "multiplies its input by 0, or by more than any"),
        (nir.Linear(weight=np.eye(2) * 1e-300), "node 'n': its numbers are too small or too large"),
        (nir.Linear(weight=np.eye(2) * 1e300), "node 'n': its numbers are too small or too large"),
        (nir.LI(tau=_ONE * 1e-4, r=_ONE, v_leak=_ONE * 0), "node 'n': is a LI; the graph has noth"),
        (nir.I(r=_ONE), "node 'n': is a I"),
        (nir.Threshold(threshold=_ONE), "node 'n': is a Threshold, which no framework reads"),
        (nir.Delay(delay=_ONE), "node 'n': is a Delay"),
        (nir.Scale(scale=_ONE * 2), "node 'n': multiplies values by constants"),
        (nir.Linear(weight=np.ones((2, 3))), "does not fit weight"),
        (nir.Linear(weight=np.array([[1.0, 1e-30], [0, 0]])), "node 'n': its .* lie on no grid"),
        (nir.Linear(weight=np.array([[0.1, 0.7], [0.3, 0]])), "node 'n': its .* lie on no grid"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_refused(node: Any, sentence: str, tmp_path: Path) -> None:
    nir.write(tmp_path / "x.nir", _chain(node))
    with pytest.raises(FormatError, match=sentence):
        from_nir(tmp_path / "x.nir", _EULER)


def test_float_weights_are_refused_where_a_framework_would_round(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(2, 2)).astype(np.float32)
    nir.write(tmp_path / "x.nir", _chain(nir.Linear(weight=weight)))
    stated = replace(_EULER, reading=Reading.SPIKINGJELLY)
    with pytest.raises(FormatError, match=r"node 'n': .* no grid; quantize the model first"):
        from_nir(tmp_path / "x.nir", stated)


def test_a_loop_is_refused(tmp_path: Path) -> None:
    nodes = {"x": nir.Input(np.array([2])), "n": _lif(), "w": nir.Linear(weight=np.eye(2)),
             "y": nir.Output(np.array([2]))}  # fmt: skip
    edges = [("x", "n"), ("n", "w"), ("w", "n"), ("n", "y")]
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, edges))
    with pytest.raises(FormatError, match="is part of a loop"):
        from_nir(tmp_path / "x.nir", _EULER)


@pytest.mark.parametrize(
    ("shape", "node", "sentence"),
    [
        ((1 << 27,), nir.Flatten(np.array([1 << 27]), 0, -1), "an input of 134217728 channels"),
        ((2, 4, 4), nir.SumPool2d(np.array([9000, 9000]), np.ones(2, int), np.full(2, 4500)),
         r"node 'n': sums over windows \[9000, 9000\]"),
        ((2, 4, 4), nir.Conv2d(None, np.ones((9, 2, 64, 64), np.int8), 1, 2000, 64, 1, np.ones(9)),
         "node 'n': a kernel of .* after dilation"),
    ],
)  # fmt: skip
def test_a_small_file_makes_no_large_graph(
    shape: tuple[int, ...], node: Any, sentence: str, tmp_path: Path
) -> None:
    if isinstance(node, nir.Conv2d):
        node.input_shape = (4, 4)
    nir.write(tmp_path / "x.nir", _chain(node, shape))
    tracemalloc.start()
    with pytest.raises(FormatError, match=sentence):
        from_nir(tmp_path / "x.nir", _EULER)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_what_an_exporter_tore_apart_is_refused(tmp_path: Path) -> None:
    """snnTorch writes a product of two values as two inputs that never meet."""
    nodes = {"a": nir.Input(np.array([2])), "b": nir.Input(np.array([2])), "n": _lif(),
             "y": nir.Output(np.array([2]))}  # fmt: skip
    edges = [("a", "n"), ("b", "n"), ("n", "y")]
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, edges))
    with pytest.raises(FormatError, match="2 nodes of type Input; a network has one"):
        from_nir(tmp_path / "x.nir", _EULER)


def test_layers_that_meet_share_a_unit(tmp_path: Path) -> None:
    nodes = {
        "x": nir.Input(np.array([2])),
        "coarse": nir.Linear(weight=np.array([[1.0, -2], [0, 3]])),
        "fine": nir.Linear(weight=np.array([[0.25, 1], [-0.5, 0]])),
        "n": _lif(v_threshold=np.array([0.75, 0.5])),
        "y": nir.Output(np.array([2])),
    }
    edges = [("x", "coarse"), ("x", "fine"), ("coarse", "n"), ("fine", "n"), ("n", "y")]
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, edges))
    graph = from_nir(tmp_path / "x.nir", _EULER)
    coarse = graph["coarse"].op
    assert isinstance(coarse, Linear)
    assert coarse.weight.array.tolist() == [[4, -8], [0, 12]]
    given = np.random.default_rng(0).integers(0, 2, (4, 32, 2))
    got = Reference().compile(graph).run({"x": given}).values["n"]
    v = np.zeros((32, 2))
    for t, x in enumerate(given):
        v = v / 2 + x @ (nodes["coarse"].weight + nodes["fine"].weight).T
        fired = v > np.array([0.75, 0.5])
        assert np.array_equal(got[t], fired)
        v[fired] = 0
    assert 0 < got.mean() < 1


def test_foreign_metadata_is_no_obstacle(tmp_path: Path) -> None:
    graph = _chain(_lif())
    graph.metadata = {"author": "somebody", "more": {"a": 1}}
    nir.write(tmp_path / "x.nir", graph)
    assert from_nir(tmp_path / "x.nir", _EULER).neurons == ("n",)
    graph.metadata = {"lapilli": json.dumps({"format": "lapilli-nir/9"})}
    nir.write(tmp_path / "x.nir", graph)
    with pytest.raises(FormatError, match="format 'lapilli-nir/9'"):
        from_nir(tmp_path / "x.nir", _EULER)
