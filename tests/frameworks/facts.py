"""What an example does, beside what its adapter says it does.

Each runs in float64, in the way that its users run it, on random currents of which many meet
the threshold exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from frameworks.examples import Example, T
from torch import Tensor

from lapilli.ir import ops
from lapilli.ir.semantics import State, evaluate, integrate
from lapilli.model.neurons.adapters import adapter_of
from lapilli.model.neurons.general_rule import Constants, GeneralRule
from lapilli.model.neurons.rule import Adapter, NeuronRule, Rule, StaircaseRule
from lapilli.model.neurons.simulate import simulate
from lapilli.quantize.neurons import IntegerNeuron, integer_neuron

LANES, NEURONS = 4, 512


@dataclass(frozen=True, slots=True)
class Fact:
    """What was seen of one example."""

    label: str
    kind: str
    rule: str
    start: str
    integers: str
    compared: int
    differ: int
    rate: float
    shows: str


def look(example: Example) -> Fact:
    """Run one example and compare it with its adapter."""
    module = example.module.double().eval()
    adapter = adapter_of(module)
    if adapter is None:
        raise TypeError(f"{example.label}: {type(module)} has no adapter")
    rule = adapter.rule(module)
    scale = _scale(rule)
    made = integer_neuron(rule, scale, T)
    random = torch.Generator().manual_seed(1)
    shape: tuple[int, ...] = (T, LANES, NEURONS)
    if isinstance(rule, GeneralRule) and rule.shape != (1,):
        shape = (T, LANES * NEURONS // math.prod(rule.shape), *rule.shape)
    n = torch.randint(-9, 17, shape, generator=random)
    x = n.double() * float(scale)
    if not made.exact:  # floats round: away from ties
        x = x + torch.randn(shape, generator=random, dtype=torch.float64) * float(scale)
    with torch.no_grad():
        spikes = example.run(module, x).double()
        traced, membranes = adapter.trace(module, x)
        again = example.run(module, x).double()  # the trace has left it as it was
    want, state = _integers(made, n, rule) if made.exact else simulate(rule, x)
    differ = sum(int((a != b).sum()) for a, b in ((spikes, want), (traced, want), (again, want)))
    compared = 3 * spikes.numel()
    if made.exact:
        differ += int((membranes != state).sum())
        compared += state.numel()
    return Fact(
        label=example.label,
        kind=f"{type(module).__module__}.{type(module).__qualname__}",
        rule=_in_words(rule, silent=adapter.silent),
        start=_start(rule),
        integers="exact in floats" if made.exact else "integer neuron on both sides",
        compared=compared,
        differ=differ,
        rate=float((spikes != 0).double().mean()),
        shows=_shown(adapter, module, rule),
    )


def _scale(rule: Rule) -> Fraction:
    """A grid of currents that meets every threshold."""
    if isinstance(rule, GeneralRule):
        taps = [abs(tap) for tap in rule.taps.values if tap]
        theta = rule.reset_by.values[0] * 2 if rule.levels > 1 else max(rule.thresholds.values)
        return theta * len(taps) / sum(taps, Fraction(0)) / 8
    return rule.thetas[0] / rule.gain / 8 if isinstance(rule, NeuronRule) else Fraction(1, 4)


def _integers(made: IntegerNeuron, n: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """Spikes and membranes of the integer neuron, in real units."""
    x = n.numpy()
    if isinstance(made.op, ops.Staircase):
        counts = torch.from_numpy(evaluate(made.op, (x,)))
        return counts.double() * float(rule.output_scale), n.double() * float(made.scale)
    assert isinstance(made.op, ops.Integrating)
    state = State.zeros(x.shape[1:])
    spikes, membranes = [], []
    for current in x:
        fired = integrate(made.op, current, state)
        state = fired.state
        spikes.append(torch.from_numpy(fired.spikes).double())
        membranes.append(torch.from_numpy(fired.membrane).double())
    unit = float(made.unit / 2**made.op.fraction_bits)
    rest = float(rule.v_rest) if isinstance(rule, NeuronRule) else 0.0
    return torch.stack(spikes), torch.stack(membranes) * unit + rest


def _start(rule: Rule) -> str:
    if isinstance(rule, StaircaseRule):
        return "no state"
    return _number(rule.v_rest) if isinstance(rule, NeuronRule) else "0"


def _shown(adapter: Adapter, module: Any, rule: Rule) -> str:
    """Which membrane the author's forward can read."""
    if adapter.silent:
        return "the answer"
    if isinstance(rule, GeneralRule):
        return "refused"
    if not adapter.stepwise(module) or not adapter.membrane:
        return "no"
    return "after reset" if adapter.shows_after_reset(module) else "before reset"


def _in_words(rule: Rule, *, silent: bool) -> str:
    if isinstance(rule, StaircaseRule):
        return f"round(clamp(x, 0, {rule.levels})) / {rule.norm}, half to even"
    if isinstance(rule, GeneralRule):
        return _general_words(rule)
    sign = ">" if rule.strict else ">="
    parts = [f"keeps {_number(rule.decay)}", f"input x {_number(rule.gain)}"]
    if rule.current_decay:
        parts.append(f"current keeps {_number(rule.current_decay)}")
    if silent:
        return ", ".join([*parts, "no spikes: answers h"])
    fires = f"h {sign} {_number(rule.v_rest + rule.thetas[0])}"
    parts.append(f"|{fires[0]}|{fires[1:]}" if rule.ternary else fires)
    reset = {
        ops.Reset.TO_ZERO: f"to {_number(rule.v_rest)}",
        ops.Reset.BY_SUBTRACTION: f"by {_number(rule.reset_by)}",
        ops.Reset.NONE: "none",
    }[rule.reset]
    return ", ".join([*parts, f"reset {reset}"])


def _general_words(rule: GeneralRule) -> str:
    """Constants of each step or channel by their ends."""
    K = rule.taps.shape[1]
    latest = f"latest {K} inputs" if K > 1 else "input"
    parts = [f"keeps {_span(rule.decay)}", f"{latest} x {_span(rule.taps)}"]
    if any(rule.bias.values):
        parts.append(f"adds {_span(rule.bias)}")
    if rule.floored:
        parts.append("at least 0")
    if rule.levels > 1:
        parts.append(f"up to {rule.levels} events, h at {_span(rule.thresholds)}")
    else:
        parts.append(f"h {'>' if rule.strict[0] else '>='} {_span(rule.thresholds)}")
    reset = {
        ops.Reset.TO_ZERO: "to 0",
        ops.Reset.BY_SUBTRACTION: f"by {_span(rule.reset_by)}",
        ops.Reset.NONE: "none",
    }[rule.reset]
    return ", ".join([*parts, f"reset {reset}"])


def _span(constants: Constants) -> str:
    low, high = min(constants.values), max(constants.values)
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"


def _number(value: Fraction) -> str:
    short = value.denominator <= 4096
    return str(value) if short else f"{float(value):.6g}"
