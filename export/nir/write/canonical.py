"""NIR's nodes for what a graph computes: the canonical flavour, integers as integers.

NIR is written in continuous time; the numbers here mean what they should under one
reading, which every file states: forward Euler with step `DT`, v <- v + DT / tau (r x - v),
spike where v > v_threshold, then v = 0. Its shape checks know neither groups nor kernels
that are not square, so neither is ever written.

Source: NIR 1.0.8; Pedersen et al., "Neuromorphic intermediate representation", 2024.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from lapilli.export.nir.write.dialect import Part, finest_bits, lowest_steps
from lapilli.export.nir.write.placement import NotRepresentableError
from lapilli.ir import ops
from lapilli.ir.tensor import IntArray, narrowest_dtype
from lapilli.ir.types import IntRange

DT = 1e-4  # seconds; the step that importers of NIR assume
EXACT: int = 1 << 53  # float64 holds every integer up to here
FLOAT: str = "float64"
FLATTENS: bool = True

_TIME_CONSTANTS = {ops.DECAY_ONE: 1, ops.DECAY_ONE // 2: 2}  # dv -> tau_mem in steps
_MOST_CHANNELS = 1 << 12  # beyond, a matrix for one factor is a waste


def neuron_faults(op: ops.Neuron, T: int) -> list[str]:
    """Why NIR's neurons cannot do what this one does; empty if they can."""
    faults = []
    if op.ternary:
        faults.append("fires both ways; NIR's neurons fire 0 or 1")
    if op.reset is not ops.Reset.TO_ZERO:
        faults.append(f"reset {op.reset.value!r}; NIR's neurons reset to a value")
    if op.bias.range.magnitude:
        faults.append("has a bias register; give its synapses the bias")
    if op.du != ops.DECAY_ONE:
        faults.append(f"synaptic current decays by {op.du}/4096; only 4096 is written")
    if op.dv not in (0, *_TIME_CONSTANTS):
        faults.append(f"membrane decays by {op.dv}/4096; only 0, 2048 and 4096 are exact")
    elif (lost := finest_bits(op, T)) > op.fraction_bits:
        faults.append(
            f"its state truncates: {op.fraction_bits} fraction bits, {T} steps need {lost} "
            "(quantize with target='stock', --target stock)"
        )
    if op.threshold.range.hi >= EXACT // 2:
        faults.append(f"threshold {op.threshold.range.hi} needs more than float64's 53 bits")
    return faults


def neurons(op: ops.Neuron, threshold: IntArray, T: int) -> tuple[Part, ...]:
    """A spiking node; the state is in synaptic units.

    Args:
        op: without `neuron_faults`.
        threshold: one for each neuron, of the full shape, in state units.
        T: steps of a sample.
    """
    v_threshold = between_steps(op, threshold, T)
    one, zero = np.ones(threshold.shape), np.zeros(threshold.shape)
    if op.dv == 0:
        return (Part(nir.IF(r=one / DT, v_threshold=v_threshold, v_reset=zero)),)
    return (Part(cuba_lif(_TIME_CONSTANTS[op.dv], v_threshold)),)


def between_steps(op: ops.Neuron, threshold: IntArray, T: int) -> npt.NDArray[np.float64]:
    """NIR's thresholds, in synaptic units, for ours in state units.

    The membrane only takes multiples of its finest step: one synaptic unit without a leak,
    2^(1 - T) with a leak of one half. NIR's threshold is the middle between two of them, so
    that NIR's > and our >= agree, and no rounding of an importer can matter.
    """
    steps = lowest_steps(op, threshold, T)
    return np.ldexp((2 * steps - 1).astype(np.float64), -finest_bits(op, T) - 1)


def cuba_lif(tau: int | IntArray, v_threshold: npt.NDArray[np.float64]) -> Any:
    """Neurons without synaptic memory whose membrane time constant is `tau` steps."""
    one, zero = np.ones(v_threshold.shape), np.zeros(v_threshold.shape)
    return nir.CubaLIF(
        tau_syn=one * DT,
        tau_mem=one * (tau * DT),
        r=one * tau,  # undoes dt / tau_mem: nothing scales the input
        v_leak=zero,
        v_threshold=v_threshold,
        v_reset=zero,
        w_in=one,
    )


def dressed(node: Any, shape: tuple[int, ...]) -> Any:
    """A node as this dialect says it, for an input of this shape: as it is."""
    return node


