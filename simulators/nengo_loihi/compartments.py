"""A neuron's constants in the registers of nengo-loihi's compartments, or why they do not fit.

A compartment fires where v > vth and resets to zero; vth counts from 1 in units of 64. It keeps
a potential from step to step, and `decay_v` ends at 4095 of 4096. What forgets at once is said by
the lowest potential, zero, and a threshold of 64: what is left of at most 64 decays to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import Self

from lapilli.ir import ops
from lapilli.ir.bounds import trailing_zeros
from lapilli.ir.errors import Unsupported
from lapilli.ir.loihi import TIE, unsupported_dynamics
from lapilli.ir.targets.loihi1 import BIAS, STATE, THRESHOLD
from lapilli.ir.tensor import IntArray

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_DECAY = ops.DECAY_ONE - 1
_MOST_EXPONENT = 7  # of a bias


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Compartments:
    """Registers, an element for each compartment.

    Attributes:
        decay_u, decay_v: as the registers count: decay_u is one less than what decays.
        vth, bias, vmin: in units of the state.
        first, last: steps of the emulator in which it computes; at rest in all others.
    """

    decay_u: IntArray
    decay_v: IntArray
    vth: IntArray
    bias: IntArray
    vmin: IntArray
    first: IntArray
    last: IntArray

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of many nodes, in a row."""
        return cls(
            **{
                f.name: np.concatenate([getattr(part, f.name) for part in parts])
                for f in fields(cls)
            }
        )


def forgets(op: ops.Neuron) -> bool:
    """Whether nothing lasts from one step to the next."""
    return op.dv == op.du == ops.DECAY_ONE


def unsupported(name: str, op: ops.Neuron) -> tuple[Unsupported, ...]:
    """Why no compartment can be this neuron, whatever drives it; empty if one can."""
    reasons = []
    theta = op.threshold
    if not forgets(op):  # else the bias takes what the threshold cannot say
        if wrong := sorted({int(t) for t in theta.array.ravel() if t % TIE != 1}):
            reasons.append(f"threshold {wrong[0]} is not 64 * vth + 1, so that >= and > differ")
        elif theta.range.lo < TIE:
            reasons.append(f"vth {theta.range.lo // TIE}; the register counts from 1")
        if not THRESHOLD.holds(theta.range):
            reasons.append(f"vth {theta.range.hi // TIE} needs more than {THRESHOLD.bits} bits")
    found = tuple(Unsupported(name, reason) for reason in reasons)
    return (*unsupported_dynamics(name, op), *found)


def made(
    op: ops.Neuron, shape: tuple[int, ...], bias: IntArray, window: tuple[int, int]
) -> Compartments:
    """Compartments of a node of 6 fraction bits.

    Args:
        op: the neuron.
        shape: of its node.
        bias: of each, as `constants` gives it.
        window: first and last step of the emulator.
    """
    size = len(bias)
    if forgets(op):
        decay_u, decay_v, vmin = MOST_DECAY, MOST_DECAY, 0
        vth = np.full(size, TIE)
    else:
        decay_u, decay_v, vmin = op.du - 1, op.dv, -STATE.largest
        vth = _each(op.threshold.array, shape) - 1
    registers = [np.full(size, value) for value in (decay_u, decay_v, vmin, *window)]
    return Compartments(
        decay_u=registers[0], decay_v=registers[1], vmin=registers[2], vth=vth, bias=bias,
        first=registers[3], last=registers[4],
    )  # fmt: skip


def constants(
    op: ops.Neuron, shape: tuple[int, ...], constant: IntArray
) -> tuple[IntArray, IntArray]:
    """Bias registers of the elements of a node, and what remains as a current of each step.

    Without a current that lasts, both are the same, in units of 64.

    Raises:
        OverflowError: a bias that no register holds, beside a current that lasts.
    """
    own = _each(op.bias.array, shape)
    if forgets(op):
        own = own - _each(op.threshold.array, shape) + TIE + 1
    register, rest = np.zeros_like(own), np.zeros_like(own)
    for i, (bias, c) in enumerate(zip(own.tolist(), constant.tolist(), strict=True)):
        if op.du != ops.DECAY_ONE:
            if not _holds(bias):
                raise OverflowError(
                    f"bias {bias} needs more than {BIAS.bits} bits and an exponent of 7"
                )
            register[i], rest[i] = bias, c
        elif _holds(both := bias + (c << ops.LOIHI_FRACTION_BITS)):
            register[i] = both
        else:
            register[i], rest[i] = both % TIE, both // TIE
    return register, rest


def _each(values: IntArray, shape: tuple[int, ...]) -> IntArray:
    """Of every element of a node, row-major."""
    return np.broadcast_to(values, shape).ravel()


def _holds(bias: int) -> bool:
    exponent = min(_MOST_EXPONENT, trailing_zeros(bias)) if bias else 0
    return abs(bias >> exponent) <= BIAS.largest
