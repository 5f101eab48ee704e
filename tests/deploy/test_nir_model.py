"""A float `.nir` file on the command line: quantized, compared, or refused by node."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from lapilli.deploy.cli.app import app
from lapilli.export.native import load_network
from lapilli.ir import ops
from lapilli.ir.errors import FormatError, InputError, LapilliError

nir = pytest.importorskip("nir")
torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("nir_in_process")]
T = 6
STATED = {"reading": "snntorch", "dt": 1e-4, "T": T, "reset": "subtract"}
Floats = npt.NDArray[Any]


def lif(n: int, beta: float) -> Any:
    """As snnTorch's exporter writes Leaky: tau = dt / (1 - beta), r = tau / dt."""
    one = np.ones(n)
    tau = 1e-4 / (1 - beta)
    return nir.LIF(tau=one * tau, r=one * tau / 1e-4, v_leak=one * 0, v_threshold=one)


def weights() -> dict[str, Floats]:
    rng = np.random.default_rng(0)
    return {
        "conv": rng.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "fc": rng.normal(size=(20, 64)).astype(np.float32) / 2,
        "head": rng.normal(size=(10, 20)).astype(np.float32),
    }


def graph(extra: Any = None) -> Any:
    """A convolution, a pool, and a dense block in a graph of its own."""
    w = weights()
    conv = nir.Conv2d((8, 8), w["conv"], 1, 1, 1, 1, np.full(4, 0.1))
    one = np.ones((4, 8, 8))
    tau = 1e-4 / (1 - 0.9)
    block = nir.NIRGraph(
        {"input": nir.Input(np.array([64])), "fc": nir.Linear(weight=w["fc"]),
         "lif": lif(20, 0.8), "output": nir.Output(np.array([20]))},
        [("input", "fc"), ("fc", "lif"), ("lif", "output")],
    )  # fmt: skip
    nodes = {
        "input": nir.Input(np.array([1, 8, 8])),
        "conv": conv,
        "lif": nir.LIF(tau=one * tau, r=one * tau / 1e-4, v_leak=one * 0, v_threshold=one),
        "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "flat": nir.Flatten(np.array([4, 4, 4]), 0, -1),
        "block": block,
        "head": extra if extra is not None else nir.Affine(weight=w["head"], bias=np.zeros(10)),
        "output": nir.Output(np.array([10])),
    }
    names = list(nodes)
    return nir.NIRGraph(nodes, list(itertools.pairwise(names)), type_check=False)


def by_hand(images: Floats) -> Floats:
    """The sums over time of the same network, in float64."""
    w = weights()

    def fire(x: Floats, beta: float) -> Floats:
        v, spikes = np.zeros(x.shape[1:]), []
        for step in x:
            v = beta * v + step
            spikes.append(v > 1)
            v = v - spikes[-1] / beta  # snnTorch subtracts a step later, after the decay
        return np.stack(spikes).astype(float)

    conv = torch.nn.functional.conv2d(
        torch.from_numpy(images), torch.from_numpy(w["conv"]).double(), padding=1
    )
    first = fire(np.broadcast_to(conv.numpy() + 0.1, (T, *conv.shape)), 0.9)
    pooled = first.reshape(T, -1, 4, 4, 2, 4, 2).sum((4, 6)).reshape(T, -1, 64)
    second = fire(pooled @ w["fc"].T.astype(float), 0.8)
    assert 0.05 < first.mean() < 0.95
    assert 0.05 < second.mean() < 0.95
    return np.asarray((second @ w["head"].T.astype(float)).sum(0))


def model(path: Path, arguments: Mapping[str, object] = STATED) -> Any:
    from lapilli.deploy.cli.nir_model import nir_model

    return nir_model(path, arguments, (0.0,), (1.0,)).module


