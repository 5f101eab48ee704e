"""Membranes that the author reads: real models of each framework, exact, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.compare import compare, compare_all  # noqa: E402
from lapilli.export.native import load_network, save_network  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import (  # noqa: E402
    CaptureError,
    LapilliError,
    MismatchError,
    UnsupportedError,
)
from lapilli.ir.graph import Graph  # noqa: E402
from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.model.neurons.adapters import ADAPTERS  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.simulators.event_driven import EventDriven  # noqa: E402
from lapilli.simulators.lava.host.adapter import Lava  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch

_T = 4


class SnnTorch(nn.Module):
    """A network as snnTorch's tutorials write it, the last layer's membrane recorded."""

    def __init__(self, end: str = "mean", beta: float = 0.5, **last: Any) -> None:
        super().__init__()
        snn = pytest.importorskip("snntorch")
        self.end = end
        self.fc1, self.lif1 = nn.Linear(16, 24), snn.Leaky(beta=beta, threshold=0.25)
        self.fc2 = nn.Linear(24, 3)
        self.lif2 = snn.Leaky(beta=beta, **{"threshold": 0.5, **last})
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Any:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spk2_rec, mem2_rec = [], []
        for _ in range(_T):
            spk1, mem1 = self.lif1(self.fc1(x.flatten(1)), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        ends: dict[str, Callable[[], Any]] = {
            "mean": lambda: torch.stack(mem2_rec).mean(0),
            "sum": lambda: mem2_rec[0] + mem2_rec[1] + mem2_rec[2] + mem2_rec[3],
            "last": lambda: mem2_rec[-1],
            "stack-last": lambda: torch.stack(mem2_rec, dim=0)[-1],
            "tuple": lambda: (torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)),
            "head-last": lambda: self.head(mem2),
            "head-mean": lambda: self.head(torch.stack(mem2_rec, 1).mean(1)),
        }
        answer: Any = ends[self.end]()
        return answer


def drawn(model: nn.Module, seed: int = 3) -> nn.Module:
    """The model with larger weights, so that neurons fire."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (p for m in model.modules() if isinstance(m, nn.Linear)
                          for p in m.parameters()):  # fmt: skip
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return model.eval()


def images(count: int, seed: int) -> Tensor:
    shown: Tensor = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return shown


def read(made: Quantized) -> ops.Membrane:
    (name,) = made.network.graph.membranes
    op = made.network.graph[name].op
    assert isinstance(op, ops.Membrane)
    return op


@pytest.mark.parametrize("end", ["mean", "sum", "last", "stack-last", "head-last", "head-mean"])
@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_snntorch(end: str, beta: float, exact_on: Callable[..., int]) -> None:
    made = quantize(drawn(SnnTorch(end, beta)), images(12, 0))
    assert made.network.graph.neurons == ("lif1",)
    assert not read(made).after_reset
    assert exact_on(made, images(40, 1)) > 10_000
    stands_in = (
        "lif2.membrane",
        NoteKind.INTEGER_NEURON,
    ) in [(n.path, n.kind) for n in made.notes]
    assert stands_in == (beta == 0.9)