def affine(weight: IntArray, bias: IntArray) -> Any:
    """Synapses on a vector; the bias is added at every step."""
    return nir.Affine(weight=_compact(weight), bias=_compact(bias))


def convolution(op: ops.Conv2d, size: tuple[int, ...]) -> Any:
    """Synapses on a map of this size (H, W); groups and oblong kernels filled up with zeros.

    The result can have a row or column more at its end than the op's, where zeros make a
    kernel square and padding can only be the same on both sides.
    """
    w, out = op.weight.array, op.weight.shape[0] // op.groups
    dense = np.zeros((w.shape[0], w.shape[1] * op.groups, *w.shape[2:]), np.int64)
    for g in range(op.groups):
        rows, columns = slice(g * out, (g + 1) * out), slice(g * w.shape[1], (g + 1) * w.shape[1])
        dense[rows, columns] = w[rows]
    side = max(w.shape[2:])
    more = [side - n for n in w.shape[2:]]
    (top, left), (ph, pw) = (-(-m // 2) for m in more), op.padding
    dense = np.pad(dense, ((0, 0), (0, 0), (top, more[0] - top), (left, more[1] - left)))
    return conv2d(dense, op.bias.array, size, op.stride, (ph + top, pw + left))


def convolution_weights(op: ops.Conv2d) -> int:
    """Count the weights of `convolution`, without making them."""
    inputs: int = op.weight.shape[1] * op.groups
    return int(op.weight.shape[0] * inputs * max(op.weight.shape[2:]) ** 2)


def pointwise(weight: IntArray, bias: IntArray, size: tuple[int, ...]) -> Any:
    """The same synapses at each pixel of a map of this size: weight (out, in)."""
    return conv2d(weight[:, :, None, None], bias, size)


def spread(shape: tuple[int, ...]) -> Any:
    """Repeat each of C values over its map: (C, 1, 1) -> (C, H, W).

    A kernel of ones that finds the one pixel exactly once from each place of the padded map.

    Raises:
        NotRepresentableError: H + W is odd, for which no square kernel and even padding exist.
    """
    C, H, W = shape
    side = max(H, W)
    if (H + W) % 2:
        raise NotRepresentableError(
            f"repeats over a map {H} x {W}; NIR checks shapes of square kernels"
        )
    weight = np.zeros((C, C, side, side), np.int64)
    weight[np.arange(C), np.arange(C)] = 1
    padding = ((H + side) // 2 - 1, (W + side) // 2 - 1)
    return conv2d(weight, np.zeros(C, np.int64), (1, 1), padding=padding)


def count(kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> Any:
    """Sum of each window of a map."""
    return nir.SumPool2d(
        kernel_size=np.array(kernel), stride=np.array(stride), padding=np.array(padding)
    )


def flatten(shape: tuple[int, ...]) -> Any:
    """All elements in one row. NIR has no batch axis: the first axis counts."""
    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0)


def same(shape: tuple[int, ...]) -> Any:
    """Hand on a value unchanged, by the nodes that most importers know."""
    return scaled(shape, 1, 0)


def scaled(shape: tuple[int, ...], weight: int, bias: int) -> Any:
    """The same synapse for each element, by the nodes that most importers know.

    Raises:
        NotRepresentableError: a bias on a tensor that is no vector and no map, or too many
            channels.
    """
    if len(shape) in (1, 3) and shape[0] <= _MOST_CHANNELS:
        eye = weight * np.eye(shape[0], dtype=np.int64)
        biases = np.full(shape[0], bias, np.int64)
        return affine(eye, biases) if len(shape) == 1 else pointwise(eye, biases, shape[1:])
    if bias:
        raise NotRepresentableError(f"adds a constant to each element of a tensor {list(shape)}")
    return nir.Scale(scale=_compact(np.full(shape, weight, np.int64)))


def conv2d(
    weight: IntArray,
    bias: IntArray,
    size: tuple[int, ...],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> Any:
    """A convolution: weight (out, in, k, k), on a map of this size."""
    return nir.Conv2d(
        input_shape=size,
        weight=_compact(weight),
        stride=stride,
        padding=padding,
        dilation=(1, 1),
        groups=1,
        bias=_compact(bias),
    )


def _compact(array: IntArray) -> npt.NDArray[np.signedinteger[Any]]:
    """The narrowest signed integers that hold the values."""
    return array.astype(narrowest_dtype(IntRange(int(array.min()), int(array.max()))))
