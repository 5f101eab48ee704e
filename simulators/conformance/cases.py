"""The cases: each separates what is right from what is nearly right."""

from __future__ import annotations

import numpy as np

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance.building import (
    attention_block,
    lif,
    neuron_case,
    pair,
    spikes,
    unary,
)
from lapilli.simulators.conformance.checking import Case
from lapilli.simulators.conformance.general_cases import GENERAL

_SOFT, _HARD = ops.Reset.BY_SUBTRACTION, ops.Reset.TO_ZERO
_COUNTS = TensorType((2,), IntRange(0, 3), Kind.COUNTS)
_VALUES = TensorType((2,), IntRange(-9, 9), Kind.GRADED)
_MAP = TensorType((1, 2, 2), IntRange(-9, 9), Kind.GRADED)
_W = IntTensor.of([[3, -2]])
_SCORES = TensorType((2, 2), IntRange(-9, 9), Kind.GRADED)

CASES: tuple[Case, ...] = (
    Case(
        "fires-at-threshold",
        ">= and > differ",
        *neuron_case(lif(6, dv=0), [3, 2, 1, 0, 4]),
        by_hand=(1, 0, 1, 0, 1),
    ),
    Case(
        "soft-reset-keeps-the-rest",
        "subtracting and zeroing differ",
        *neuron_case(lif(6, dv=0, reset=_SOFT, reset_by=6), [5, 1, 0, 7, 0, 0]),
        by_hand=(1, 1, 0, 1, 1, 0),
    ),
    Case(
        "soft-reset-by-its-own-amount",
        "r is not the threshold: a framework may subtract after the decay",
        *neuron_case(lif(6, dv=0, reset=_SOFT, reset_by=4), [4, 1, 0, 0]),
        by_hand=(1, 1, 0, 0),
    ),
    Case(
        "hard-reset-drops-the-rest",
        "zeroing and subtracting differ",
        *neuron_case(lif(6, dv=0), [5, 1, 0, 7, 0, 0]),
        by_hand=(1, 0, 0, 1, 0, 0),
    ),
    Case(
        "decay-truncates-toward-zero",
        "floor and truncation differ below zero: -3 decays to -1, not -2",
        *neuron_case(lif(1, fraction_bits=0, reset=ops.Reset.NONE), [-3, 2, 0]),
        by_hand=(0, 1, 0),
    ),
    Case(
        "fraction-bits-keep-the-half",
        "3 decays to 1.5; without a fraction bit 1 + 1 stays below 2.5",
        *neuron_case(lif(5, reset=ops.Reset.NONE), [3, 1]),
        by_hand=(1, 1),
    ),
    Case(
        "input-shifts-to-the-right",
        "two bits of the current are dropped, rounded down: -5 is -2, not -1",
        *neuron_case(lif(3, dv=0, fraction_bits=-2), [-5, 7, 15, 4]),
        by_hand=(0, 0, 0, 1),
    ),
    Case(
        "v-below-zero-is-kept",
        "clamping at the resting potential differs",
        *neuron_case(lif(4, dv=0, reset=_SOFT, reset_by=4), [-3, 2, 2, 2]),
        by_hand=(0, 0, 0, 1),
    ),
    Case(
        "current-decays-on-its-own",
        "u keeps a half of the input: 4, 2, 1 add up in v",
        *neuron_case(lif(12, dv=0, du=ops.DECAY_ONE // 2), [4, 0, 0]),
        by_hand=(0, 1, 0),
    ),
    Case(
        "neuron-bias-every-step",
        "the bias register is added whether or not anything arrives",
        *neuron_case(lif(6, dv=0, bias=IntTensor.of([2])), [0, 0, 0, 1]),
        by_hand=(0, 0, 1, 0),
    ),
    Case(
        "ternary-fires-both-ways",
        "-v <= -threshold is a negative spike and resets",
        *neuron_case(lif(6, dv=0, ternary=True), [-3, 3, -2, -1]),
        by_hand=(-1, 1, 0, -1),
    ),
    Case(
        "a-negative-spike-adds-what-a-spike-takes",
        "-8 fires: a soft reset leaves -2, and taking away once more would leave -14",
        *neuron_case(lif(6, dv=0, ternary=True, reset=_SOFT, reset_by=6), [-4, 1, 1, 1, 2]),
        by_hand=(-1, 0, 0, 0, 1),
    ),
    Case(
        "membrane-is-read-before-its-reset",
        "6 fires: the step shows 6, the next begins at 0; a spike would show 1",
        *neuron_case(ops.Membrane(neuron=lif(6)), [1, 3, -2, 3]),
        by_hand=(2, 7, -4, 4),
    ),
    Case(
        "membrane-is-read-after-its-reset",
        "7 fires and leaves 7 - 4 = 3; its half is 1 (toward zero); -3 is silent and stays",
        *neuron_case(
            ops.Membrane(neuron=lif(6, reset=_SOFT, reset_by=4), after_reset=True), [1, 3, -2, 3]
        ),
        by_hand=(2, 3, -3, 5),
    ),
    *(Case(name, about, *made, by_hand=answer) for name, about, made, answer in GENERAL),
    Case(
        "bias-without-spikes",
        "the bias of a synapse is added at every step, spike or not",
        *unary(
            ops.Linear(weight=_W, bias=IntTensor.of([-2])), TensorType.spikes(2), [[0, 0], [1, 0]]
        ),
        by_hand=(-2, 1),
    ),
    Case(
        "counts-weigh-their-number",
        "a count of 3 brings the weight three times; a boolean cast brings it once",
        *unary(ops.Linear(weight=_W, bias=IntTensor.of([0])), _COUNTS, [[3, 1], [0, 2]]),
        by_hand=(7, -4),
    ),
    Case(
        "weights-with-an-exponent",
        "bytes times a power of two, as of a residual stream, and a bias that is none of its "
        "multiples: nothing is cut to a byte",
        *unary(
            ops.Linear(weight=IntTensor.of([[127 << 6, -127 << 6]]), bias=IntTensor.of([-3])),
            _COUNTS,
            [[3, 1], [0, 2]],
        ),
        by_hand=(2 * (127 << 6) - 3, -2 * (127 << 6) - 3),
    ),
    Case(
        "conv-correlates",
        "the kernel is not turned round, zero padding brings nothing, groups stay apart",
        *unary(
            ops.Conv2d(
                weight=IntTensor.of([[[[1, 2], [3, 4]]], [[[5, 6], [7, 8]]]]),
                bias=IntTensor.of([0, 1]),
                padding=(1, 0),
                stride=(1, 2),
                groups=2,
            ),
            TensorType.spikes(2, 1, 2),
            [[[[1, 0]], [[0, 1]]]],
        ),
        by_hand=(3, 1, 9, 7),
    ),
    Case(
        "pool-takes-the-largest",
        "padding is not a zero: the maximum of negative numbers is negative",
        *unary(
            ops.MaxPool2d(kernel=(2, 2), stride=(2, 2), padding=(1, 1)),
            _MAP,
            [[[[-5, -7], [-2, 3]]]],
        ),
        by_hand=(-5, -7, -2, 3),
    ),
    Case(
        "matmul-gates-rows",
        "order of rows and columns, with spikes on the right",
        *pair(
            ops.SpikeMatmul(),
            TensorType((1, 2), IntRange(-9, 9), Kind.GRADED),
            TensorType.spikes(2, 3),
            [[[5, -7]]],
            [[[1, 0, 1], [0, 1, 1]]],
        ),
        by_hand=(5, -7, -2),
    ),
    Case(
        "gate-keeps-the-sign",
        "a ternary gate turns the sign, a silent one brings zero",
        *pair(
            ops.Gate(),
            TensorType((3,), IntRange(-1, 1), Kind.SPIKES),
            TensorType((3,), IntRange(-9, 9), Kind.GRADED),
            [[-1, 0, 1]],
            [[4, 5, -6]],
        ),
        by_hand=(-4, 0, -6),
    ),
    Case(
        "matmul-adds-a-row-per-event",
        "a count of 3 brings the row three times, on the right as on the left",
        *pair(
            ops.SpikeMatmul(),
            TensorType((1, 2), IntRange(-9, 9), Kind.GRADED),
            TensorType((2, 2), IntRange(0, 3), Kind.COUNTS),
            [[[5, -7]]],
            [[[3, 0], [1, 2]]],
        ),
        by_hand=(8, -14),
    ),
    Case(
        "gate-adds-per-event",
        "a count of 3 lets the value through three times",
        *pair(ops.Gate(), _VALUES, _COUNTS, [[4, -5], [1, 6]], [[3, 2], [0, 1]]),
        by_hand=(12, -10, 0, 6),
    ),
    Case(
        "shift-sum-stops-at-a-power-of-two",
        "8 + 8 is shifted by the exponent of 16, and not of 32; 8 + 4 by that of 16",
        *pair(
            ops.ShiftSum(window=20, reach=9),
            _SCORES,
            _SCORES,
            [[[3, 3], [3, 2]]],
            [[[8, 0], [4, 4]]],
        ),
        by_hand=(6, 2, 5, 1),
    ),
    Case(
        "shift-sum-truncates-the-sum-toward-zero",
        "neither each term, 1 + 1, nor down: -3 - 4 halved is -3",
        *pair(
            ops.ShiftSum(window=9, reach=9),
            _SCORES,
            _SCORES,
            [[[0, 0], [5, 5]]],
            [[[3, -3], [3, -4]]],
        ),
        by_hand=(3, -3, 3, -3),
    ),
    Case(
        "shift-sum-leaves-out-what-is-far",
        "of the powers beyond the window, else 8 + 8 + 2**-9 asks for 32; of shifts beyond reach",
        *pair(
            ops.ShiftSum(window=8, reach=5),
            TensorType((2, 3), IntRange(-9, 9), Kind.GRADED),
            TensorType((3, 1), IntRange(0, 400), Kind.GRADED),
            [[[3, 3, -9], [3, -1, -3]]],
            [[[20], [32], [320]]],
        ),
        by_hand=(26, 11),
    ),
    Case(
        "staircase-counts-the-steps-reached",
        "a step is reached at equality; each element has thresholds of its own",
        *unary(
            ops.Staircase(thresholds=IntTensor.of([[1, 2], [3, 3], [4, 8]])),
            _VALUES,
            [[0, 2], [1, 3], [3, 7], [9, 8], [-9, 1]],
        ),
        by_hand=(0, 1, 1, 2, 2, 2, 3, 3, 0, 0),
    ),
    Case(
        "relu-drops-the-negative",
        "neither the magnitude nor one spike",
        *unary(ops.Relu(), _VALUES, [[-3, 4], [0, -1]]),
        by_hand=(0, 4, 0, 0),
    ),
    Case(
        "expand-repeats",
        "the new axis varies as it should: rows repeat, not elements",
        *unary(ops.Expand(shape=(2, 2)), TensorType.spikes(1, 2), [[[1, 0]]]),
        by_hand=(1, 0, 1, 0),
    ),
    Case(
        "slice-takes-the-middle",
        "start and stop, on the named axis",
        *unary(
            ops.Slice(axis=1, start=1, stop=2), TensorType.spikes(2, 3), [[[1, 0, 1], [0, 1, 0]]]
        ),
        by_hand=(0, 1),
    ),
    Case(
        "concat-keeps-the-order",
        "the first operand first, on the named axis",
        Graph(
            (
                Node("x", ops.Input(type=TensorType.spikes(2, 2))),
                Node("c", ops.Input(type=TensorType((2, 1), IntRange(0, 3), Kind.COUNTS))),
                Node("y", ops.Concat(axis=1), ("x", "c")),
            ),
            ("y",),
            T=1,
        ),
        {"x": np.array([[[[1, 0], [0, 1]]]]), "c": np.array([[[[3], [2]]]])},
        by_hand=(1, 0, 3, 0, 1, 2),
    ),
    Case(
        "delay-changes-no-value",
        "a delay pays for a target's latency: in model time it shows the same step, not an older",
        *unary(ops.Delay(steps=2), _COUNTS, [[3, 1], [0, 2], [1, 0]]),
        by_hand=(3, 1, 0, 2, 1, 0),
    ),
    Case(
        "readout-accumulates",
        "the sum of the steps, not the last",
        *unary(ops.Readout(), _MAP, [[[[1, -2], [0, 0]]], [[[3, 0], [0, -1]]]]),
        by_hand=(1, -2, 0, 0, 4, -2, 0, -1),
    ),
    Case(
        "attention-block",
        "heads, transposes, token order, and branches of unequal latency",
        attention_block(),
        {"x": spikes((8, 3, 4, 6))},
    ),
)
