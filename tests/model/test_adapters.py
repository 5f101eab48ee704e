"""Neurons of every framework: what their rows say is what their own code does."""

from __future__ import annotations

import copy
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lapilli.deploy.compare import compare_all  # noqa: E402
from lapilli.deploy.runners import PyTorch, Simulated  # noqa: E402
from lapilli.ir.errors import CaptureError, QuantizeError  # noqa: E402
from lapilli.ir.ops import Reset, Staircase  # noqa: E402
from lapilli.model.adapters import Description, adapter_of, describe, rule_of  # noqa: E402
from lapilli.model.neuron import LIF, IntegerSpike, TernaryLIF  # noqa: E402
from lapilli.model.probe import probe  # noqa: E402
from lapilli.model.program import Fire  # noqa: E402
from lapilli.model.rule import NeuronRule, Rule, StaircaseRule  # noqa: E402
from lapilli.model.simulate import simulate  # noqa: E402
from lapilli.quantize import Quantized, quantize  # noqa: E402
from lapilli.quantize.listening import listening  # noqa: E402
from lapilli.quantize.neurons import integer_neuron  # noqa: E402
from lapilli.quantize.staircase import staircase  # noqa: E402
from lapilli.quantize.stand_in import StandIn  # noqa: E402
from lapilli.simulators.event_driven import EventDriven  # noqa: E402
from lapilli.simulators.lava.adapter import Lava  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

pytestmark = pytest.mark.torch

FOLDER = Path(__file__).parent
HERE = ("lapilli", "spikingjelly", "snntorch", "norse")  # importable in this process


