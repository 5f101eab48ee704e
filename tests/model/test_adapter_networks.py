"""Whole networks with neurons of several frameworks: exact on every side."""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks.two_neurons import Net, compared, quantized  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir.recipe import NoteKind  # noqa: E402
from lapilli.model.capture import program  # noqa: E402
from lapilli.model.families.lif import LIF, IntegerSpike, TernaryLIF  # noqa: E402
from lapilli.model.neurons.adapters import adapter_of, rule_of  # noqa: E402
from lapilli.quantize.neurons import integer_neuron  # noqa: E402
from lapilli.quantize.pytorch.integer_neuron import StandIn  # noqa: E402
from lapilli.quantize.pytorch.recorder import recorder  # noqa: E402
from lapilli.simulators.lava.host.adapter import Lava  # noqa: E402

pytestmark = pytest.mark.torch


def _multi_step() -> dict[str, Callable[[], nn.Module]]:
    from spikingjelly.activation_based import neuron as sj

    return {
        "LIF": LIF,
        "LIF 1.5": lambda: LIF(1.5),
        "ternary": TernaryLIF,
        "integer": IntegerSpike,
        "integer, norm 1": lambda: IntegerSpike(4, 1),
        "LIFNode": lambda: sj.LIFNode(step_mode="m"),
        "LIFNode soft": lambda: sj.LIFNode(v_reset=None, step_mode="m"),
        "LIFNode tau 4": lambda: sj.LIFNode(tau=4.0, decay_input=False, step_mode="m"),
        "LIFNode -0.25": lambda: sj.LIFNode(v_reset=-0.25, step_mode="m"),
        "IFNode": lambda: sj.IFNode(step_mode="m"),
        "IFNode soft": lambda: sj.IFNode(v_reset=None, step_mode="m"),
        "IFNode -0.5": lambda: sj.IFNode(v_reset=-0.5, step_mode="m"),
        "PLIF": lambda: sj.ParametricLIFNode(step_mode="m"),
        "PLIF 3": lambda: sj.ParametricLIFNode(3.0, step_mode="m"),
    }


@pytest.mark.parametrize("T", [4, 12])
def test_networks_are_exact(T: int) -> None:
    count = sum(compared(quantized(Net(make(), make(), T))) for make in _multi_step().values())
    assert count > 100_000 * T / 4


@pytest.mark.parametrize(
    ("T", "on_both_sides"),
    [
        (4, {"LIF 1.5", "LIFNode soft", "PLIF 3"}),
        (12, {"LIF", "LIF 1.5", "ternary", "LIFNode", "LIFNode soft", "LIFNode tau 4",
              "LIFNode -0.25", "PLIF", "PLIF 3"}),
    ],
)  # fmt: skip
def test_where_the_integer_neuron_stands_on_both_sides(T: int, on_both_sides: set[str]) -> None:
    found = set()
    for name, make in _multi_step().items():
        notes = quantized(Net(make(), make(), T), target="stock", weight_scale="max").notes
        if NoteKind.INTEGER_NEURON in {note.kind for note in notes}:
            found.add(name)
    assert found == on_both_sides


@pytest.mark.lava
def test_lava_takes_every_neuron() -> None:
    from spikingjelly.activation_based import neuron as sj

    for first, second in (
        (TernaryLIF(), sj.LIFNode(v_reset=None, step_mode="m")),
        (IntegerSpike(), sj.IFNode(v_reset=None, step_mode="m")),
        (sj.LIFNode(v_reset=-0.25, step_mode="m"), IntegerSpike(4, 1)),
    ):
        assert compared(quantized(Net(first, second)), Lava(), images=6) > 2000


def test_a_state_does_not_go_on_from_run_to_run() -> None:
    from spikingjelly.activation_based import neuron as sj

    node = sj.LIFNode(step_mode="m")
    made = quantized(Net(node, LIF()))
    images = np.random.default_rng(0).integers(-100, 100, (3, 3, 4, 4))
    first, second = (made.reference.run_images(images) for _ in range(2))
    assert np.array_equal(first.membranes["first"], second.membranes["first"])
    assert node.v == 0.0  # nor in the author's own


def test_a_rounded_threshold_survives_reset_net() -> None:
    """0.0.0.0.12 counts v_threshold as a state; its reset would bring the old one back."""

    class Memory(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.v_threshold = 1.0
            self._memories_rv = {"v_threshold": 1.0}

        def set_reset_value(self, name: str, value: float) -> None:
            self._memories_rv[name] = value

    from lapilli.model.neurons.frameworks.spikingjelly import LIF as ROW

    module = Memory()
    ROW.set_threshold(module, 1.25)
    assert (module.v_threshold, module._memories_rv["v_threshold"]) == (1.25, 1.25)


class Loop(nn.Module):
    """T steps of one module that is used twice in each, its states passed by hand."""

    def __init__(self, neuron: Any) -> None:
        super().__init__()
        self.lif = neuron

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.lif.init_leaky(), self.lif.init_leaky()
        spikes = []
        for current in x:
            s, first = self.lif(current, first)
            s, second = self.lif(2 * s, second)
            spikes.append(s)
        whole: Tensor = torch.stack(spikes)
        return whole


@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_a_stand_in_takes_the_place_of_single_steps(beta: float) -> None:
    from snntorch import Leaky

    T = 5
    loop = Loop(Leaky(beta)).double()
    rule = rule_of(loop.lif, "lif")
    fires = [
        program.Neuron(module="lif", call=i, rule=rule, steps=tuple(range(i, 2 * T, 2)))
        for i in (0, 1)
    ]
    scales = (Fraction(1, 8), Fraction(2))
    neurons = [integer_neuron(rule, scale, T) for scale in scales]
    own = copy.deepcopy(loop.lif)
    adapter = adapter_of(own)
    assert adapter is not None
    loop.lif = StandIn(own, list(zip(fires, neurons, strict=True)), adapter)
    n = np.random.default_rng(0).integers(-4, 12, (T, 50))
    x = torch.from_numpy(n / 8)
    for _ in range(2):  # the second run starts from rest
        with torch.no_grad(), recorder(loop, ["lif"]) as recorded:
            loop(x)
        for fire in fires:
            currents, spikes = recorded.trace(fire)
            assert currents.dtype == spikes.dtype == torch.float64
            want, membranes = loop.lif.trace(fire.call, currents)
            assert torch.equal(spikes, want)
            assert 0 < float(spikes.mean()) < 1
            if neurons[fire.call].exact:  # then Leaky itself says the same
                adapter = adapter_of(own)
                assert adapter is not None
                theirs, h = adapter.trace(own, currents)
                assert torch.equal(theirs.double(), want)
                assert torch.equal(h, membranes)