class Norse(nn.Module):
    """norse's MNIST example: LIF layers, and a membrane that is read out at each step."""

    def __init__(self, last: Callable[[], nn.Module], first: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(16, 24), first()
        self.fc2, self.out = nn.Linear(24, 5), last()

    def forward(self, x: Tensor) -> Tensor:
        s1 = so = None
        voltages: Tensor = torch.empty(_T, x.shape[0], 5, dtype=x.dtype)
        for t in range(_T):
            z, s1 = self.lif1(self.fc1(x.flatten(1)), s1)
            vo, so = self.out(self.fc2(z), so)
            voltages[t] = self.read(vo, so)
        return voltages.mean(0)

    def read(self, answer: Tensor, state: Any) -> Tensor:
        return state.v  # type: ignore[no-any-return]


class Answer(Norse):
    """The answer of a leaky integrator is its membrane."""

    def read(self, answer: Tensor, state: Any) -> Tensor:
        return answer


def norse_neurons() -> dict[str, Callable[[], nn.Module]]:
    """Decays of a half and a quarter, exact in floats; and the default ones, which are not."""
    pytest.importorskip("norse.torch")
    from norse.torch import (
        LIBoxCell,
        LIBoxParameters,
        LICell,
        LIFBoxCell,
        LIFBoxParameters,
        LIFCell,
        LIFParameters,
        LIParameters,
    )

    half, quarter, low = torch.tensor(500.0), torch.tensor(250.0), torch.tensor(0.25)
    return {
        "LIFCell": lambda: LIFCell(LIFParameters(half, quarter, v_th=low)),
        "LIFCell()": lambda: LIFCell(LIFParameters(v_th=low)),
        "LIFBoxCell": lambda: LIFBoxCell(LIFBoxParameters(tau_mem_inv=half, v_th=low)),
        "LICell": lambda: LICell(LIParameters(half, quarter)),
        "LICell()": lambda: LICell(),
        "LIBoxCell": lambda: LIBoxCell(LIBoxParameters(half)),
        "LIBoxCell()": lambda: LIBoxCell(),
    }


@pytest.mark.parametrize("kind", [Norse, Answer])
@pytest.mark.parametrize("last", ["LIFCell", "LIFCell()", "LIFBoxCell", "LICell", "LICell()",
                                  "LIBoxCell", "LIBoxCell()"])  # fmt: skip
def test_norse(kind: type[Norse], last: str, exact_on: Callable[..., int]) -> None:
    if kind is Answer and "LIF" in last:
        return  # its answer is spikes
    neurons = norse_neurons()
    made = quantize(drawn(kind(neurons[last], neurons["LIFBoxCell"])), images(12, 0))
    assert read(made).after_reset
    assert (read(made).neuron.reset is ops.Reset.NONE) == ("LIF" not in last)
    assert exact_on(made, images(40, 1)) > 10_000


class Jelly(nn.Module):
    """SpikingJelly's step mode 's': the membrane stays in the neuron."""

    def __init__(self, **last: Any) -> None:
        super().__init__()
        sj = pytest.importorskip("spikingjelly.activation_based.neuron")
        self.fc1, self.lif1 = nn.Linear(16, 24), sj.LIFNode(v_threshold=0.5)
        self.fc2, self.lif2 = nn.Linear(24, 3), sj.LIFNode(**last)

    def forward(self, x: Tensor) -> Tensor:
        total: Any = 0.0
        for _ in range(_T):
            self.lif2(self.fc2(self.lif1(self.fc1(x.flatten(1)))))
            total = total + self.lif2.v
        return total / _T  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "last", [{"v_threshold": 0.75}, {"v_threshold": 0.75, "v_reset": None}, {"tau": 1.5},
             {"v_threshold": 1e6}]
)  # fmt: skip
def test_spikingjelly(last: dict[str, Any], exact_on: Callable[..., int]) -> None:
    made = quantize(drawn(Jelly(**last)), images(12, 0))
    assert read(made).after_reset
    assert exact_on(made, images(40, 1)) > 10_000


# ---- the same on every simulator, in a file, and with faults ------------------------------------


@pytest.fixture(scope="module")
def tutorial() -> Quantized:
    return quantize(drawn(SnnTorch("mean", 0.9)), images(12, 0))


def pixels(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(4).integers(0, 4, (count, 1, 4, 4)).astype(np.uint8)


def test_every_simulator_shows_the_membrane_that_pytorch_reads(tutorial: Quantized) -> None:
    network = tutorial.network
    pytorch = tutorial.reference
    runs = {s.name: s.compile(network.graph) for s in (Reference(), EventDriven(), Lava())}
    for comparison in compare_all(network, pytorch, runs, pixels(6)):
        comparison.require()
        assert comparison.compared > 400


def test_a_file_keeps_it(tutorial: Quantized, tmp_path: Path) -> None:
    save_network(tutorial.network, tmp_path / "net.lapilli")
    assert load_network(tmp_path / "net.lapilli").graph == tutorial.network.graph


def test_nir_refuses_it_by_name(tutorial: Quantized) -> None:
    to_nir = pytest.importorskip("lapilli.export.nir.write.writer").to_nir
    with pytest.raises(UnsupportedError, match=r"lif2.membrane: shows a membrane"):
        to_nir(tutorial.network.graph)


def test_the_other_membrane_is_told_apart() -> None:
    """norse shows what its reset leaves; the membrane before it differs wherever it fires."""
    neurons = norse_neurons()
    made = quantize(drawn(Norse(neurons["LIFCell"], neurons["LIFBoxCell"])), images(12, 0))
    (name,) = made.network.graph.membranes
    nodes = tuple(
        replace(n, op=replace(n.op, after_reset=False)) if isinstance(n.op, ops.Membrane) else n
        for n in made.network.graph.nodes
    )
    graph = Graph(nodes, made.network.graph.outputs, made.network.graph.T)
    network = replace(made.network, graph=graph)
    pytorch = made.reference
    found = compare(network, pytorch, Reference().compile(network.graph), pixels(20))
    assert found.first is not None
    assert (found.first.node, found.first.kind) == (name, "membrane")


def test_a_row_that_says_the_wrong_membrane(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(ADAPTERS["snntorch._neurons.leaky.Leaky"], shows_after_reset=lambda m: True)
    monkeypatch.setitem(ADAPTERS, "snntorch._neurons.leaky.Leaky", wrong)
    with pytest.raises(CaptureError, match="membrane that it shows at step 0 is not that after"):
        quantize(drawn(SnnTorch()), images(12, 0))


def test_a_membrane_that_never_moves_shows_nothing() -> None:
    model = drawn(SnnTorch())
    with torch.no_grad():
        model.fc2.weight.zero_()  # type: ignore[operator,union-attr]
        model.fc2.bias.zero_()  # type: ignore[operator,union-attr]
    made = quantize(model, images(12, 0))
    run = Reference().compile(made.network.graph)
    found = compare(made.network, made.reference, run, pixels(6))
    assert not found.mismatches
    assert found.vacuous == ("lif2.membrane",)
    with pytest.raises(MismatchError, match=r"shows nothing about lif2\.membrane"):
        found.require()


# ---- variants -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        {"reset_mechanism": "none"},
        {"reset_mechanism": "zero"},
        {"reset_mechanism": "zero", "reset_delay": False},
        {"threshold": 1e4},
        {"beta": 0.95, "reset_mechanism": "none"},
    ],
    ids=str,
)
def test_snntorch_output_neurons(last: dict[str, Any], exact_on: Callable[..., int]) -> None:
    beta = last.pop("beta", 0.5)
    made = quantize(drawn(SnnTorch("mean", beta, **last)), images(12, 0))
    assert read(made).after_reset == ("reset_delay" in last)
    assert exact_on(made, images(40, 1)) > 10_000