def test_the_float_model_is_the_network_of_the_file(tmp_path: Path) -> None:
    nir.write(tmp_path / "x.nir", graph())
    images = np.random.default_rng(1).random((12, 1, 8, 8))
    with torch.no_grad():
        got = model(tmp_path / "x.nir").double()(torch.from_numpy(images)).numpy()
    assert np.abs(got - by_hand(images)).max() < 1e-9
    planted = {**STATED, "reset": "zero"}
    with torch.no_grad():
        wrong = model(tmp_path / "x.nir", planted).double()(torch.from_numpy(images)).numpy()
    assert np.abs(wrong - by_hand(images)).max() > 0.5


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_file_of_snntorch_fires_as_snntorch_does(reset: str, tmp_path: Path) -> None:
    snn = pytest.importorskip("snntorch")
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(0)
    leaky = [
        snn.Leaky(
            beta=torch.full((n,), beta),
            threshold=torch.full((n,), 0.4),
            init_hidden=True,
            reset_mechanism=reset,
        )
        for n, beta in ((30, 0.9), (10, 0.77))
    ]
    net = torch.nn.Sequential(torch.nn.Linear(16, 30), leaky[0], torch.nn.Linear(30, 10), leaky[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its exporter, about nirtorch
        nir.write(tmp_path / "x.nir", export_to_nir(net, torch.zeros(1, 16), ignore_dims=[0]))
    leaky[0].reset_hidden()
    leaky[1].reset_hidden()
    images = 2 * torch.rand(40, 16)
    with torch.no_grad():
        want = torch.stack([net(images) for _ in range(T)]).sum(0)
        got = model(tmp_path / "x.nir", {**STATED, "reset": reset})(images)
    assert torch.equal(got, want)
    assert 0.05 < (want / T).mean() < 0.95
    other = {"zero": "subtract", "subtract": "zero"}[reset]
    with torch.no_grad():
        wrong = model(tmp_path / "x.nir", {**STATED, "reset": other})(images)
    assert not torch.equal(wrong, want)


def step_if(v: Floats, i: Floats, x: Floats) -> tuple[Floats, Floats]:
    return v + 0.3 * x, i


def step_cuba(v: Floats, i: Floats, x: Floats) -> tuple[Floats, Floats]:
    i = i * (1 - 0.23) + x
    return v * (1 - 0.31) + 0.31 * 0.23 * 7 * i, i


_ONE = np.ones(20)


@pytest.mark.parametrize(
    ("node", "step"),
    [
        (nir.IF(r=_ONE * 3000.0, v_threshold=_ONE), step_if),
        (nir.CubaLIF(tau_mem=_ONE * 1e-4 / 0.31, tau_syn=_ONE * 1e-4 / 0.23, r=_ONE * 7.0,
                     v_leak=_ONE * 0, v_threshold=_ONE), step_cuba),
    ],
)  # fmt: skip
def test_other_neurons_have_their_constants(node: Any, step: Any, tmp_path: Path) -> None:
    """Forward Euler, written out; counts of spikes of a value that is shown at each step."""
    shape = np.array([20])
    nodes = {"input": nir.Input(shape), "n": node, "output": nir.Output(shape)}
    edges = [("input", "n"), ("n", "output")]
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, edges))
    x = np.random.default_rng(3).random((50, 20)) * 3
    v, i, want = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for _ in range(T):
        v, i = step(v, i, x)
        want += v > 1
        v = np.where(v > 1, 0, v)
    with torch.no_grad():
        made = model(tmp_path / "x.nir", {"reading": "euler", "dt": 1e-4, "T": T})
        got = made.double()(torch.from_numpy(x)).numpy()
        planted = made(torch.from_numpy(x * 1.2)).numpy()
    assert np.array_equal(got, want)
    assert len(np.unique(want)) > 2
    assert not np.array_equal(planted, want)


def waiting(*, drop: int = 0) -> Any:
    """Spikes and a current that wait, per channel, and a membrane that is weighed and read."""
    w = weights()
    rng = np.random.default_rng(5)
    shape = np.array([16])
    first = rng.normal(size=(20, 16)).astype(np.float32)
    nodes = {
        "input": nir.Input(shape),
        "a": nir.Affine(weight=first, bias=np.full(20, 0.1)),
        "late": nir.Delay((np.arange(20) % 3 - drop).clip(0) * 1e-4),
        "lif": lif(20, 0.8),
        "wait": nir.Delay((np.arange(20) % 4) * 1e-4),
        "b": nir.Linear(weight=w["head"] / 2),
        "li": nir.LI(tau=np.full(10, 1e-4 / 0.3), r=np.full(10, 1.5), v_leak=np.zeros(10)),
        "c": nir.Affine(weight=w["fc"][:10, :10], bias=np.full(10, 0.5)),
        "output": nir.Output(np.array([10])),
    }
    return nir.NIRGraph(nodes, list(itertools.pairwise(nodes)))


