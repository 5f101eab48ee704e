"""Wrong rules, each one fault away from a right one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from lapilli.ir import ops
from lapilli.model.neurons.rule import Rule, StaircaseRule


def faulty(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """The same neuron with one constant wrong, as an adapter might have it."""
    if isinstance(rule, StaircaseRule):
        yield "levels", replace(rule, levels=rule.levels - 1)
        yield "norm", replace(rule, norm=rule.norm + 1)
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
