"""Delays of synapses in a `.net` file: spikes that wait in neurons, which every simulator has.

The graph's own `Delay` is of latency and changes no value. What arrives a step later in model
time comes from neurons that decay by a half, are never reset and count halves: after a step x
they hold v = 2 x + x_before, and the lowest bit of v is [v >= 1] - [v >= 2] + [v >= 3].
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lapilli.export import limits
from lapilli.export.malformed import MalformedError
from lapilli.ir import ops
from lapilli.ir.graph import Node
from lapilli.ir.tensor import IntArray, IntTensor

MOST_DELAY = 62  # beyond, netx clips
_NONE = IntTensor.of([0])
_HOLD = ops.Neuron(
    threshold=IntTensor.of([1, 2, 3]), dv=2048, fraction_bits=1, reset=ops.Reset.NONE
)  # one for each threshold
_LOWEST = ops.Linear(weight=IntTensor.of([[1, -1, 1]]), bias=_NONE)
_SPIKE = ops.Neuron(threshold=IntTensor.of([1]))


def per_synapse(delay: IntArray, shape: tuple[int, ...]) -> IntArray:
    """The delay of each synapse, as netx spreads what the file says over weights (out, in).

    Args:
        delay: one number; one for each output, or else for each input; or one for each weight.
        shape: of the weights.

    Raises:
        MalformedError: a delay that netx would clip, or refuse.
    """
    if int(delay.min()) < 0 or int(delay.max()) > MOST_DELAY:
        raise MalformedError(
            f"delays in [{delay.min()}, {delay.max()}]; netx holds 0 to {MOST_DELAY} and clips"
        )
    if delay.ndim == 1 and delay.size == shape[0]:
        delay = delay[:, None]
    elif not (delay.ndim == 0 or delay.shape in ((shape[1],), shape)):
        raise MalformedError(
            f"delays of shape {list(delay.shape)} for weights of {list(shape)}; one, one for each "
            "output or input, or one for each weight"
        )
    return np.broadcast_to(delay, shape)


def delayed(name: str, op: ops.Linear, delay: IntArray, before: str, T: int) -> Iterator[Node]:
    """Nodes up to `name`, the sum of what each synapse gives after its own delay.

    Args:
        name: of the last node.
        op: the layer without delays.
        delay: of each weight, as `per_synapse` gives them.
        before: the node of spikes (in,) that the layer reads.
        T: steps of a sample; what arrives later is not there.

    Raises:
        MalformedError: so many delays of so many weights that a file should not ask for.
    """
    weight = np.where(delay < T, op.weight.array, 0)
    steps = np.unique(delay[weight != 0]).tolist() or [0]
    if len(steps) * weight.size > limits.MOST_WEIGHTS:
        raise MalformedError(
            f"{len(steps)} delays of {weight.size} weights; {limits.MOST_WEIGHTS} in all"
        )
    size = weight.shape[1]
    waiting, total = before, ""
    for late in range(steps[-1] + 1):
        if late:
            yield from _later(f"{name}.late{late}", waiting, size)
            waiting = f"{name}.late{late}"
        if late not in steps:
            continue
        bias = op.bias if not total else IntTensor.of(np.zeros(len(weight), np.int64))
        part = ops.Linear(weight=IntTensor.of(np.where(delay == late, weight, 0)), bias=bias)
        own = name if len(steps) == 1 else f"{name}.after{late}"
        yield Node(own, part, (waiting,))
        if total:
            into = name if late == steps[-1] else f"{name}.upto{late}"
            yield Node(into, ops.Add(), (total, own))
            own = into
        total = own


def _later(name: str, before: str, size: int) -> Iterator[Node]:
    """The spikes (size,) of `before`, one step later."""
    yield Node(f"{name}.column", ops.Reshape(shape=(size, 1)), (before,))
    yield Node(f"{name}.thrice", ops.Expand(shape=(size, 3)), (f"{name}.column",))
    yield Node(f"{name}.hold", _HOLD, (f"{name}.thrice",))
    yield Node(f"{name}.lowest", _LOWEST, (f"{name}.hold",))
    yield Node(f"{name}.spike", _SPIKE, (f"{name}.lowest",))
    yield Node(name, ops.Reshape(shape=(size,)), (f"{name}.spike",))