def waited(images: Floats) -> Floats:
    """The sums over time of the same network, in float64."""
    nodes = waiting().nodes

    def late(x: Floats, steps: Floats) -> Floats:
        out = np.zeros_like(x)
        for at, k in enumerate(steps):
            out[k:, :, at] = x[: T - k, :, at]
        return out

    current = images @ nodes["a"].weight.T.astype(float) + 0.1
    current = late(np.broadcast_to(current, (T, *current.shape)), np.arange(20) % 3)
    v, spikes = np.zeros(current.shape[1:]), []
    for step in current:
        v = 0.8 * v + step
        spikes.append(v > 1)
        v = np.where(v > 1, 0, v)
    held = late(np.stack(spikes).astype(float), np.arange(20) % 4)
    assert 0.05 < held.mean() < 0.95
    v, shown = np.zeros((len(images), 10)), []
    for step in held @ nodes["b"].weight.T.astype(float):
        v = 0.7 * v + 0.45 * step
        shown.append(v)
    return np.asarray((np.stack(shown) @ nodes["c"].weight.T.astype(float) + 0.5).sum(0))


EULER = {"reading": "euler", "dt": 1e-4, "T": T}


def test_delays_and_a_membrane_are_what_they_say(tmp_path: Path) -> None:
    nir.write(tmp_path / "x.nir", waiting())
    images = np.random.default_rng(1).random((12, 16))
    with torch.no_grad():
        got = model(tmp_path / "x.nir", EULER).double()(torch.from_numpy(images)).numpy()
    assert np.abs(got - waited(images)).max() < 1e-5
    nir.write(tmp_path / "x.nir", waiting(drop=1))
    with torch.no_grad():
        wrong = model(tmp_path / "x.nir", EULER).double()(torch.from_numpy(images)).numpy()
    assert np.abs(wrong - waited(images)).max() > 0.1


def test_delays_and_a_membrane_quantized_and_compared(tmp_path: Path) -> None:
    nir.write(tmp_path / "x.nir", waiting())
    rng = np.random.default_rng(2)
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 256, (24, 1, 4, 4), dtype=np.uint8))
    stated = [word for key, value in EULER.items() for word in ("--arg", f"{key}={value}")]
    file, net, images = (str(tmp_path / n) for n in ("x.nir", "net.lapilli", "images.npz"))
    run = CliRunner().invoke
    given = ["quantize", file, "-o", net, "--no-normalisation", *stated, "--calibration", images]
    done = run(app, given)
    assert done.exit_code == 0, done.output
    graph = load_network(Path(net)).graph
    assert [type(graph[name].op) for name in graph.neurons] == [ops.GeneralNeuron] * 2
    for simulator in ("reference", "event-driven"):
        asked = ["compare", net, "--checkpoint", file, "--images", images, "--json"]
        done = run(app, [*asked, "--simulator", simulator])
        assert done.exit_code == 0, done.output
        (found,) = json.loads(done.stdout[done.stdout.index("{") :])["comparisons"]
        assert (found["exact"], found["mismatches"], found["vacuous"]) == (True, 0, [])
        assert found["compared"] > 5_000


@pytest.mark.parametrize(
    ("put", "says"),
    [
        ({"lif": nir.Linear(weight=np.eye(20))}, "node 'lif': reads a current that is delayed"),
        ({"c": nir.Delay(np.full(10, 1e-4))}, "node 'c': takes a membrane; only the answer may"),
        ({"a": nir.Delay(np.full(16, 1e-4))}, "node 'a': delays the image, which is no spikes"),
    ],
)
def test_delays_that_nothing_holds_are_refused(
    put: Mapping[str, Any], says: str, tmp_path: Path
) -> None:
    whole = waiting()
    nodes = {**whole.nodes, **put}
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, whole.edges, type_check=False))
    with pytest.raises(FormatError, match=says):
        model(tmp_path / "x.nir", EULER)


