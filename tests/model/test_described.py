"""A user's own neuron: its description is tried, not believed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from frameworks.faults import faulty  # noqa: E402
from networks.two_neurons import Net, compared, quantized  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import CaptureError, QuantizeError  # noqa: E402
from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.model.capture.probe import probe  # noqa: E402
from lapilli.model.families.lif import LIF  # noqa: E402
from lapilli.model.neurons.adapters import Description, describe  # noqa: E402
from lapilli.model.neurons.rule import NeuronRule, Rule  # noqa: E402

pytestmark = pytest.mark.torch


def _stacked(steps: list[Tensor]) -> Tensor:
    whole: Tensor = torch.stack(steps)
    return whole


class Halving(nn.Module):
    """Somebody's neuron: v = v / 2 + x, a spike above one and a half, and subtraction."""

    def __init__(self, theta: float = 1.5) -> None:
        super().__init__()
        self.theta = theta
        self.v: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        spikes = []
        for current in x:
            self.v = self.v / 2 + current
            s = (self.v > self.theta).to(x.dtype)
            self.v = self.v - s * self.theta
            spikes.append(s)
        return _stacked(spikes)


NAME = f"{Halving.__module__}.Halving"
RIGHT = NeuronRule(
    decay=Fraction(1, 2),
    gain=Fraction(1),
    v_threshold=Fraction(3, 2),
    strict=True,
    reset=ops.Reset.BY_SUBTRACTION,
    reset_by=Fraction(3, 2),
)


def _read(module: Any) -> NeuronRule:
    theta = Fraction(module.theta)
    return replace(RIGHT, v_threshold=theta, reset_by=theta)


@pytest.mark.parametrize("description", [RIGHT, _read], ids=["rule", "function"])
def test_a_described_neuron_is_taken(description: Description) -> None:
    net = Net(Halving(), LIF())
    made = quantized(net, neurons={NAME: description})
    assert compared(made) > 10_000
    assert isinstance(net.first, Halving)
    assert net.first.v == 0.0


def test_a_class_may_be_named_by_the_end_of_its_name() -> None:
    made = quantized(Net(Halving(), LIF()), neurons={"Halving": RIGHT})
    assert compared(made) > 10_000
    twin = type("Halving", (Halving,), {"__module__": "elsewhere"})
    with pytest.raises(CaptureError, match=r"'Halving' names two classes, .* and elsewhere"):
        quantized(Net(Halving(), twin()), neurons={"Halving": RIGHT})
    with pytest.raises(CaptureError, match="no module is a 'alving'"):
        quantized(Net(Halving(), LIF()), neurons={"alving": RIGHT})


def test_a_hard_reset_described_may_have_its_threshold_rounded() -> None:
    class Hard(Halving):
        def forward(self, x: Tensor) -> Tensor:
            v, spikes = torch.zeros_like(x[0]), []
            for current in x:
                v = v / 2 + current
                spikes.append((v >= self.theta).to(x.dtype))
                v = v * (1 - spikes[-1])
            return _stacked(spikes)

    rule = NeuronRule(decay=Fraction(1, 2), gain=Fraction(1), v_threshold=Fraction(3, 2))
    name = f"{Hard.__module__}.{Hard.__qualname__}"
    made = quantized(Net(Hard(), Hard()), neurons={name: rule}, target="stock")
    assert NoteKind.THRESHOLD in {note.kind for note in made.notes}
    assert compared(made) > 10_000


@pytest.mark.parametrize(("fault", "wrong"), list(faulty(RIGHT)), ids=[f for f, _ in faulty(RIGHT)])
def test_a_wrong_description_is_not_believed(fault: str, wrong: Rule) -> None:
    net = Net(Halving(), LIF())
    with pytest.raises(CaptureError, match=r"module 'first': is not what its rule says") as caught:
        quantized(net, neurons={NAME: wrong})
    assert "after currents" in str(caught.value), fault


def test_descriptions_that_cannot_be() -> None:
    net = Net(Halving(), LIF())
    with pytest.raises(CaptureError, match=r"no module is a 'their\.Neuron'"):
        describe(net, {"their.Neuron": RIGHT})
    with pytest.raises(CaptureError, match="module 'first': its rule cannot be read"):
        describe(net, {NAME: lambda module: module.missing})
    with pytest.raises(CaptureError, match="is a neuron, not a network"):
        describe(Halving(), {NAME: RIGHT})
    with pytest.raises((CaptureError, QuantizeError), match=r"Halving keeps state|no neuron"):
        quantized(net)
    for silly in ({"decay": Fraction(2)}, {"gain": Fraction(0)}, {"v_threshold": Fraction(0)}):
        with pytest.raises(ValueError, match=r"keeps 0 to 1|must be positive|fire without"):
            replace(RIGHT, **silly)  # type: ignore[arg-type]


class Silent(Halving):
    """Never fires: nothing can be learnt from it."""

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x


def test_a_neuron_that_shows_nothing_or_fails_is_refused() -> None:
    far = replace(RIGHT, v_threshold=Fraction(1), reset_by=Fraction(1))
    with pytest.raises(CaptureError, match="is not what its rule says"):
        probe(_described(Silent(), far), "n")
    with pytest.raises(CaptureError, match=r"its forward fails on \(12, 2, 192\)"):
        probe(_described(nn.Conv2d(3, 3, 1), RIGHT), "n")
    with pytest.raises(CaptureError, match="answers"):
        probe(_described(nn.Flatten(), RIGHT), "n")


def _described(module: nn.Module, rule: Rule) -> nn.Module:
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    return describe(nn.Sequential(module), {name: rule}).get_submodule("0")
