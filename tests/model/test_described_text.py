"""`CLASS=RULE`: neurons described in text, and under another name."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from networks.two_neurons import Net, compared, quantized  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lapilli.ir import ops  # noqa: E402
from lapilli.ir.errors import CaptureError, InputError  # noqa: E402
from lapilli.model.families.lif import LIF, IntegerSpike  # noqa: E402
from lapilli.model.neurons.adapters import (  # noqa: E402
    ADAPTERS,
    KnownAs,
    adapter_of,
    describe,
)
from lapilli.model.neurons.described import parse_neurons, parse_rule, rule_text  # noqa: E402
from lapilli.model.neurons.rule import NeuronRule, Rule, StaircaseRule, Thresholds  # noqa: E402

pytestmark = pytest.mark.torch

_LIF = "lapilli.model.families.lif.LIF"
RULES: dict[str, Rule | KnownAs] = {
    "integer-spike:D=4": StaircaseRule(levels=4, norm=4),
    "integer-spike:D=8,norm=4,half_up=true": StaircaseRule(levels=8, norm=4, half_up=True),
    "neuron:decay=1/2,gain=0.5,v_threshold=1": NeuronRule(
        decay=Fraction(1, 2), gain=Fraction(1, 2), v_threshold=Fraction(1)
    ),
    "neuron:decay=0.9,gain=1,v_threshold=3/2,strict=true,reset=subtract,reset_by=3/2": NeuronRule(
        decay=Fraction(9, 10),
        gain=Fraction(1),
        v_threshold=Fraction(3, 2),
        strict=True,
        reset=ops.Reset.BY_SUBTRACTION,
        reset_by=Fraction(3, 2),
    ),
    "neuron:decay=1,gain=1,v_threshold=1,reset=none,v_rest=-1/4,current_decay=1/2": NeuronRule(
        decay=Fraction(1),
        gain=Fraction(1),
        v_threshold=Fraction(1),
        reset=ops.Reset.NONE,
        v_rest=Fraction(-1, 4),
        current_decay=Fraction(1, 2),
    ),
    _LIF: KnownAs(_LIF),
}


@pytest.mark.parametrize(("text", "rule"), RULES.items(), ids=list(RULES))
def test_a_rule_is_read_and_written_the_same(text: str, rule: Any) -> None:
    assert parse_rule(text) == rule
    assert parse_rule(rule_text(rule)) == rule


def test_written_rules_are_canonical() -> None:
    texts = [rule_text(rule) for rule in RULES.values()]
    assert texts[:3] == [
        "integer-spike:D=4,norm=4",
        "integer-spike:D=8,norm=4,half_up=true",
        "neuron:decay=1/2,gain=1/2,v_threshold=1",
    ]
    assert texts[3].endswith("v_threshold=3/2,strict=true,reset=subtract,reset_by=3/2")
    each = Thresholds((Fraction(1), Fraction(2)), (2,))
    differs = NeuronRule(decay=Fraction(0), gain=Fraction(1), v_threshold=each)
    assert rule_text(differs) == "neuron:decay=0,gain=1,v_threshold=2:1;2"
    assert parse_rule(rule_text(differs)) == differs


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("their.Neuron", r"'their\.Neuron' is no neuron that lapilli knows; give one of docs"),
        ("integer-spike:", "'' is no KEY=VALUE"),
        ("integer-spike:norm=4", "lacks D"),
        ("integer-spike:D=four", "invalid literal"),
        ("integer-spike:D=0", "both must be positive"),
        ("integer-spike:D=4,D=4", "'D=4' is no KEY=VALUE of its own"),
        ("integer-spike:D=4,half_up=yes", "'yes' is neither true nor false"),
        ("integer-spike:D=4,T=4", "'T' is none of D, norm, half_up"),
        ("neuron:decay=1/2,gain=1", "lacks v_threshold"),
        ("neuron:decay=1/0,gain=1,v_threshold=1", "1/0"),
        ("neuron:decay=nan,gain=1,v_threshold=1", "nan"),
        ("neuron:decay=2,gain=1,v_threshold=1", "keeps 0 to 1 of itself"),
        ("neuron:decay=0,gain=1,v_threshold=1,reset=soft", "'soft' is none of zero, subtract"),
        ("lif:tau=2", "'lif' is none of integer-spike, neuron"),
    ],
)
def test_what_is_no_rule_says_why(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse_rule(text)


@pytest.mark.parametrize("text", ["a.B", "=integer-spike:D=4", "a.B="])
def test_a_description_has_two_sides(text: str) -> None:
    with pytest.raises(InputError, match="described by CLASS=RULE"):
        parse_neurons([text])
    with pytest.raises(InputError, match=r"'a\.B' is described twice"):
        parse_neurons(["a.B=integer-spike:D=4", "a.B=integer-spike:D=2"])


# ---- neurons under another name ----------------------------------------------------------------


class Spike(nn.Module):
    """E-SpikeFormer's, as its authors write it."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.round(x.clamp(0, 4)) / 4
        return y


class Renamed(LIF):
    """The same neuron with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = super().forward(x)
        return spikes


class Fixed(LIF):
    """Nothing but arguments."""

    def __init__(self) -> None:
        super().__init__(v_threshold=0.5)


class Fires(LIF):
    """A subclass that does something else in a method that is inherited elsewhere."""

    def trace(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().trace(x * 2)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def test_a_described_integer_spike_is_exact() -> None:
    described = parse_neurons([f"{_name(Spike)}=integer-spike:D=4"])
    made = quantized(Net(IntegerSpike(), Spike()), neurons=described)
    assert compared(made) > 10_000


def test_a_known_neuron_under_another_name_is_exact() -> None:
    net = Net(LIF(), Renamed(v_threshold=0.5))
    assert adapter_of(net.second) is None
    described = parse_neurons([f"{_name(Renamed)}={_LIF}"])
    assert compared(quantized(net, neurons=described)) > 10_000
    assert adapter_of(net.second) is None
    assert adapter_of(describe(net, described).get_submodule("second")) is ADAPTERS[_LIF]
    assert adapter_of(describe(net, described).get_submodule("first")) is ADAPTERS[_LIF]


def test_a_wrong_name_is_not_believed() -> None:
    described = parse_neurons([f"{_name(Spike)}={_LIF}"])
    with pytest.raises(
        CaptureError, match=r"'second': Spike: has no 'tau', by which a lapilli.*LIF would be read"
    ):
        quantized(Net(LIF(), Spike()), neurons=described)


def test_a_subclass_that_only_constructs_is_what_it_inherits() -> None:
    assert adapter_of(Fixed()) is ADAPTERS[_LIF]
    assert adapter_of(Fires()) is None
    assert adapter_of(Renamed()) is None
    made = quantized(Net(Fixed(), Fixed()))
    assert compared(made) > 10_000


def test_an_instance_that_was_given_another_forward_is_probed() -> None:
    class Quiet(LIF):
        def __init__(self) -> None:
            super().__init__()
            self.trace = lambda x: (0 * x, x)  # type: ignore[method-assign]

    assert adapter_of(Quiet()) is ADAPTERS[_LIF]
    with pytest.raises(CaptureError, match=r"module 'first': is not what its rule says"):
        quantized(Net(Quiet(), LIF()))
