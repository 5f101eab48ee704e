"""Wrong rules, each one fault away from a right one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from lapilli.ir import ops
from lapilli.model.neurons.general_rule import Constants, GeneralRule
from lapilli.model.neurons.rule import Rule, StaircaseRule


def faulty(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """The same neuron with one constant wrong, as an adapter might have it."""
    if isinstance(rule, StaircaseRule):
        yield "levels", replace(rule, levels=rule.levels - 1)
        yield "norm", replace(rule, norm=rule.norm + 1)
        return
    if isinstance(rule, GeneralRule):
        yield from _general(rule)
        return
    yield "decay", replace(rule, decay=rule.decay * Fraction(15, 16))
    yield "gain", replace(rule, gain=rule.gain * Fraction(7, 8))
    yield "input not decayed", replace(rule, gain=rule.gain / 2)
    yield "threshold", replace(rule, v_threshold=(rule.v_rest + rule.thetas[0]) * Fraction(17, 16))
    yield "strict", replace(rule, strict=not rule.strict)
    yield "ternary", replace(rule, ternary=not rule.ternary, v_rest=Fraction(0))
    yield "v_reset", replace(rule, v_rest=rule.v_rest - Fraction(1, 8), ternary=False)
    current = Fraction(0) if rule.current_decay else Fraction(1, 4)
    yield "synaptic current", replace(rule, current_decay=current)
    for reset in ops.Reset:
        if reset is not rule.reset:
            yield reset.value, replace(rule, reset=reset, reset_by=rule.thetas[0])
    if rule.reset is ops.Reset.BY_SUBTRACTION:
        yield "order", replace(rule, reset_by=rule.reset_by * Fraction(3, 4))


def _general(rule: GeneralRule) -> Iterator[tuple[str, Rule]]:
    yield "taps", replace(rule, taps=_times(rule.taps, Fraction(7, 8)))
    yield "thresholds", replace(rule, thresholds=_times(rule.thresholds, Fraction(17, 16)))
    if any(rule.decay.values):
        yield "decay", replace(rule, decay=_times(rule.decay, Fraction(13, 16)))
    if rule.floored or any(v > 0 for v in rule.decay.values):
        yield "floor", replace(rule, floored=not rule.floored)
    if any(rule.bias.values):
        yield "bias", replace(rule, bias=_times(rule.bias, Fraction(2)))
    if rule.taps.shape[1] > 1:
        oldest = rule.taps.array[:, ::-1]
        yield "order", replace(rule, taps=Constants(tuple(oldest.ravel()), rule.taps.shape))
    if rule.steps:
        first = rule.thresholds.array[:1]
        yield "steps", replace(rule, thresholds=Constants(tuple(first.ravel()), first.shape))
    if any(rule.decay.values):
        for reset in ops.Reset:
            if reset is not rule.reset:
                by = Constants.one(max(rule.thresholds.values))
                yield reset.value, replace(rule, reset=reset, reset_by=by)


def _times(constants: Constants, factor: Fraction) -> Constants:
    return Constants(tuple(v * factor for v in constants.values), constants.shape)
