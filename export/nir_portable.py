"""NIR in the words that other people's importers understand, and all in the same way.

Of NIR's neurons only `CubaLIF` means the same in snnTorch, SpikingJelly and norse, with
tau_syn = dt, w_in = 1 and r = tau_mem / dt; each keeps one set of parameters for a node. They
compute in float32: every weight, partial sum and membrane here is a whole number of steps
below 2^24, and thresholds lie between two steps, so that nothing is ever rounded, > and >= are
the same question, and the order of a sum does not matter.

`Flatten` counts a batch axis in one importer and not in the next. Synapses from a whole map
are therefore a convolution with a kernel of its size, which is the same in both.

Source: snnTorch 1.0.0, SpikingJelly 2.0.0, norse 1.1.0, nirtorch 2.6, read and run.
"""

from __future__ import annotations

import math
from typing import Any

import nir
import numpy as np

from lapilli.export import nir_nodes
from lapilli.export.nir_dialect import Part, Steps
from lapilli.export.nir_layout import RefusedError
from lapilli.ir.ops import DECAY_ONE, Conv2d, MaxPool2d, Neuron
from lapilli.ir.passes.or_neurons import window_sum
from lapilli.ir.tensor import IntArray, IntTensor

EXACT = 1 << 24  # float32 holds every integer up to here
FLOAT = "float32"

# dv -> tau_mem in steps. 1 - 2^-30 is 1 in float32, and 2^30 x - v over 2^30 moves v by x.
TIME_CONSTANTS = {0: 1 << 30, DECAY_ONE // 2: 2, DECAY_ONE: 1}


def neuron_faults(op: Neuron, T: int) -> list[str]:
    """Why no importer can do what this neuron does; empty if they can."""
    return nir_nodes.neuron_faults(op, T)


def neurons(op: Neuron, threshold: IntArray, T: int) -> tuple[Part, ...]:
    """One node for each threshold, all of the full shape; a mask keeps the others' currents out.

    Raises:
        RefusedError: thresholds that differ within a channel of a map.
    """
    tau = TIME_CONSTANTS[op.dv]
    # A threshold that no membrane reaches must not be rounded to one that some does.
    v_threshold = np.minimum(nir_nodes.between_steps(op, threshold, T), EXACT)
    levels = np.unique(v_threshold)
    if len(levels) == 1:
        return (Part(nir_nodes.cuba_lif(tau, v_threshold)),)
    return tuple(
        Part(nir_nodes.cuba_lif(tau, np.full(threshold.shape, level)), _mask(v_threshold == level))
        for level in levels
    )


def dense(weight: IntArray, bias: IntArray, shape: tuple[int, ...]) -> Steps:
    """Synapses from all elements: a kernel as large as the map, or a matrix on a vector."""
    if len(shape) == 1:
        return (("", _floats(nir_nodes.affine(weight, bias)), bias.shape),)
    if len(shape) == 3 and (shape[1] + shape[2]) % 2 == 0:
        kernel = Conv2d(weight=IntTensor.of(weight.reshape(-1, *shape)), bias=IntTensor.of(bias))
        return (("", convolution(kernel, shape[1:]), (len(bias), 1, 1)),)
    return tuple((role, _floats(n), s) for role, n, s in nir_nodes.dense(weight, bias, shape))


def convolution(op: Conv2d, size: tuple[int, ...]) -> Any:
    """As the canonical one: one group, square kernels."""
    return _floats(nir_nodes.convolution(op, size))


def pointwise(weight: IntArray, bias: IntArray, size: tuple[int, ...]) -> Any:
    """The same synapses at each pixel."""
    return _floats(nir_nodes.pointwise(weight, bias, size))


def spread(shape: tuple[int, ...]) -> Any:
    """Repeat each of C values over its map."""
    return _floats(nir_nodes.spread(shape))


def count(windows: MaxPool2d, shape: tuple[int, ...]) -> Any:
    """Sum of each window: `SumPool2d` where importers are exact, else a convolution of ones.

    They average and multiply, which rounds unless a window has 2^n elements, and ignore padding.
    """
    size = math.prod(windows.kernel)
    if size & (size - 1) == 0 and windows.padding == (0, 0):
        return nir_nodes.count(windows, shape)
    return convolution(window_sum(windows, shape[0]), shape[1:])


def same(shape: tuple[int, ...]) -> Any:
    """Hand on a value unchanged.

    Raises:
        RefusedError: neither a vector nor a map, for which importers agree on no synapses.
    """
    return _mask(np.ones(shape, bool))


def _mask(keep: Any) -> Any:
    """Synapses of weight one for the elements that are kept, zero for the others."""
    if keep.ndim == 1:
        return _floats(
            nir_nodes.affine(np.diag(keep).astype(np.int64), np.zeros(len(keep), np.int64))
        )
    if keep.ndim != 3:
        raise RefusedError(f"copies a tensor {list(keep.shape)}; portable NIR copies vectors, maps")
    channels = keep.all(axis=(1, 2))
    if not np.array_equal(channels, keep.any(axis=(1, 2))):
        raise RefusedError("has thresholds that differ within a channel; one node has but one")
    return pointwise(
        np.diag(channels).astype(np.int64), np.zeros(len(keep), np.int64), keep.shape[1:]
    )


def _floats(node: Any) -> Any:
    """The node with float32 weights, which some importers insist on."""
    if isinstance(node, nir.Affine | nir.Conv2d):
        node.weight, node.bias = node.weight.astype(np.float32), node.bias.astype(np.float32)
    return node
