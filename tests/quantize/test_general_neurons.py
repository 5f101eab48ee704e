"""Neurons with constants of each step or channel, levels, taps, a floor: quantized, and equal."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sj = pytest.importorskip("spikingjelly.activation_based.neuron")
snn = pytest.importorskip("snntorch")

from frameworks.examples import GLIFTorch, learnt, with_k  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.comparison.targets import target  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import CaptureError, UnsupportedError  # noqa: E402
from lapilli.model.neurons.adapters import Constants, GeneralRule  # noqa: E402
from lapilli.model.neurons.described import parse_rule, rule_text  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.neurons import integer_neuron, next_coarser  # noqa: E402

pytestmark = pytest.mark.torch

T = 4


class Folded(nn.Module):
    """STEP's layout: the neuron is given (T * B, ...)."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.neuron(x.flatten(0, 1)).view(x.shape)
        return spikes


class Net(nn.Module):
    """Two layers of neurons of one kind, each in one call for all steps."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.first = nn.Conv2d(1, 6, 3, padding=1), make()
        self.fc, self.second, self.head = nn.Linear(54, 10), make(), nn.Linear(10, 3)
        with torch.no_grad():
            self.conv.weight.mul_(4)
            self.fc.weight.mul_(6)
            self.fc.bias.add_(0.5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(self.conv(images).repeat(T, 1, 1, 1, 1))
        logits: Tensor = self.head(self.second(self.fc(x.flatten(2)))).mean(0)
        return logits


class Stepwise(nn.Module):
    """snnTorch: decays, thresholds and so amounts of each channel, then of each neuron."""

    def __init__(self, decays: tuple[float, float], mechanism: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.head = (
            nn.Conv2d(1, 6, 3, padding=1),
            nn.Linear(54, 10),
            nn.Linear(10, 3),
        )
        self.first = snn.Leaky(
            torch.linspace(*decays, 6).reshape(6, 1, 1), threshold=0.5, learn_beta=True,
            reset_mechanism=mechanism,
        )  # fmt: skip
        self.second = snn.Leaky(
            torch.linspace(*decays, 10), threshold=torch.linspace(0.2, 0.4, 10),
            reset_mechanism=mechanism,
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        u, v, out = self.first.init_leaky(), self.second.init_leaky(), []
        for _ in range(T):
            s, u = self.first(self.conv(images), u)
            s, v = self.second(self.fc(s.flatten(1)), v)
            out.append(self.head(s))
        logits: Tensor = torch.stack(out).mean(0)
        return logits


def _sj(kind: Any, *given: Any, **options: Any) -> nn.Module:
    return Net(lambda: kind(*given, step_mode="m", **options))


def _leaky(*ends: float) -> nn.Module:
    """A leak of each channel, then of each neuron."""
    model = Net(lambda: sj.ParametricLIFNode(v_threshold=0.3, step_mode="m"))
    model.first.w = nn.Parameter(torch.linspace(*ends, 6).reshape(6, 1, 1))
    model.second.w = nn.Parameter(torch.linspace(*ends, 10))
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "KLIF": lambda: Net(lambda: with_k(sj.KLIFNode(step_mode="m"), 1.5)),
    "KLIF, scale_reset": lambda: Net(
        lambda: with_k(sj.KLIFNode(True, 3.0, True, 0.3, None, step_mode="m"), 0.7)
    ),
    "PLIF of channels": lambda: _leaky(-1.0, 1.0),
    "ILIF": lambda: _sj(sj.ILIFNode, 2.0),
    "ILIF, 4/3": lambda: _sj(sj.ILIFNode),
    "GLIF": lambda: Net(lambda: Folded(GLIFTorch(0.3, 0.3, 0.3))),
    "GLIF, soft reset and linear leak": lambda: Net(lambda: Folded(GLIFTorch(-0.3, 0.3, -0.3))),
    "masked PSN": lambda: Net(lambda: learnt(sj.MaskedPSN(3, T, 1.0, step_mode="m"))),
    "sliding PSN": lambda: Net(lambda: learnt(sj.SlidingPSN(2, step_mode="m"))),
    "sliding PSN over more than T": lambda: Net(lambda: learnt(sj.SlidingPSN(7, step_mode="m"))),
    "decays of channels": lambda: Stepwise((0.3, 0.9), "subtract"),
    "decays of channels, hard": lambda: Stepwise((0.0, 1.0), "zero"),
}


def _made(name: str) -> tuple[Quantized, Tensor]:
    model = MODELS[name]().eval()
    images = torch.rand(6, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    return quantize(model, images), images


@pytest.mark.parametrize("name", MODELS)
def test_equal_and_alive(name: str, exact_on: Callable[..., int]) -> None:
    made, images = _made(name)
    graph = made.network.graph
    kinds = [type(graph[n].op) for n in graph.neurons]
    assert kinds == [ops.GeneralNeuron] * 2
    assert exact_on(made, images) > 1000


@pytest.mark.parametrize("name", ["KLIF", "ILIF", "GLIF", "masked PSN", "decays of channels"])
@pytest.mark.parametrize(
    "simulator", ["fast", "onnx", pytest.param("lava", marks=pytest.mark.lava)]
)
def test_on_simulators(name: str, simulator: str) -> None:
    made, images = _made(name)
    graph, source = made.network.graph, made.network.input
    shown = np.rint(images.numpy() * 2.0**source.exponent).astype(np.int64)
    given = {graph.inputs[0]: np.broadcast_to(shown, (T, *shown.shape)).copy()}
    want = target("reference").compile(graph).run(given)
    got = target(simulator).compile(graph).run(given)
    for node in graph.recorded:
        assert np.array_equal(got.values[node], want.values[node]), node


@pytest.mark.parametrize("name", ["nir", "lava-stock"])
def test_others_refuse_by_name(name: str) -> None:
    made, _ = _made("KLIF")
    graph = made.network.graph
    with pytest.raises(UnsupportedError, match="a general neuron"):
        target(name).compile(graph).run({})


def test_a_rule_is_written_and_read() -> None:
    made, _ = _made("decays of channels")
    for record in made.network.recipe.neurons if made.network.recipe else ():
        assert record.rule.startswith("general:")
        assert rule_text(parse_rule(record.rule)) == record.rule
    given = parse_rule("general:taps=1/2,decay=1/2,thresholds=1x2x1:1/2;3/2,strict=true;false")
    assert isinstance(given, GeneralRule)
    assert given.strict == (True, False)
    assert given.taps == Constants.one(Fraction(1, 2), between=1)


def _rule(**constants: Any) -> GeneralRule:
    one = Constants.one
    given = {"taps": one(Fraction(1, 2), between=1), "decay": one(Fraction(1, 2))}
    return GeneralRule(**{**given, "thresholds": one(Fraction(1), between=1), **constants})


def test_a_gain_that_all_share_multiplies_nothing() -> None:
    made = integer_neuron(_rule(), Fraction(1, 8), T)
    assert made.exact
    assert made.unit == Fraction(1, 16)
    assert isinstance(made.op, ops.GeneralNeuron)
    assert made.op.taps.array.ravel().tolist() == [1 << 3]  # three decays by half
    assert made.op.threshold.array.ravel().tolist() == [16 << 3]


def test_what_is_rounded_is_counted() -> None:
    third = Constants.steps([Fraction(1, 3), Fraction(1, 2), Fraction(1), Fraction(0)], between=1)
    made = integer_neuron(_rule(taps=third), Fraction(1, 8), T)
    assert not made.exact
    assert "1 of the 5 constants that multiply are rounded to multiples of 1/4096" in made.note
    assert isinstance(made.op, ops.GeneralNeuron)
    assert made.op.taps.array.ravel().tolist() == [1365, 2048, 4096, 0]
    with pytest.raises(ValueError, match="constants for 4 steps; the model runs 6"):
        integer_neuron(_rule(taps=third), Fraction(1, 8), 6)


def test_a_coarser_state_keeps_taps_of_twelve_bits() -> None:
    rule = _rule(
        decay=Constants.one(Fraction(1, 3)),
        taps=Constants.steps([Fraction(1, 3)] * 3 + [Fraction(1)], between=1),
    )
    neuron = integer_neuron(rule, Fraction(1, 1 << 12), T)
    form = next_coarser(neuron, rule, T)
    assert form is not None
    coarse = integer_neuron(rule, Fraction(1, 1 << 12), T, form)
    assert isinstance(neuron.op, ops.GeneralNeuron)
    assert isinstance(coarse.op, ops.GeneralNeuron)
    assert coarse.op.taps == neuron.op.taps
    assert (neuron.op.shift, coarse.op.shift) == (3, 4)  # 24 bits, 15 of them for the current


def test_a_membrane_of_many_constants_is_not_read() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(9, 3)
            self.out = snn.Leaky(torch.tensor([0.5, 0.25, 0.75]))

        def forward(self, images: Tensor) -> Tensor:
            u = self.out.init_leaky()
            for _ in range(T):
                _, u = self.out(self.fc(images.flatten(1)), u)
            membrane: Tensor = u
            return membrane

    said = "module 'out': its membrane is read, and it has constants of each step or channel"
    with pytest.raises(CaptureError, match=re.escape(said)):
        quantize(Reads().eval(), torch.rand(6, 1, 3, 3))
