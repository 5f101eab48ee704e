"""Is a neuron what its adapter says? Random currents, exact ties among them, decide.

Run for every neuron before it is believed: a user's description may be wrong, and so may a
framework of another version than ours, or an option that an adapter does not look at.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from lapilli.ir.errors import CaptureError
from lapilli.model.capture import program
from lapilli.model.capture.opaque_step import shown_membrane
from lapilli.model.capture.program import Captured
from lapilli.model.neurons.adapters import adapter_of, rule_of
from lapilli.model.neurons.copies import copied
from lapilli.model.neurons.general_rule import GeneralRule
from lapilli.model.neurons.rule import NeuronRule, Rule, StaircaseRule
from lapilli.model.neurons.simulate import left, simulate

_STEPS, _LANES, _NEURONS = 12, 2, 192
_FEW = 1 << 16  # products of few such numbers stay far below the 53 bits of float64


def probe_all(captured: Captured) -> int:
    """`probe` every neuron of a captured model; return how many values were compared."""
    ops = [
        c.op for c in captured.calls.values() if isinstance(c.op, program.Neuron | program.Membrane)
    ]
    paths = dict.fromkeys(
        op.neuron.module if isinstance(op, program.Membrane) else op.module for op in ops
    )
    compared = sum(probe(captured.module.get_submodule(path), path) for path in paths)
    read = {op.neuron.module: op.after_reset for op in ops if isinstance(op, program.Membrane)}
    for path, after_reset in read.items():
        compared += probe_membrane(captured.module.get_submodule(path), path, after_reset)
    return compared


def probe_membrane(module: nn.Module, path: str, after_reset: bool) -> int:
    """Compare the membrane that a neuron of one step a call shows with its rule's.

    As near as float64 is: what has to be told apart differs by a reset.

    Raises:
        CaptureError: it shows none, or another one.
    """
    own = copied(module).double().eval()
    adapter, rule = adapter_of(own), rule_of(own, path)
    if isinstance(rule, GeneralRule):
        raise CaptureError(
            path, "its membrane is read, and it has constants of each step or channel, or a floor"
        )
    if adapter is None or isinstance(rule, StaircaseRule):
        raise CaptureError(path, "has no membrane")
    x = _currents(rule, _STEPS)[0]
    adapter.forget(own)
    got: list[Tensor | None] = []
    state: tuple[Any, ...] = ()
    with torch.no_grad():
        for current in x:
            answer = own(current, *state)
            state = answer[1:] if isinstance(answer, tuple) and not adapter.keeps_state else ()
            got.append(shown_membrane(own, adapter.membrane, answer))
    spikes, want = simulate(rule, x)
    want = left(rule, want, spikes) if after_reset else want
    near = 2.0**-40 * float(want.abs().max())
    for t, shown in enumerate(got):
        if shown is None or shown.shape != x[t].shape:
            raise CaptureError(path, "shows no membrane after a step")
        if float((shown - want[t]).abs().max()) > near:
            when = "after" if after_reset else "before"
            raise CaptureError(
                path, f"the membrane that it shows at step {t} is not that {when} its reset"
            )
    return want.numel()


def probe(module: nn.Module, path: str, rule: Rule | None = None) -> int:
    """Compare a neuron's spikes with its rule's; return how many were compared.

    Args:
        module: of a class that has an adapter; it is copied.
        path: for messages.
        rule: what it is compared with; by default what its adapter reads off it.

    Raises:
        CaptureError: its forward fails on (T, B, features), it never or always fires, or the
            first spike that differs, with the currents up to it.
    """
    own = copied(module).double().eval()
    adapter, rule = adapter_of(own), rule or rule_of(own, path)
    if adapter is None:
        raise CaptureError(path, "is no neuron")
    compared = 0
    T = adapter.folded(own) or (isinstance(rule, GeneralRule) and rule.steps) or _STEPS
    for x in _currents(rule, T):
        try:
            got = adapter.trace(own, x)[0]
        except Exception as error:
            raise CaptureError(path, f"its forward fails on {tuple(x.shape)}: {error}") from error
        compared += _compare(path, rule, x, got)
    return compared


def _compare(path: str, rule: Rule, x: Tensor, got: Tensor) -> int:
    want = simulate(rule, x)[0]
    if got.shape != want.shape:
        raise CaptureError(path, f"answers {tuple(x.shape)} by {tuple(got.shape)}")
    if len(wrong := (got.to(want.dtype) != want).nonzero()):
        first = tuple(int(i) for i in wrong[0])
        t, where = first[0], first[1:]
        shown = ", ".join(f"{float(current[where]):g}" for current in x[: t + 1])
        raise CaptureError(
            path,
            f"is not what its rule says: after currents {shown} it gives "
            f"{float(got[first]):g}, the rule {float(want[first]):g} "
            f"(step {t}; {len(wrong)} of {want.numel()} differ). The rule: {rule}",
        )
    if not 0 < float((want != 0).double().mean()) < 1:
        raise CaptureError(path, f"shows nothing: it never or always fires. The rule: {rule}")
    return want.numel()


def _currents(rule: Rule, T: int) -> list[Tensor]:
    """Sequences (T, B, ...): one anywhere, one on a grid that meets the thresholds."""
    random = torch.Generator().manual_seed(0)
    shape: tuple[int, ...] = (T, _LANES, _NEURONS)
    if isinstance(rule, NeuronRule) and len(rule.thetas) > 1:
        shape = (T, max(_LANES, _LANES * _NEURONS // len(rule.thetas)), *rule.shape)
    if isinstance(rule, GeneralRule):
        return _general_currents(rule, T)
    noise = torch.randn(shape, generator=random, dtype=torch.float64)
    if isinstance(rule, StaircaseRule):
        steps = torch.randint(-2, 2 * rule.levels + 3, shape, generator=random)
        return [noise * rule.levels, steps.double() / 2]
    units = [float(theta / rule.gain) for theta in rule.thetas]
    unit = torch.tensor(units, dtype=torch.float64).reshape(rule.shape)
    anywhere = (noise * 0.8 + 0.3) * unit
    eighths = torch.randint(-6, 13, shape, generator=random).double()
    ties = eighths * (unit / 8)
    if not _dyadic(rule.decay, rule.current_decay, rule.reset_by):
        ties[1:] = anywhere[1:]  # from rest, only the first step is free of rounding
    if not _dyadic(rule.gain, 1 / rule.gain, *rule.thetas, rule.v_rest):
        return [anywhere]
    return [anywhere, ties]


def _general_currents(rule: GeneralRule, T: int) -> list[Tensor]:
    """The same for constants of many kinds: in units of the thresholds over the taps."""
    random = torch.Generator().manual_seed(0)
    channels = math.prod(rule.shape)
    shape = (T, max(_LANES, _LANES * _NEURONS // channels), *rule.shape)
    if channels == 1:
        shape = (T, _LANES, _NEURONS)
    noise = torch.randn(shape, generator=random, dtype=torch.float64)
    theta = max(abs(value) for value in rule.thresholds.values)
    unit = theta / max(abs(tap) for tap in rule.taps.values)
    anywhere = (noise * 0.8 + 0.3) * float(unit)
    constants = (rule.taps, rule.decay, rule.current_decay, rule.bias, rule.thresholds)
    numbers = {v for each in (*constants, rule.reset_by) for v in each.values}
    if not _dyadic(unit, *numbers):
        return [anywhere]
    eighths = torch.randint(-6, 13, shape, generator=random).double()
    return [anywhere, eighths * float(unit / 8)]


def _dyadic(*constants: Fraction) -> bool:
    """Whether float64 computes with these without rounding, so that ties are ties."""
    return all(
        c.denominator & (c.denominator - 1) == 0 and max(abs(c.numerator), c.denominator) < _FEW
        for c in constants
    )
