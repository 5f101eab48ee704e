"""Neurons as NIR nodes, and the proof that no importer rounds their state."""

from __future__ import annotations

import math

import numpy as np

from lapilli.export.nir.write.builder import NirBuilder
from lapilli.export.nir.write.dialect import state_bound
from lapilli.export.nir.write.placement import NotRepresentableError, Placed, describe
from lapilli.ir import ops
from lapilli.ir.types import BINARY


def fire(file: NirBuilder, name: str, op: ops.Neuron, x: Placed) -> Placed:
    """The spikes of neurons; each sits where its current lies."""
    # Wiring may have left out or repeated elements: the tensor's neurons fire all the same.
    wanted = np.broadcast_to(op.threshold.array, (1, *x.positions.shape))[0]
    threshold = np.full(math.prod(x.shape), wanted.max())
    threshold[x.positions] = wanted
    if not np.array_equal(threshold[x.positions], wanted):
        raise NotRepresentableError("one value, repeated, meets different thresholds")
    file.check_exact(state_bound(op, threshold, file.graph.T, x.bounds))
    parts = file.dialect.neurons(op, threshold.reshape(x.shape), file.graph.T)
    if len(parts) == 1:
        y = file.put(name, parts[0].neuron, x, x.shape, BINARY)
    else:
        terms: list[str] = []
        for i, part in enumerate(parts):
            masked = file.put(f"{name}.{i}.mask", part.mask, x, x.shape)
            terms += file.put(f"{name}.{i}", part.neuron, masked, x.shape, BINARY).sources
        y = file.same(name, Placed(tuple(terms), x.shape, x.positions, BINARY))
    fired = Placed(y.sources, y.shape, x.positions, BINARY)
    (key,) = y.sources
    bits = op.fraction_bits
    file.layouts[name] = {"node": key, "layout": describe(fired), "fraction_bits": bits}
    return fired