@pytest.mark.parametrize("output", [0, 1])
def test_spikes_and_membranes_of_a_tuple(output: int, exact_on: Callable[..., int]) -> None:
    made = quantize(drawn(SnnTorch("tuple")), images(12, 0), result=output)
    assert len(made.network.graph.membranes) == output
    assert exact_on(made, images(40, 1)) > 8_000


class Current(Norse):
    """The synaptic current is read instead."""

    def __init__(self) -> None:
        super().__init__(norse_neurons()["LIFCell"], norse_neurons()["LIFBoxCell"])

    def read(self, answer: Tensor, state: Any) -> Tensor:
        return state.i  # type: ignore[no-any-return]


class Added(SnnTorch):
    """Spikes and membrane in one sum: their units differ."""

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        total: Any = 0.0
        for _ in range(_T):
            spk1, mem1 = self.lif1(self.fc1(x.flatten(1)), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            total = total + (spk2 + mem2)
        return total / _T  # type: ignore[no-any-return]


class Forgetful(Norse):
    """The state is not passed on: each step begins at rest, which is no loop over time."""

    def __init__(self) -> None:
        super().__init__(norse_neurons()["LIFCell"], norse_neurons()["LIFBoxCell"])

    def forward(self, x: Tensor) -> Tensor:
        total: Any = 0.0
        for _ in range(_T):
            z, _ = self.lif1(self.fc1(x.flatten(1)))
            total = total + self.fc2(z)
        return total / _T  # type: ignore[no-any-return]


class Driving(SnnTorch):
    """A membrane drives the next neuron."""

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        total: Any = 0.0
        for _ in range(_T):
            _, mem1 = self.lif1(self.fc1(x.flatten(1)), mem1)
            spk2, mem2 = self.lif2(self.fc2(mem1), mem2)
            total = total + self.head(spk2)
        return total / _T  # type: ignore[no-any-return]


class Merged(SnnTorch):
    """Two maps in a row: the captured program runs in the author's place, and reads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.fc2 = nn.Sequential(  # type: ignore[assignment]
            nn.Linear(24, 8), nn.Linear(8, 3)
        )


REFUSED: tuple[Callable[[], nn.Module], ...] = (
    Driving,
    Current,
    Forgetful,
    Added,
    lambda: Jelly(v_threshold=0.75, v_reset=-0.25),
    Merged,
)


def test_membranes_that_are_refused_as_the_page_says() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "unsupported.md"
    section = page.read_text(encoding="utf-8").split("## Membranes")[1].split("\n## ")[0]
    said = []
    for model in REFUSED:
        with pytest.raises(LapilliError) as caught:
            quantize(drawn(model()), images(12, 0))
        said.append(str(caught.value))
    assert [line[4:] for line in section.splitlines() if line.startswith("    ")] == said
