"""Neurons that no kernel knows: the definition, step by step, in int64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.semantics import State, integrate, membrane
from lapilli.simulators.fast.neurons import Answer

Array = npt.NDArray[Any]


def neurons(op: ops.Integrating, x: Array, T: int) -> Answer:
    """Spikes and membranes of currents (T * B, *shape)."""
    ternary = isinstance(op, ops.Neuron) and op.ternary
    spikes = np.empty(x.shape, np.int8 if ternary else np.uint8)
    seen = np.empty(x.shape, np.int64)
    batch = len(x) // T
    state = State.zeros((batch, *x.shape[1:]))
    for t in range(T):
        step = slice(t * batch, (t + 1) * batch)
        fired = integrate(op, x[step].astype(np.int64), state)
        spikes[step], seen[step], state = fired.spikes, fired.membrane, fired.state
    return Answer(spikes, None, seen)


def membranes(op: ops.Membrane, neuron: ops.Neuron, x: Array, T: int) -> Array:
    """The membranes that a read-out reads, int64, of currents (T * B, *shape)."""
    read = np.empty(x.shape, np.int64)
    batch = len(x) // T
    state = State.zeros((batch, *x.shape[1:]))
    for t in range(T):
        step = slice(t * batch, (t + 1) * batch)
        fired = integrate(neuron, x[step].astype(np.int64), state)
        read[step], state = membrane(op, fired), fired.state
    return read
