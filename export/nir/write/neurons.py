"""Neurons as NIR nodes, and the proof that no importer rounds their state."""

from __future__ import annotations

import math

import numpy as np

from lapilli.export.nir.write.builder import Emission
from lapilli.export.nir.write.dialect import state_reach
from lapilli.export.nir.write.placement import Placed, RefusedError, describe
from lapilli.ir import ops
from lapilli.ir.types import BINARY


def fire(file: Emission, name: str, op: ops.Neuron, x: Placed) -> Placed:
    """The spikes of neurons; each sits where its current lies."""
    # Wiring may have left out or repeated elements: the tensor's neurons fire all the same.
    wanted = np.broadcast_to(op.threshold.array, (1, *x.home.shape))[0]
    threshold = np.full(math.prod(x.shape), wanted.max())
    threshold[x.home] = wanted
    if not np.array_equal(threshold[x.home], wanted):
        raise RefusedError("one value, repeated, meets different thresholds")
    file.check_exact(state_reach(op, threshold, file.graph.T, x.reach))
    parts = file.say.neurons(op, threshold.reshape(x.shape), file.graph.T)
    if len(parts) == 1:
        y = file.put(name, parts[0].neuron, x, x.shape, BINARY)
    else:
        terms: list[str] = []
        for i, part in enumerate(parts):
            masked = file.put(f"{name}.{i}.mask", part.mask, x, x.shape)
            terms += file.put(f"{name}.{i}", part.neuron, masked, x.shape, BINARY).terms
        y = file.same(name, Placed(tuple(terms), x.shape, x.home, BINARY))
    fired = Placed(y.terms, y.shape, x.home, BINARY)
    (key,) = y.terms
    bits = op.fraction_bits
    file.layouts[name] = {"node": key, "layout": describe(fired), "fraction_bits": bits}
    return fired
