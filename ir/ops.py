"""The node kinds: a closed union of frozen dataclasses. No base class, no registry.

To add a kind: write it here, add it to `Op` and to its groups below, and follow the type checker;
every reader of the IR is exhaustive and fails to type-check until it knows the new kind.

Shapes below are those of one time step of one sample; simulators carry a batch axis in front.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias, get_args

from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import TensorType

DECAY_BITS = 12
DECAY_ONE = 1 << DECAY_BITS  # decays are integers in 1/4096, as in Loihi's registers
LOIHI_FRACTION_BITS = 6  # Loihi shifts synaptic input left by 6 before it integrates
MOST_EVENTS = 16  # in one step, of a value that gates another: a spike, or a few in a burst


class Reset(enum.Enum):
    """What a spike does to the membrane."""

    TO_ZERO = "zero"  # hard reset: v = 0
    BY_SUBTRACTION = "subtract"  # soft reset: v = v - r
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A graph input, given anew at every time step. Source of all types."""

    type: TensorType


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """Add up the weight columns of the active synapses: y[..., o] = b[o] + sum_i w[o, i] x[..., i].

    Shapes: x (..., in), weight (out, in), bias (out,), y (..., out).
    x must be spikes or counts; `graded` marks the exception (an analog input layer), which
    hardware runs as bit planes or shift-and-add.
    """

    weight: IntTensor
    bias: IntTensor
    graded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2d:
    """Cross-correlation with zero padding; the input kinds of `Linear`.

    Shapes: x (in, H, W), weight (out, in / groups, kh, kw), bias (out,), y (out, H', W').
    """

    weight: IntTensor
    bias: IntTensor
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    graded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeMatmul:
    """Matrix product with one operand of spikes: a gated sum, no multiplier.

    Counts of at most MOST_EVENTS gate as well: their row is added as often as they say.
    Shapes: a (..., n, k), b (..., k, m), y (..., n, m).
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Elementwise product with one operand of spikes: select, or AND of two spikes.

    Counts of at most MOST_EVENTS gate as well: the value is added as often as they say.
    Shapes: both operands alike; broadcasting is an explicit `Expand`.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftSum:
    """Add up rows, each shifted right by how far its score lies below its row's: no multiplier.

    For each row x of scores, and the rows v_j of values::

        S = sum of 2**x_j over the j with x_j >= max(x) - window
        n_j = gamma - x_j                        gamma the smallest integer with 2**gamma >= S
        y = trunc(sum of v_j * 2**-n_j over the j with n_j <= reach)      toward zero, once

    A chip finds gamma by the position of a leading one, and shifts v_j left by reach - n_j into
    an accumulator of `reach` bits more than v has. As all 2**-n_j of a row sum to at most 1,
    y stays in the range of the values, and in their unit.
    Shapes: scores (..., n, k), values (..., k, m), y (..., n, m).
    Source: "Bipolar Self-attention for Spiking Transformers", NeurIPS 2025, eq. 13-15; the two
    constants and the rounding, which it leaves open, are ours.
    """

    window: int
    reach: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """Elementwise sum of two equally shaped values (residual connection)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Sum over `axes`; with `keepdims` they stay with length 1."""

    axes: tuple[int, ...]
    keepdims: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool2d:
    """Largest value of each window: OR on spikes, compare-and-select on other integers.

    Shapes: x (C, H, W), y (C, H', W'). Padding never wins.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape:
    """Same elements in row-major order, other shape. Wiring only."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permute:
    """Axis i of the result is axis `axes[i]` of the operand. Wiring only."""

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expand:
    """Repeat axes of length 1 up to `shape`. Wiring only: one axon, several synapses."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Elements start..stop - 1 of one axis. Wiring only."""

    axis: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat:
    """Two values, one behind the other along `axis`. Wiring only, of two operands."""

    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Hold a value for `steps` steps of a target on which each synapse costs one.

    Pays for the latency of a sibling branch, so that both meet at a join. A graph is
    written in model time, where nothing has latency: there, a delay changes no value.
    """

    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Neuron:
    """Leaky integrate-and-fire with synaptic current; the op that spikes.

    With decay(a, d) = sign(a) * (|a| * (4096 - d) >> 12), at each time step::

        u <- decay(u, du) + (x << fraction_bits)
        v <- decay(v, dv) + u + bias             the membrane that recordings show
        s <- 1 if v >= threshold else 0          ternary: -1 if v <= -threshold
        v <- 0 | v - sign(s) * reset_by | v      where s is not 0

    Units: v, u, threshold, bias and reset_by count 2**-fraction_bits of a synaptic unit. Where
    fraction_bits is negative, x >> -fraction_bits, rounded down, enters in place of x << ....
    threshold and bias have one element, or broadcast against the shape of x.
    Source: Davies et al., "Loihi", IEEE Micro 2018; bit-accurate LIF of lava-nc 0.10.
    """

    threshold: IntTensor
    dv: int = 0
    du: int = DECAY_ONE
    bias: IntTensor = IntTensor.of([0])
    reset: Reset = Reset.TO_ZERO
    reset_by: int = 0
    fraction_bits: int = LOIHI_FRACTION_BITS
    ternary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralNeuron:
    """Integrate-and-fire beyond Loihi's registers: constants of each step, or of each channel.

    Every tensor has an axis of steps in front, 1 or T long; c[t] below is what it says of step t.
    With decay(a, d) as of `Neuron`, at time step t::

        u <- decay(u, du[t]) + (sum of taps[t, k] * x[t - k] over k >> shift)
        v <- decay(v, dv[t]) + u + bias[t]
        v <- max(v, floor)                       if `floored`
        s <- number of levels l with v >= threshold[t, l]
        v <- 0 | v - s * reset_by[t] | v         where s is not 0

    The membrane that recordings show is the v that is compared. x before the first step is 0; the
    shift is to the right, rounded down. Several levels fire several events in one step. No floor
    lies above 0: one below is where a register ends that holds what reaches it.
    Units: v, u, threshold, bias and reset_by count 2**-fraction_bits of a synaptic unit; the taps
    have them in.
    Shapes: taps (steps, K, ...), threshold (steps, levels, ...), the others (steps, ...), where
    ... has one element or broadcasts against the shape of x; y as x.
    Source: GLIF, Yao et al., NeurIPS 2022; KLIF, Jiang and Zhang, 2023 (`floored`); masked and
    sliding PSN, Fang et al., NeurIPS 2023 (taps); I-LIF, Luo et al., ECCV 2024 (levels); the
    membranes of lava-nc 0.10, which end at -(2**23 - 1) (`floor`).
    """

    taps: IntTensor
    threshold: IntTensor
    dv: IntTensor = IntTensor.of([[0]])
    du: IntTensor = IntTensor.of([[DECAY_ONE]])
    bias: IntTensor = IntTensor.of([[0]])
    reset: Reset = Reset.TO_ZERO
    reset_by: IntTensor = IntTensor.of([[0]])
    shift: int = 0
    fraction_bits: int = LOIHI_FRACTION_BITS
    floored: bool = False
    floor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Membrane:
    """The membrane of a neuron in place of its spikes: a graded value, for the read-out.

    `neuron` integrates x, fires and is reset as its docstring says; y is v before its reset,
    or with `after_reset` what the reset leaves of it. Where the spikes are used as well, a
    `Neuron` of the same constants stands beside it, on the same x.
    Units: 2**-fraction_bits of a synaptic unit. Shapes: y as x.
    """

    neuron: Neuron
    after_reset: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Staircase:
    """Neurons without memory in a row, as one: y = number of thresholds that x has reached.

    y = sum_k [x >= thresholds[k]], an integer spike: as many events in one step.
    Shapes: thresholds (levels, ...) where ... broadcasts against x; y as x.
    Source: the integer spikes of E-SpikeFormer, Yao et al., TPAMI 2025, whose rounding (half
    to even) is in the thresholds.
    """

    thresholds: IntTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu:
    """Largest of x and 0: a graded value that a neuron without memory sends, or not.

    Source: the keys of A2OS2A, Guo et al., CVPR 2025, eq. 28.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """Accumulate over time: y[t] = y[t-1] + x[t]. The last step is the network's answer."""


