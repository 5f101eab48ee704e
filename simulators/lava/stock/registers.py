"""A neuron's constants in Loihi's registers: thresholds and biases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lapilli.ir import ops
from lapilli.ir.bounds import trailing_zeros
from lapilli.ir.errors import Unsupported
from lapilli.ir.loihi import TIE, unsupported_dynamics
from lapilli.ir.targets.loihi1 import BIAS, THRESHOLD
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.simulators.lava.stock.network import Registers

_MOST_BIAS_EXPONENT = 7


def unsupported(name: str, op: ops.Neuron) -> tuple[Unsupported, ...]:
    """Why no `LIFReset` can be this neuron, whatever drives it; empty if one can.

    Unlike one of Lava's processes, a node may have many thresholds: it is many populations.
    """
    reasons = []
    theta = op.threshold.array
    if wrong := sorted({int(t) for t in theta.ravel() if t % TIE != 1}):
        reasons.append(f"threshold {wrong[0]} is not 64 * vth + 1, so that >= and > would differ")
    if not THRESHOLD.holds(op.threshold.range):
        most = op.threshold.range.hi // TIE
        reasons.append(f"vth {most} needs more than {THRESHOLD.bits} bits")
    found = tuple(Unsupported(name, reason) for reason in reasons)
    return (*unsupported_dynamics(name, op), *found)


def thresholds(op: ops.Neuron, shape: tuple[int, ...]) -> IntArray:
    """Register vth of every neuron, row-major."""
    return np.broadcast_to(op.threshold.array // TIE, shape).ravel()


def at_zero(op: ops.Neuron) -> ops.Neuron:
    """A neuron without memory with vth = 0, if its bias register can hold the difference."""
    less = op.threshold.array - 1
    bias = op.bias.array - less
    if not forgets(op) or any(_bias_register(int(b)) is None for b in bias.ravel()):
        return op
    return replace(op, threshold=IntTensor.of([1]), bias=IntTensor(bias))


def forgets(op: ops.Neuron) -> bool:
    """Whether nothing lasts. Such a neuron is reset at every step: dv ends at 4095."""
    return op.dv == op.du == ops.DECAY_ONE


def registers_of(op: ops.Neuron, level: int, T: int) -> Registers:
    """What its population shares; a sample starts at Lava step level + 1."""
    if forgets(op):
        return Registers(du=ops.DECAY_ONE - 1, dv=0, interval=1, offset=0)
    return Registers(du=op.du - 1, dv=op.dv, interval=T, offset=(level + 1) % T)


def biases(
    op: ops.Neuron, constant: IntArray, shape: tuple[int, ...]
) -> tuple[IntArray, IntArray, IntArray]:
    """Mantissas and exponents of the bias registers, and what is left for a constant current.

    Without a current that lasts, a constant in it is the same as one in the register.

    Raises:
        OverflowError: a bias of its own that no register holds.
    """
    own = np.broadcast_to(op.bias.array, shape).ravel()
    mantissa, exponent, rest = (np.zeros(len(own), np.int64) for _ in range(3))
    for i, (bias, c) in enumerate(zip(own.tolist(), constant.tolist(), strict=True)):
        both = _bias_register(bias + (c << op.fraction_bits)) if op.du == ops.DECAY_ONE else None
        if both is None:
            rest[i], both = c, _bias_register(bias)
        if both is None:
            raise OverflowError(
                f"bias {bias} needs more than {BIAS.bits} bits and an exponent of 7"
            )
        mantissa[i], exponent[i] = both
    return mantissa, exponent, rest


def _bias_register(value: int) -> tuple[int, int] | None:
    exponent = min(_MOST_BIAS_EXPONENT, trailing_zeros(value)) if value else 0
    mantissa = value >> exponent
    return (mantissa, exponent) if -BIAS.largest - 1 <= mantissa <= BIAS.largest else None
