"""Is a neuron what its row says? Random currents, exact ties among them, decide.

Run for every neuron before it is believed: a user's description may be wrong, and so may a
framework of another version than ours, or an option that a row does not look at.
"""

from __future__ import annotations

import copy
from fractions import Fraction

import torch
from torch import Tensor, nn

from lapilli.ir.errors import CaptureError
from lapilli.model.adapters import adapter_of, rule_of
from lapilli.model.program import Captured, Fire
from lapilli.model.rule import NeuronRule, Rule, StaircaseRule
from lapilli.model.simulate import simulate

_STEPS, _LANES, _NEURONS = 12, 2, 192
_FEW = 1 << 16  # products of few such numbers stay far below the 53 bits of float64


def probe_all(captured: Captured) -> int:
    """`probe` every neuron of a captured model; return how many spikes were compared."""
    fired = (call.op.module for call in captured.calls.values() if isinstance(call.op, Fire))
    return sum(probe(captured.module.get_submodule(path), path) for path in dict.fromkeys(fired))


def probe(module: nn.Module, path: str, rule: Rule | None = None) -> int:
    """Compare a neuron's spikes with its rule's; return how many were compared.

    Args:
        module: of a class that has a row; it is copied.
        path: for messages.
        rule: what it is compared with; by default what its row reads off it.

    Raises:
        CaptureError: its forward fails on (T, B, features), it never or always fires, or the
            first spike that differs, with the currents up to it.
    """
    own = copy.deepcopy(module).double().eval()
    adapter, rule = adapter_of(own), rule or rule_of(own, path)
    if adapter is None:
        raise CaptureError(path, "is no neuron")
    compared = 0
    T = adapter.folded(own) or _STEPS
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
    if not _dyadic(rule.gain, 1 / rule.gain, *rule.thetas, rule.rest):
        return [anywhere]
    return [anywhere, ties]


def _dyadic(*constants: Fraction) -> bool:
    """Whether float64 computes with these without rounding, so that ties are ties."""
    return all(
        c.denominator & (c.denominator - 1) == 0 and max(abs(c.numerator), c.denominator) < _FEW
        for c in constants
    )
