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
import numpy.typing as npt

from lapilli.export.nir.write import canonical as nir_nodes
from lapilli.export.nir.write.dialect import NirDraft, Part
from lapilli.export.nir.write.placement import NotRepresentableError
from lapilli.export.nir.write.routing import need_few
from lapilli.ir import ops
from lapilli.ir.targets.float32 import SIGNIFICAND
from lapilli.ir.tensor import IntArray, IntTensor

EXACT: int = 1 << SIGNIFICAND.bits  # float32 holds every integer up to here
FLOAT: str = "float32"
FLATTENS: bool = False

# dv -> tau_mem in steps. 1 - 2^-30 is 1 in float32, and 2^30 x - v over 2^30 moves v by x.
TIME_CONSTANTS = {0: 1 << 30, ops.DECAY_ONE // 2: 2, ops.DECAY_ONE: 1}


def neuron_faults(op: ops.Neuron, T: int) -> list[str]:
    """Why no importer can do what this neuron does; empty if they can."""
    return nir_nodes.neuron_faults(op, T)


def neurons(op: ops.Neuron, threshold: IntArray, T: int) -> tuple[Part, ...]:
    """One node for each threshold, all of the full shape; a mask keeps the others' currents out.

    Raises:
        NotRepresentableError: thresholds that differ within a channel of a map.
    """
    tau = TIME_CONSTANTS[op.dv]
    # A threshold that no membrane reaches must not be rounded to one that some does.
    v_threshold = np.minimum(nir_nodes.between_steps(op, threshold, T), EXACT)
    levels = np.unique(v_threshold)
    if len(levels) == 1:
        return (Part(nir_nodes.cuba_lif(tau, v_threshold)),)
    return tuple(
        Part(
            nir_nodes.cuba_lif(tau, np.full(threshold.shape, level)),
            _diagonal(v_threshold == level),
        )
        for level in levels
    )


def dressed(node: Any, shape: tuple[int, ...]) -> Any:
    """The node, or what stands for it; weights are still integers.

    Importers average and multiply for a `SumPool2d`, which rounds unless a window has 2^n
    elements, and ignore its padding; most have no `Scale`.

    Raises:
        NotRepresentableError: a factor on a tensor for which importers agree on no synapses.
    """
    if isinstance(node, nir.SumPool2d):
        size = math.prod(node.kernel_size.tolist())
        if size & (size - 1) == 0 and not node.padding.any():
            return node
        node = _window_sum(node, shape)
    if isinstance(node, nir.Scale):
        node = _diagonal(node.scale)
    return node


def in_floats(draft: NirDraft) -> NirDraft:
    """The same with float32 weights, which some importers insist on.

    It comes last: a graph that is refused for its size is never four times that size.
    """
    for node in draft.nodes.values():
        if isinstance(node, nir.Affine | nir.Conv2d):
            node.weight, node.bias = node.weight.astype(np.float32), node.bias.astype(np.float32)
    return draft


def _window_sum(pool: Any, shape: tuple[int, ...]) -> Any:
    """The sum of each window as synapses of weight one."""
    C, H, W = shape
    need_few(C * C * max(pool.kernel_size.tolist()) ** 2)
    kernel, stride, padding = (p.tolist() for p in (pool.kernel_size, pool.stride, pool.padding))
    ones = ops.Conv2d(
        weight=IntTensor.of(np.ones((C, 1, *kernel), np.int64)),
        bias=IntTensor.of(np.zeros(C, np.int64)),
        stride=(stride[0], stride[1]),
        padding=(padding[0], padding[1]),
        groups=C,
    )
    node = nir_nodes.convolution(ones, (H, W))
    made = [(n + 2 * p - k) // s + 1
            for n, k, s, p in zip((H, W), kernel, stride, padding, strict=True)]  # fmt: skip
    if made != node.output_type["output"][1:].tolist():
        raise NotRepresentableError(
            f"a window {kernel}; importers are exact on 2^n elements, or on squares"
        )
    return node


def _diagonal(factors: npt.NDArray[Any]) -> Any:
    """A factor for each element of a vector, or for each channel of a map."""
    if factors.ndim == 1:
        need_few(factors.size**2)
        return nir_nodes.affine(np.diag(factors).astype(np.int64), np.zeros(len(factors), np.int64))
    if factors.ndim != 3:
        raise NotRepresentableError(
            f"a factor for a tensor {list(factors.shape)}; importers agree on vectors and maps"
        )
    channels = factors[:, 0, 0]
    if not np.all(factors == channels[:, None, None]):
        raise NotRepresentableError(
            "has thresholds that differ within a channel; one node has but one"
        )
    need_few(len(channels) ** 2)
    none = np.zeros(len(channels), np.int64)
    return nir_nodes.pointwise(np.diag(channels).astype(np.int64), none, factors.shape[1:])
