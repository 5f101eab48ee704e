"""Neurons and delays as NIR nodes, and the proof that no importer rounds their state."""

from __future__ import annotations

import math

import nir
import numpy as np

from lapilli.export.nir.write.builder import NirBuilder
from lapilli.export.nir.write.canonical import DT
from lapilli.export.nir.write.dialect import state_bound
from lapilli.export.nir.write.extras import steps_held, steps_of_decay
from lapilli.export.nir.write.placement import NotRepresentableError, Placed, describe
from lapilli.ir import ops
from lapilli.ir.graph import Node


def fire(file: NirBuilder, node: Node, op: ops.Neuron, x: Placed) -> Placed:
    """The spikes of neurons; each sits where its current lies."""
    name, sums = node.name, file.sums[node.inputs[0]]
    # Wiring may have left out or repeated elements: the tensor's neurons fire all the same.
    wanted = np.broadcast_to(op.threshold.array, (1, *x.positions.shape))[0]
    threshold = np.full(math.prod(x.shape), wanted.max())
    threshold[x.positions] = wanted
    if not np.array_equal(threshold[x.positions], wanted):
        raise NotRepresentableError("one value, repeated, meets different thresholds")
    file.check_exact(state_bound(op, threshold, file.graph.T, sums))
    parts = file.dialect.neurons(op, threshold.reshape(x.shape), file.graph.T)
    if len(parts) == 1:
        y = file.put(name, parts[0].neuron, x, x.shape)
    else:
        terms: list[str] = []
        for i, part in enumerate(parts):
            masked = file.put(f"{name}.{i}.mask", part.mask, x, x.shape)
            terms += file.put(f"{name}.{i}", part.neuron, masked, x.shape).sources
        y = file.same(name, Placed(tuple(terms), x.shape, x.positions))
    fired = Placed(y.sources, y.shape, x.positions)
    (key,) = y.sources
    bits = op.fraction_bits
    file.layouts[name] = {"node": key, "layout": describe(fired), "fraction_bits": bits}
    return fired


def hold(file: NirBuilder, node: Node, x: Placed) -> Placed:
    """Spikes that arrive later; each waits where it lies."""
    steps = steps_held(node.op, file.graph.types[node.inputs[0]], file.graph.T)
    if steps is None:
        raise TypeError(f"{node.name} does more than hold spikes, and was let through")
    wanted = np.broadcast_to(steps, (1, *x.positions.shape))[0]
    late = np.zeros(math.prod(x.shape), np.int64)
    late[x.positions] = wanted
    if not np.array_equal(late[x.positions], wanted):
        raise NotRepresentableError("one value, repeated, waits for different numbers of steps")
    y = file.put(node.name, nir.Delay(late.reshape(x.shape) * DT), x, x.shape)
    waited = Placed(y.sources, y.shape, x.positions)
    (key,) = y.sources
    file.layouts[node.name] = {"node": key, "layout": describe(waited)}
    return waited


def integrate(file: NirBuilder, node: Node, op: ops.Membrane, x: Placed) -> Placed:
    """The membrane of neurons that never fire, in whole numbers of its state."""
    one, tau = np.ones(x.shape), steps_of_decay(op.neuron)
    gain = float(1 << op.neuron.fraction_bits)
    made = nir.I(r=one * gain / DT)
    if op.neuron.dv:
        made = nir.LI(tau=one * (tau * DT), r=one * (tau * gain), v_leak=one * 0)
    y = file.put(node.name, made, x, x.shape)
    shown = Placed(y.sources, y.shape, x.positions)
    (key,) = y.sources
    file.layouts[node.name] = {"node": key, "layout": describe(shown)}
    return shown