@pytest.fixture(scope="module")
def frameworks() -> ModuleType:
    """The script that runs the frameworks."""
    spec = importlib.util.spec_from_file_location("frameworks", FOLDER / "frameworks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["frameworks"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _frameworks_may_warn() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they use what PyTorch deprecates
        yield


# ---- beside the frameworks -----------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(frameworks: ModuleType) -> dict[str, list[Any]]:
    """What each framework did; 8 192 neuron steps an example, ties among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {group: frameworks.facts(group) for group in frameworks.GROUPS}


def test_every_row_is_what_its_framework_does(seen: dict[str, list[Any]]) -> None:
    rows = [fact for facts in seen.values() for fact in facts]
    assert len(rows) == 65
    for fact in rows:
        assert fact.differ == 0, fact
        assert 0.2 < fact.rate < 0.6, fact
    assert sum(fact.compared for fact in rows) == 1_982_464


def test_every_class_of_the_table_was_run(seen: dict[str, list[Any]]) -> None:
    from lapilli.model.adapters import ADAPTERS

    run = {fact.kind for facts in seen.values() for fact in facts}
    again = {"utils.node.LIFNode", "utils.node.PLIFNode"}  # STEP, from another folder
    assert run | again | {"lapilli.model.adapters.Described"} == set(ADAPTERS)  # the last is below


def test_the_page_is_what_was_seen(frameworks: ModuleType, seen: dict[str, list[Any]]) -> None:
    assert frameworks.PAGE.read_text() == frameworks.page(seen), (
        "docs/adapters.md is old: python tests/model/frameworks.py --write"
    )


# What the trap of each framework is, in numbers.
RULES = {
    "Leaky(0.5)": NeuronRule(
        decay=Fraction(1, 2),
        gain=Fraction(1),
        v_threshold=Fraction(1),
        strict=True,
        reset=Reset.BY_SUBTRACTION,
        reset_by=Fraction(2),  # theta / beta: it subtracts after the decay
    ),
    "LIFNode(v_reset=-0.5), step_mode='m'": NeuronRule(
        decay=Fraction(1, 2), gain=Fraction(1, 2), v_threshold=Fraction(1), rest=Fraction(-1, 2)
    ),
    "LIFNode(v_reset=None), step_mode='s'": NeuronRule(
        decay=Fraction(1, 2),
        gain=Fraction(1, 2),
        v_threshold=Fraction(1),
        reset=Reset.BY_SUBTRACTION,
        reset_by=Fraction(1),
    ),
    "LIFCell(1/2, 1/4)": NeuronRule(
        decay=Fraction(3, 4),
        gain=Fraction(1, 4),
        v_threshold=Fraction(1),
        strict=True,
        current_decay=Fraction(1, 2),
    ),
}


def _examples(frameworks: ModuleType) -> dict[str, Any]:
    return {e.label: e.module for group in HERE for e in frameworks.EXAMPLES[group]()}


def test_rules_by_hand(frameworks: ModuleType) -> None:
    made = _examples(frameworks)
    assert {label: rule_of(made[label], label) for label in RULES} == RULES


def test_a_row_leaves_its_module_alone(frameworks: ModuleType) -> None:
    for label, module in _examples(frameworks).items():
        adapter = adapter_of(module)
        assert adapter is not None, label
        before = copy.deepcopy(module).__dict__
        adapter.trace(copy.deepcopy(module), torch.ones(3, 2, 5))
        probe(module, label)
        assert {k: repr(v) for k, v in before.items()} == {
            k: repr(v) for k, v in module.__dict__.items()
        }, label


# ---- the probe ------------------------------------------------------------------------------


def _faulty(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """The same neuron with one constant wrong, as a row might have it."""
    if isinstance(rule, StaircaseRule):
        yield "levels", replace(rule, levels=rule.levels - 1)
        yield "norm", replace(rule, norm=rule.norm + 1)
        return
    yield "decay", replace(rule, decay=rule.decay * Fraction(15, 16))
    yield "gain", replace(rule, gain=rule.gain * Fraction(7, 8))
    yield "input not decayed", replace(rule, gain=rule.gain / 2)
    yield "threshold", replace(rule, v_threshold=(rule.rest + rule.thetas[0]) * Fraction(17, 16))
    yield "strict", replace(rule, strict=not rule.strict)
    yield "ternary", replace(rule, ternary=not rule.ternary, rest=Fraction(0))
    yield "v_reset", replace(rule, rest=rule.rest - Fraction(1, 8), ternary=False)
    current = Fraction(0) if rule.current_decay else Fraction(1, 4)
    yield "synaptic current", replace(rule, current_decay=current)
    for reset in Reset:
        if reset is not rule.reset:
            yield reset.value, replace(rule, reset=reset, reset_by=rule.thetas[0])
    if rule.reset is Reset.BY_SUBTRACTION:
        yield "order", replace(rule, reset_by=rule.reset_by * Fraction(3, 4))


def test_a_wrong_row_is_caught(frameworks: ModuleType) -> None:
    caught = 0
    for label, module in _examples(frameworks).items():
        assert probe(module, label) > 0
        rule = rule_of(module, label)
        ties = isinstance(rule, StaircaseRule) or _is_dyadic(rule.gain)
        for fault, wrong in _faulty(rule):
            if fault == "strict" and not ties:
                continue  # no float current meets the threshold, and the integers are rounded
            with pytest.raises(CaptureError, match="is not what its rule says: after currents"):
                probe(module, label, wrong)
            caught += 1
    assert caught > 400


def _is_dyadic(value: Fraction) -> bool:
    return value.numerator == 1 and value.denominator & (value.denominator - 1) == 0


def _refused() -> list[tuple[Any, str]]:
    from norse.torch import LIFCell, LIFParameters
    from snntorch import Lapicque, Leaky
    from spikingjelly.activation_based import neuron, surrogate

    turned = Leaky(0.5)
    turned.state_function = turned._base_state_function
    return [
        (Leaky(0.5, reset_delay=False), "subtracts twice where the membrane stays above"),
        (Leaky(torch.tensor([0.5, 0.25])), "beta has 2 values; only thresholds may differ"),
        (
            Leaky(0.5, threshold=torch.tensor([1.0, 2.0])),
            "2 thresholds with reset_mechanism='subtract'",
        ),
        (Leaky(0.5, inhibition=True), "inhibition is set"),
        (Leaky(0.5, graded_spikes_factor=2.0), "graded_spikes_factor is not 1"),
        (Leaky(0.0), "a decay of 0"),
        (turned, "state function '_base_state_function'"),
        (Lapicque(0.5, reset_mechanism="zero"), "drops the input of the step after a spike"),
        (LIFCell(LIFParameters(v_reset=torch.tensor(-0.5))), "v_reset differs from v_leak"),
        (neuron.LIFNode(v_threshold=-0.5), "is not above the resting potential"),
        (
            neuron.LIFNode(surrogate_function=surrogate.Sigmoid(spiking=False)),
            "its spike function answers",
        ),
    ]


def test_options_without_a_rule_are_refused_with_the_reason() -> None:
    for module, why in _refused():
        with pytest.raises(CaptureError, match=why) as caught:
            rule_of(module, "block.0.lif")
        assert "module 'block.0.lif'" in str(caught.value)


def test_an_unknown_class_stays_unknown() -> None:
    assert adapter_of(nn.ReLU()) is None
    with pytest.raises(CaptureError, match=r"torch.nn.modules.activation.ReLU is no neuron"):
        rule_of(nn.ReLU(), "act")


def _stacked(steps: list[Tensor]) -> Tensor:
    whole: Tensor = torch.stack(steps)
    return whole


# ---- whole networks -------------------------------------------------------------------------


class Net(nn.Module):
    """Two neurons between three linear maps; the mean over time."""

    def __init__(self, first: nn.Module, second: nn.Module, T: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.T = T
        self.fc1, self.fc2, self.head = nn.Linear(48, 24), nn.Linear(24, 20), nn.Linear(20, 5)
        self.first, self.second = first, second
        with torch.no_grad():
            self.fc1.weight.mul_(6)
            self.fc2.weight.mul_(12)

    def forward(self, images: Tensor) -> Tensor:
        x = self.fc1(images.flatten(1)).unsqueeze(0).repeat(self.T, 1, 1)
        logits: Tensor = self.head(self.second(self.fc2(self.first(x)))).mean(0)
        return logits


def _quantized(net: Net, **options: Any) -> Quantized:
    images = torch.rand(32, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return quantize(net.eval(), images, **options)


def _compared(quantized: Quantized, *others: Any, images: int = 24) -> int:
    """Compare PyTorch with every simulator; return how many values."""
    network = quantized.network
    pixels = np.random.default_rng(2).integers(0, 256, (images, 3, 4, 4)).astype(np.uint8)
    simulators = (Reference(), EventDriven(), *others)
    runs = [Simulated(network, simulator) for simulator in simulators]
    found = compare_all(network, PyTorch(network, quantized.reference), runs, pixels)
    for one in found:
        one.require()
    return sum(one.compared for one in found)


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
    compared = sum(_compared(_quantized(Net(make(), make(), T))) for make in _multi_step().values())
    assert compared > 100_000 * T / 4


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
        notes = _quantized(Net(make(), make(), T)).notes
        if any("the integer neuron stands on both sides" in note for note in notes):
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
        assert _compared(_quantized(Net(first, second)), Lava(), images=6) > 2000


def test_a_state_does_not_go_on_from_run_to_run() -> None:
    from spikingjelly.activation_based import neuron as sj

    node = sj.LIFNode(step_mode="m")
    quantized = _quantized(Net(node, LIF()))
    images = np.random.default_rng(0).integers(-100, 100, (3, 3, 4, 4))
    first, second = (quantized.reference.run(images) for _ in range(2))
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

    from lapilli.model.rows.spikingjelly import LIF as ROW

    module = Memory()
    ROW.set_threshold(module, 1.25)
    assert (module.v_threshold, module._memories_rv["v_threshold"]) == (1.25, 1.25)


# ---- integer spikes -------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 2, 4, 7])
@pytest.mark.parametrize(
    "scale", [Fraction(1), Fraction(1, 2), Fraction(1, 32), Fraction(3, 8), Fraction(5)]
)
def test_a_staircase_rounds_half_to_even(levels: int, scale: Fraction) -> None:
    n = np.arange(-40, 300)
    got = Staircase(thresholds=staircase(StaircaseRule(levels=levels, norm=1), scale).thresholds)
    want = [min(max(round(Fraction(int(i)) * scale), 0), levels) for i in n]
    # round(clamp(x)): the clamp comes first, and its ends are integers
    counts = (n[:, None] >= got.thresholds.array).sum(axis=1)
    assert counts.tolist() == want


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(3, 8), Fraction(5)])
def test_a_staircase_rounds_half_up_where_its_author_adds_a_half(scale: Fraction) -> None:
    rule = StaircaseRule(levels=4, norm=1, half_up=True)
    n = np.arange(-40, 300)
    want = simulate(rule, torch.from_numpy(n * float(scale)))[0]
    got = (n[:, None] >= staircase(rule, scale).thresholds.array).sum(axis=1)
    assert got.tolist() == want.tolist()
    even = simulate(replace(rule, half_up=False), torch.from_numpy(n * float(scale)))[0]
    assert (got != even.numpy()).any() == (scale == Fraction(1, 2))  # only at 1/2 and 5/2


def test_a_staircase_of_a_scale_that_floats_round_stands_on_both_sides() -> None:
    made = integer_neuron(StaircaseRule(levels=4, norm=4), Fraction(1, 49), 4)
    assert not made.exact
    assert "multiples of 1/49" in made.note


# ---- neurons that run one step a call -------------------------------------------------------


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
        return _stacked(spikes)


@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_a_stand_in_takes_the_place_of_single_steps(beta: float) -> None:
    from snntorch import Leaky

    T = 5
    loop = Loop(Leaky(beta)).double()
    rule = rule_of(loop.lif, "lif")
    fires = [Fire(module="lif", call=i, rule=rule, steps=tuple(range(i, 2 * T, 2))) for i in (0, 1)]
    scales = (Fraction(1, 8), Fraction(2))
    neurons = [integer_neuron(rule, scale, T) for scale in scales]
    own = copy.deepcopy(loop.lif)
    adapter = adapter_of(own)
    assert adapter is not None
    loop.lif = StandIn(own, list(zip(fires, neurons, strict=True)), adapter)
    n = np.random.default_rng(0).integers(-4, 12, (T, 50))
    x = torch.from_numpy(n / 8)
    for _ in range(2):  # the second run starts from rest
        with torch.no_grad(), listening(loop, ["lif"]) as heard:
            loop(x)
        for fire in fires:
            currents, spikes = heard.use(fire)
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


# ---- a user's own class ---------------------------------------------------------------------


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
    reset=Reset.BY_SUBTRACTION,
    reset_by=Fraction(3, 2),
)


def _read(module: Any) -> NeuronRule:
    theta = Fraction(module.theta)
    return replace(RIGHT, v_threshold=theta, reset_by=theta)


@pytest.mark.parametrize("description", [RIGHT, _read], ids=["rule", "function"])
def test_a_described_neuron_is_taken(description: Description) -> None:
    net = Net(Halving(), LIF())
    quantized = _quantized(net, neurons={NAME: description})
    assert _compared(quantized) > 10_000
    assert isinstance(net.first, Halving)
    assert net.first.v == 0.0


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
    quantized = _quantized(Net(Hard(), Hard()), neurons={name: rule})
    assert any("rounded by" in note for note in quantized.notes)
    assert _compared(quantized) > 10_000


@pytest.mark.parametrize(
    ("fault", "wrong"), list(_faulty(RIGHT)), ids=[f for f, _ in _faulty(RIGHT)]
)
def test_a_wrong_description_is_not_believed(fault: str, wrong: Rule) -> None:
    net = Net(Halving(), LIF())
    with pytest.raises(CaptureError, match=r"module 'first': is not what its rule says") as caught:
        _quantized(net, neurons={NAME: wrong})
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
        _quantized(net)
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
