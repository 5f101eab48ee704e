"""Files of four frameworks' exporters, imported: spikes are those of the framework's own run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lapilli.export.nir.read.dynamics import Reading
from lapilli.export.nir.read.importer import from_nir
from lapilli.export.nir.read.metadata import Stated
from lapilli.ir import ops
from lapilli.ir.errors import FormatError
from lapilli.ir.graph import Graph
from lapilli.simulators.event_driven import EventDriven
from lapilli.simulators.reference import Reference

nir = pytest.importorskip("nir")
torch = pytest.importorskip("torch")


pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("nir_in_process")]
T, BATCH = 8, 16


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


def _snntorch(folder: Path, reset: ops.Reset, seed: int) -> Exported:
    snn = pytest.importorskip("snntorch")
    from snntorch.export_nir import export_to_nir

    rng = np.random.default_rng(seed)
    mechanism = {
        ops.Reset.TO_ZERO: "zero",
        ops.Reset.BY_SUBTRACTION: "subtract",
        ops.Reset.NONE: "none",
    }[reset]

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
        leaky(10, 0.5 if reset is ops.Reset.BY_SUBTRACTION else 0.75, 0.5),
        _dyadic(torch.nn.Linear(10, 8), rng),
        leaky(8, 0.5, 1.5) if reset is ops.Reset.TO_ZERO else synaptic(8),
    )
    graph = export_to_nir(net, torch.zeros(1, 6), ignore_dims=[0])
    nir.write(folder / "net.nir", graph)
    given = _inputs(rng, 6)
    for module in (net[1], net[3], net[5]):
        module.reset_mem()
    spikes = _listen(net, {"1": net[1], "3": net[3], "5": net[5]}, given)
    stated = Stated(reading=Reading.SNNTORCH, dt=1e-4, T=T, reset=reset, input_range=(-3, 3))
    return Exported(folder / "net.nir", stated, given, spikes)


def _norse(folder: Path, reset: ops.Reset, seed: int) -> Exported:
    norse = pytest.importorskip("norse.torch")
    from norse.torch.functional.reset import reset_subtract, reset_value
    from norse.torch.utils.export_nir import to_nir as norse_to_nir

    rng = np.random.default_rng(seed)

    def box(n: int, inverse: float, threshold: float) -> Any:
        p = norse.LIFBoxParameters(
            tau_mem_inv=torch.full((n,), inverse),
            v_th=torch.full((n,), threshold),
            v_leak=torch.zeros(n),
            reset_method=reset_subtract if reset is ops.Reset.BY_SUBTRACTION else reset_value,
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
        cell(8) if reset is ops.Reset.TO_ZERO else box(8, 500.0, 0.25),
    )
    nir.write(folder / "net.nir", norse_to_nir(net, torch.zeros(1, 6)))
    given = _inputs(rng, 6)
    modules = list(net.children())
    spikes = _listen(net, {"1": modules[1], "3": modules[3], "5": modules[5]}, given)
    stated = Stated(reading=Reading.NORSE, dt=1e-3, T=T, reset=reset, input_range=(-3, 3))
    return Exported(folder / "net.nir", stated, given, spikes)


def _spikingjelly(folder: Path, reset: ops.Reset, seed: int) -> Exported:
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


def _sinabs(folder: Path, reset: ops.Reset, seed: int) -> Exported:
    sl = pytest.importorskip("sinabs.layers")
    import sinabs.activation as activation
    import sinabs.nir

    rng = np.random.default_rng(seed)
    by = {
        ops.Reset.TO_ZERO: activation.MembraneReset,
        ops.Reset.BY_SUBTRACTION: activation.MembraneSubtract,
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
    (_snntorch, ops.Reset.TO_ZERO),
    (_snntorch, ops.Reset.BY_SUBTRACTION),
    (_snntorch, ops.Reset.NONE),
    (_norse, ops.Reset.TO_ZERO),
    (_norse, ops.Reset.BY_SUBTRACTION),
    (_spikingjelly, ops.Reset.TO_ZERO),
    (_sinabs, ops.Reset.TO_ZERO),
    (_sinabs, ops.Reset.BY_SUBTRACTION),
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("make", "reset"), _ROWS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_every_spike_is_the_frameworks(
    make: Callable[[Path, ops.Reset, int], Exported], reset: ops.Reset, seed: int, tmp_path: Path
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


@pytest.mark.parametrize(("make", "reset"), [r for r in _ROWS if r[1] is not ops.Reset.NONE],
                         ids=lambda v: getattr(v, "__name__", str(v)))  # fmt: skip
def test_another_reading_is_caught(
    make: Callable[[Path, ops.Reset, int], Exported], reset: ops.Reset, tmp_path: Path
) -> None:
    """The comparison above would notice that a neuron is reset otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = make(tmp_path, reset, 0)
    graph = from_nir(made.file, made.stated)
    other = ops.Reset.NONE if reset is ops.Reset.BY_SUBTRACTION else ops.Reset.BY_SUBTRACTION
    nodes = tuple(
        replace(n, op=replace(n.op, reset=other, reset_by=int(n.op.threshold.array.max())))
        if isinstance(n.op, ops.Neuron) else n
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
        made = _snntorch(tmp_path, ops.Reset.BY_SUBTRACTION, 0)
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
        made = _snntorch(tmp_path, ops.Reset.BY_SUBTRACTION, 0)
    with pytest.raises(FormatError, match="node '5': a Synaptic that is reset to zero drops"):
        from_nir(made.file, replace(made.stated, reset=ops.Reset.TO_ZERO))
