"""What can be proved about a graph's numbers before it runs.

For each neuron: the interval of its current and membrane over a whole sample, and whether
a decay can ever truncate. From these follow what fits Loihi's registers and what a float
runtime holds exactly (24 bits of float32, 53 of float64).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lapilli.ir.errors import RangeError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.ops import DECAY_ONE, LOIHI_FRACTION_BITS, Neuron, Reset
from lapilli.ir.semantics import decay
from lapilli.ir.types import IntRange, TensorType

STATE_BITS = 24  # u and v on Loihi; u wraps and v saturates silently beyond
THRESHOLD_BITS = 17  # vth, unsigned
BIAS_BITS = 13  # bias_mant, signed
TIE = 1 << LOIHI_FRACTION_BITS  # Loihi fires on v > vth * 64


@dataclass(frozen=True, slots=True)
class NeuronBounds:
    """Proven for one neuron node over the T steps of a sample, in state units.

    Attributes:
        current: the input before the fraction shift, in synaptic units.
        u: synaptic current; v: membrane before reset.
        truncates: whether a decay, or a shift to the right, can drop a bit that is not zero.
    """

    name: str
    current: IntRange
    u: IntRange
    v: IntRange
    truncates: bool

    @property
    def state_bits(self) -> int:
        """Bits that u and v need, sign included."""
        return (self.u | self.v | IntRange(-1, 0)).bits


def certify(graph: Graph) -> tuple[NeuronBounds, ...]:
    """Bounds of every neuron, in topological order."""
    return tuple(
        neuron_bounds(node.name, node.op, graph.types[node.inputs[0]], graph.T)
        for node in graph.nodes
        if isinstance(node.op, Neuron)
    )


def neuron_bounds(name: str, op: Neuron, x: TensorType, T: int) -> NeuronBounds:
    """Follow the interval of the state through `T` steps, resets included."""
    u = v = IntRange(0, 0)  # before the step
    u_all = v_all = IntRange(0, 0)
    for _ in range(T):
        u = _decayed(u, op.du) + x.range.shifted(op.fraction_bits)
        h = _decayed(v, op.dv) + u + op.bias.range
        u_all, v_all = u_all | u, v_all | h
        v = _after_reset(op, h)
    return NeuronBounds(name, x.range, u_all, v_all, _truncates(op, T))


def _after_reset(op: Neuron, h: IntRange) -> IntRange:
    """Union of where the membrane can be after it was silent, or fired either way."""
    if op.reset is Reset.NONE:
        return h
    low, high = op.threshold.range.lo, op.threshold.range.hi
    silent = _overlap(h, 1 - high if op.ternary else h.lo, high - 1)
    fired = [_overlap(h, low, h.hi), _overlap(h, h.lo, -low) if op.ternary else None]
    after = [silent] if silent else []
    for part, r in zip(fired, (op.reset_by, -op.reset_by), strict=True):
        if part and op.reset is Reset.BY_SUBTRACTION:
            after.append(IntRange(part.lo - r, part.hi - r))
        elif part:
            after.append(IntRange(0, 0))
    return IntRange(min(r.lo for r in after), max(r.hi for r in after))


def _overlap(r: IntRange, lo: int, hi: int) -> IntRange | None:
    lo, hi = max(r.lo, lo), min(r.hi, hi)
    return IntRange(lo, hi) if lo <= hi else None


def _decayed(r: IntRange, d: int) -> IntRange:
    lo, hi = decay(np.array([r.lo, r.hi]), d).tolist()
    return IntRange(lo, hi)


def trailing_zeros(value: int) -> int:
    """Number of times that 2 divides a value that is not zero."""
    return (value & -value).bit_length() - 1


def fraction_loss(d: int) -> int:
    """Bits that one decay moves below the unit: 1 for a half, 12 at most, 0 for all or none."""
    kept = DECAY_ONE - d
    return 0 if kept == 0 else 12 - trailing_zeros(kept)


def _truncates(op: Neuron, T: int) -> bool:
    added = [int(b) for b in op.bias.array.ravel() if b]
    added += [op.reset_by] if op.reset is Reset.BY_SUBTRACTION and op.reset_by else []
    finest = min([op.fraction_bits, *map(trailing_zeros, added)])
    # Between two steps a value decays once, in u or in v: T - 1 times, of either kind, in all.
    loss = max(fraction_loss(op.du), fraction_loss(op.dv)) * (T - 1)
    return finest - loss < 0


def beyond_registers(bounds: NeuronBounds) -> str:
    """Which of Loihi's 24 bits a state could leave; empty if it fits."""
    if max(bounds.u.magnitude, bounds.v.magnitude) < 1 << (STATE_BITS - 1):
        return ""
    reach = bounds.u | bounds.v
    return (
        f"its state can reach [{reach.lo}, {reach.hi}] and needs {max(25, bounds.state_bits)} "
        f"bits; Loihi's registers have {STATE_BITS}"
    )


def check_registers(graph: Graph) -> None:
    """Refuse a graph whose state could leave Loihi's 24 bits.

    Raises:
        RangeError: the node, the bits it needs and the bits there are.
    """
    for bounds in certify(graph):
        if problem := beyond_registers(bounds):
            raise RangeError(bounds.name, f"{problem}; quantize this layer to fewer bits")


def register_faults(node: Node, bounds: NeuronBounds) -> tuple[str, ...]:
    """Why stock Loihi registers cannot hold this neuron; empty if they can."""
    op = node.op
    if not isinstance(op, Neuron):
        return ()
    faults = []
    if op.threshold.array.size != 1:
        faults.append("one threshold per neuron; a stock population has one for all")
    elif (theta := int(op.threshold.array.ravel()[0])) % TIE != 1:
        faults.append(f"threshold {theta} is not 64 * vth + 1, so that >= and > would differ")
    elif theta >> LOIHI_FRACTION_BITS >= 1 << THRESHOLD_BITS:
        faults.append(f"vth {theta >> LOIHI_FRACTION_BITS} needs more than {THRESHOLD_BITS} bits")
    if op.bias.range.magnitude >= 1 << (BIAS_BITS - 1):
        faults.append(f"bias up to {op.bias.range.magnitude} needs more than {BIAS_BITS} bits")
    if op.fraction_bits < LOIHI_FRACTION_BITS:
        faults.append(f"{op.fraction_bits} fraction bits; Loihi shifts its input by 6")
    if beyond_registers(bounds):
        faults.append(f"state needs {max(25, bounds.state_bits)} bits, there are {STATE_BITS}")
    return tuple(faults)