Op: TypeAlias = (
    Input
    | Linear
    | Conv2d
    | SpikeMatmul
    | Gate
    | ShiftSum
    | Add
    | Sum
    | MaxPool2d
    | Reshape
    | Permute
    | Expand
    | Slice
    | Concat
    | Delay
    | Neuron
    | GeneralNeuron
    | Membrane
    | Staircase
    | Relu
    | Readout
)

OPS: tuple[type[Op], ...] = get_args(Op)

# The groups that several readers of a graph need. Each is named here once.
Weighted: TypeAlias = Linear | Conv2d  # a map of constant weights
Wiring: TypeAlias = (
    Reshape | Permute | Expand | Slice
)  # the same elements elsewhere, of one operand
Integrating: TypeAlias = Neuron | GeneralNeuron  # fires, and has a membrane
Firing: TypeAlias = (
    Neuron | GeneralNeuron | Staircase
)  # answers a current by events: runs are compared there
Stateful: TypeAlias = (
    Neuron | GeneralNeuron | Membrane | Readout
)  # remembers earlier steps of its sample
# Takes one step of a pipelined target, as a synapse does on Loihi.
Synaptic: TypeAlias = Weighted | SpikeMatmul | Gate | ShiftSum | Sum | MaxPool2d
# Takes none, and remembers nothing.
Immediate: TypeAlias = Add | Concat | Wiring | Staircase | Relu
# A function of its operands of the same step: what `ir.semantics.evaluate` computes.
Stateless: TypeAlias = Synaptic | Immediate | Delay
# Linear in what it is given, with nothing remembered.
LinearOp: TypeAlias = Weighted | Add | Sum | Concat | Wiring | Delay