def test_quantized_and_compared_on_the_command_line(tmp_path: Path) -> None:
    nir.write(tmp_path / "x.nir", graph())
    rng = np.random.default_rng(2)
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 256, (24, 1, 8, 8), dtype=np.uint8))
    stated = [word for key, value in STATED.items() for word in ("--arg", f"{key}={value}")]
    file, net, images = (str(tmp_path / n) for n in ("x.nir", "net.lapilli", "images.npz"))
    run = CliRunner().invoke
    given = ["quantize", file, "-o", net, "--no-normalisation", *stated]
    done = run(app, [*given, "--calibration", images])
    assert done.exit_code == 0, done.output
    made = load_network(Path(net)).graph
    assert made.T == T
    rules = [made[name].op for name in made.neurons]
    assert all(isinstance(op, ops.Neuron) for op in rules)
    assert len(rules) == 2
    assert {op.reset for op in rules if isinstance(op, ops.Neuron)} == {ops.Reset.BY_SUBTRACTION}
    done = run(app, ["compare", net, "--checkpoint", file, "--images", images, "--json"])
    assert done.exit_code == 0, done.output
    for found in json.loads(done.stdout[done.stdout.index("{") :])["comparisons"]:
        assert (found["exact"], found["mismatches"], found["vacuous"]) == (True, 0, [])
        assert found["compared"] > 100_000
        assert all(0.05 < rate < 0.95 for rate in found["rates"].values())
        assert list(found["rates"]) == ["parts.lif", "parts.block_lif"]
    # A planted fault: another weight in the file is another model.
    other = graph()
    other.nodes["conv"].weight = other.nodes["conv"].weight * 2
    nir.write(tmp_path / "x.nir", other)
    done = run(app, ["compare", net, "--checkpoint", file, "--images", images])
    assert "made from other parameters" in str(done.exception)
    done = run(app, [*given])
    assert "is a NIR file: give images" in str(done.exception)
    done = run(app, [*given, "--calibration", images, "--preset", "x"])
    assert "x.nir: a NIR file says its parameters" in str(done.exception)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (
            nir.LI(tau=np.ones(20), r=np.ones(20), v_leak=np.zeros(20)),
            "node 'head': is a LI, which no exporter of snntorch writes",
        ),
        (nir.Delay(delay=np.full(20, 1.3e-4)), "node 'head': delays by 0.00013 s, which are 1.3"),
        (nir.Threshold(threshold=np.ones(20)), "node 'head': is a Threshold; quantize takes Li"),
        (nir.Scale(scale=np.ones(20)), "node 'head': is a Scale"),
        (lif(20, -1.0), "node 'head': tau takes 2 of its state"),
    ],
)
def test_nodes_that_are_not_taken_are_named(node: Any, says: str, tmp_path: Path) -> None:
    nir.write(tmp_path / "x.nir", graph(node))
    with pytest.raises(FormatError, match=says):
        model(tmp_path / "x.nir")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reading": "loihi"}, "--arg reading=loihi: none of euler"),
        ({"reading": None}, "nothing says how to run it; state --arg reading"),
        ({"T": 0}, "--arg T=0: the steps"),
        ({"dt": "x"}, "--arg dt=x: the seconds"),
        ({"reset": "soft"}, "--arg reset=soft: none of zero"),
        ({"beta": 1}, "--arg beta: a NIR file takes"),
    ],
)
def test_arguments_that_are_not_possible(
    change: Mapping[str, object], says: str, tmp_path: Path
) -> None:
    nir.write(tmp_path / "x.nir", graph())
    with pytest.raises(InputError, match=says):
        model(tmp_path / "x.nir", {**STATED, **change})


def test_a_file_of_lapilli_holds_integers(tmp_path: Path) -> None:
    written = graph()
    written.metadata = {"lapilli": json.dumps({"format": "lapilli-nir/1"})}
    nir.write(tmp_path / "x.nir", written)
    with pytest.raises(LapilliError, match="it holds integers; `lapilli import` reads it"):
        model(tmp_path / "x.nir")
