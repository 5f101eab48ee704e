"""The interval of a neuron's state over a sample: what `infer` and `certificate` prove with."""

from __future__ import annotations

from dataclasses import dataclass

from lapilli.ir import ops
from lapilli.ir.types import IntRange, TensorType


@dataclass(frozen=True, slots=True)
class NeuronBounds:
    """Proven for one neuron node over the T steps of a sample, in state units.

    Attributes:
        current: the input before the fraction shift, in synaptic units.
        u: synaptic current; v: membrane before reset; after: what resets leave of it.
        truncates: whether a decay, or a shift to the right, can drop a bit that is not zero.
    """

    name: str
    current: IntRange
    u: IntRange
    v: IntRange
    after: IntRange
    truncates: bool

    @property
    def state_bits(self) -> int:
        """Bits that u and v need, sign included."""
        return (self.u | self.v | IntRange(-1, 0)).bits


def neuron_bounds(name: str, op: ops.Neuron, x: TensorType, T: int) -> NeuronBounds:
    """Follow the interval of the state through `T` steps, resets included."""
    u = v = IntRange(0, 0)  # before the step
    u_all = v_all = after = IntRange(0, 0)
    for _ in range(T):
        before = u, v
        u = _decayed(u, op.du) + x.range.shifted(op.fraction_bits)
        h = _decayed(v, op.dv) + u + op.bias.range
        u_all, v_all = u_all | u, v_all | h
        v = _after_reset(op, h)
        after |= v
        if (u, v) == before:  # and so are all further steps
            break
    return NeuronBounds(name, x.range, u_all, v_all, after, finest_bit(op, T) < 0)


def _after_reset(op: ops.Neuron, h: IntRange) -> IntRange:
    """Union of where the membrane can be after it was silent, or fired either way."""
    if op.reset is ops.Reset.NONE:
        return h
    low, high = op.threshold.range.lo, op.threshold.range.hi
    silent = _overlap(h, 1 - high if op.ternary else h.lo, high - 1)
    fired = [_overlap(h, low, h.hi), _overlap(h, h.lo, -low) if op.ternary else None]
    after = [silent] if silent else []
    for part, r in zip(fired, (op.reset_by, -op.reset_by), strict=True):
        if part and op.reset is ops.Reset.BY_SUBTRACTION:
            after.append(IntRange(part.lo - r, part.hi - r))
        elif part:
            after.append(IntRange(0, 0))
    return IntRange(min(r.lo for r in after), max(r.hi for r in after))


def _overlap(r: IntRange, lo: int, hi: int) -> IntRange | None:
    lo, hi = max(r.lo, lo), min(r.hi, hi)
    return IntRange(lo, hi) if lo <= hi else None


def _decayed(r: IntRange, d: int) -> IntRange:
    return IntRange(_decay(r.lo, d), _decay(r.hi, d))


def _decay(a: int, d: int) -> int:
    """`semantics.decay` in Python's integers, which are of any length: a proof must not wrap."""
    kept = abs(a) * (ops.DECAY_ONE - d) >> ops.DECAY_BITS
    return kept if a >= 0 else -kept


def trailing_zeros(value: int) -> int:
    """Number of times that 2 divides a value that is not zero."""
    return (value & -value).bit_length() - 1


def fraction_loss(d: int) -> int:
    """Bits that one decay moves below the unit: 1 for a half, 12 at most, 0 for all or none."""
    kept = ops.DECAY_ONE - d
    return 0 if kept == 0 else ops.DECAY_BITS - trailing_zeros(kept)


def finest_bit(op: ops.Neuron, T: int) -> int:
    """Power of two of which every membrane is a multiple; negative if a decay can truncate."""
    added = [int(b) for b in op.bias.array.ravel() if b]
    added += [op.reset_by] if op.reset is ops.Reset.BY_SUBTRACTION and op.reset_by else []
    finest = min([op.fraction_bits, *map(trailing_zeros, added)])
    # Between two steps a value decays once, in u or in v: T - 1 times, of either kind, in all.
    loss = max(fraction_loss(op.du), fraction_loss(op.dv)) * (T - 1)
    return finest - loss
