"""A graph as a chain of levels: for importers that lose their way where branches meet.

A level is all neurons that are equally deep. Between two levels stands one matrix: whatever a
neuron receives is a linear map of the spikes of earlier levels, along whichever branches, and
the membrane stream of a residual network is rebuilt in it for each consumer. Spikes that a
later level needs are carried there, one level at a time, by neurons without memory.

Dense matrices grow with the square of the network: sizes are computed first, and refused above
a limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import nir
import numpy as np

from lapilli.export import limits
from lapilli.export.nir.write import canonical as nir_nodes
from lapilli.export.nir.write import portable as nir_portable
from lapilli.export.nir.write.cones import Cone, cone, response
from lapilli.export.nir.write.dialect import NirDraft, state_bound
from lapilli.export.nir.write.placement import Placed, describe
from lapilli.ir import ops
from lapilli.ir.errors import Unsupported, UnsupportedError
from lapilli.ir.graph import Graph
from lapilli.ir.passes.binary.thresholds import OR
from lapilli.ir.targets.float32 import SIGNIFICAND
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import BINARY, IntRange


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """What one node of the chain puts out: a row of values, one behind the other.

    Attributes:
        names: of the values, in this order; offsets: where each begins; size: of the row.
        fresh: those that fire here for the first time; the others are carried.
    """

    names: tuple[str, ...]
    offsets: Mapping[str, int]
    size: int
    fresh: frozenset[str]


def fuse(graph: Graph, limit: int) -> NirDraft:
    """Say a graph as a chain `Input -> Affine -> CubaLIF -> Affine -> ... -> Output` of vectors.

    Args:
        graph: of binary neurons, static synapses and wiring.
        limit: on the number of weights of all matrices together.

    Raises:
        UnsupportedError: lists every node that a chain cannot say, or the sizes it would need.
    """
    _refuse(_faults(graph))
    (source,), (output,) = graph.inputs, graph.outputs
    read = graph[output].inputs[0] if isinstance(graph[output].op, ops.Readout) else output
    cones = {name: cone(graph, graph[name].inputs[0]) for name in graph.neurons}
    out = cone(graph, read)
    levels = _levels(graph, cones, out)
    _refuse(_too_late(graph, levels))
    _refuse(_too_large([level.size for level in levels] + [_size(graph, read)], limit))

    nodes: dict[str, Any] = {"input": nir.Input(np.array([levels[0].size]))}
    layouts: dict[str, Any] = {}
    bounds = graph.types[source].range | IntRange(0, 0)
    for depth in range(1, len(levels)):
        before, level, key = levels[depth - 1], levels[depth], f"level_{depth}"
        blocks = [_receives(graph, cones.get(name), name, before, level) for name in level.names]
        _refuse(_inexact(graph, level, blocks, bounds))
        nodes[f"synapses_{depth}"] = _affine(blocks)
        nodes[key] = _neurons(graph, level)
        layouts |= {name: _shown(graph, name, key, level.offsets[name]) for name in level.fresh}
        bounds = BINARY
    bias, weight = _block(graph, out, levels[-1])
    _refuse(_rounded(read, _partial_sum_bounds(bias, weight, bounds).magnitude))
    nodes["synapses_out"] = _affine([(bias, weight)])
    nodes["output"] = nir.Output(np.array([_size(graph, read)]))
    chain = list(nodes)
    return NirDraft(
        nodes=nodes,
        edges=tuple(pairwise(chain)),
        names={key: key for key in chain},
        layouts=layouts,
        output={
            "name": output,
            "layout": _shown(graph, read, "", 0)["layout"],
            "accumulate": read != output,
        },
    )


def _refuse(reasons: Sequence[Unsupported]) -> None:
    if reasons:
        raise UnsupportedError("fused nir", tuple(reasons))


def _faults(graph: Graph) -> list[Unsupported]:
    """Nodes that no chain can say."""
    faults = [Unsupported(name, "a second input") for name in graph.inputs[1:]]
    faults += [Unsupported(name, "a second output") for name in graph.outputs[1:]]
    if not graph.outputs:
        faults.append(Unsupported("outputs", "there is none"))
    for node in graph.nodes:
        if isinstance(node.op, ops.Neuron):
            reasons = nir_portable.neuron_faults(node.op, graph.T)
            faults += [Unsupported(node.name, reason) for reason in reasons]
        if isinstance(node.op, ops.GeneralNeuron):
            faults.append(Unsupported(node.name, "a general neuron; a chain's have one decay"))
        if any(isinstance(graph[i].op, ops.Readout) for i in node.inputs):
            faults.append(Unsupported(node.name, "uses a read-out, which only the host adds up"))
    return faults


def _levels(graph: Graph, cones: Mapping[str, Cone], out: Cone) -> list[_Level]:
    """Every neuron as early as it can fire, and every spike carried as long as it is needed."""
    depths = dict.fromkeys(graph.inputs, 0)
    last = dict.fromkeys(graph.inputs, 0)  # level at which a value is needed for the last time
    for name, own in cones.items():
        depths[name] = last[name] = 1 + max((depths[s] for s in own.sources), default=0)
        for s in own.sources:
            last[s] = max(last[s], depths[name] - 1)
    deepest = max(depths.values())
    last.update(dict.fromkeys(out.sources, deepest))
    levels = []
    for depth in range(deepest + 1):
        names = tuple(n for n in depths if depths[n] <= depth <= last[n])
        ends = np.cumsum([0, *(_size(graph, n) for n in names)]).tolist()
        fresh = frozenset(n for n in names if depths[n] == depth and n in cones)
        levels.append(_Level(names, dict(zip(names, ends, strict=False)), ends[-1], fresh))
    return levels


def _too_late(graph: Graph, levels: Sequence[_Level]) -> list[Unsupported]:
    """Inputs that are needed behind neurons, and that neurons cannot carry there."""
    late = {name for level in levels[1:] for name in level.names} & set(graph.inputs)
    return [
        Unsupported(name, "is needed behind neurons, and is no spike that they could carry")
        for name in sorted(late)
        if not graph.types[name].is_binary
    ]


def _too_large(rows: Sequence[int], limit: int) -> list[Unsupported]:
    """What is wrong with rows of these sizes."""
    sizes = [before * after for before, after in pairwise(rows)]
    if sum(sizes) <= limit:
        return []
    worst, memory = int(np.argmax(sizes)), limits.taken(sum(sizes))
    return [
        Unsupported(
            "the whole",
            f"{len(sizes)} matrices with {sum(sizes):,} weights, the largest {rows[worst + 1]:,} x "
            f"{rows[worst]:,}; the limit is {limit:,}; a machine of more than {memory / 2**30:.1f} "
            f"GiB takes them with {limits.enough(memory)}; the portable flavour has no such "
            "matrices, and is read by snntorch and spikingjelly",
        )
    ]


def _receives(
    graph: Graph, own: Cone | None, name: str, before: _Level, level: _Level
) -> tuple[IntArray, IntArray]:
    """Bias and weights of one value's row: its cone where it fires, itself where it is carried."""
    fires = own is not None and name in level.fresh
    return _block(graph, own if fires and own else Cone(name, (), (name,)), before)


def _block(graph: Graph, of: Cone, before: _Level) -> tuple[IntArray, IntArray]:
    """Bias and weights of a cone on the row of the level before."""
    bias, matrices = response(graph, of)
    weight = np.zeros((len(bias), before.size), np.int64)
    for source, matrix in matrices.items():
        start = before.offsets[source]
        weight[:, start : start + matrix.shape[1]] = matrix
    return bias, weight


def _affine(blocks: Sequence[tuple[IntArray, IntArray]]) -> Any:
    bias, weight = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return nir_nodes.affine(weight, bias)


def _inexact(
    graph: Graph, level: _Level, blocks: Sequence[tuple[IntArray, IntArray]], bounds: IntRange
) -> list[Unsupported]:
    """Neurons whose sums or membranes float32 could round."""
    faults = []
    for name, (bias, weight) in zip(level.names, blocks, strict=True):
        if name in level.fresh:
            op = _neuron(graph, name)
            x = _partial_sum_bounds(bias, weight, bounds)
            need = max(x.magnitude, state_bound(op, op.threshold.array, graph.T, x))
            faults += _rounded(name, need)
    return faults


def _partial_sum_bounds(bias: IntArray, weight: IntArray, bounds: IntRange) -> IntRange:
    """All partial sums of these synapses lie here."""
    positive, negative = weight.clip(min=0).sum(axis=1), weight.clip(max=0).sum(axis=1)
    most = bounds.hi * positive + bounds.lo * negative + bias.clip(min=0)
    least = bounds.lo * positive + bounds.hi * negative + bias.clip(max=0)
    return IntRange(int(least.min()), int(most.max()))


def _rounded(name: str, need: int) -> list[Unsupported]:
    if need < nir_portable.EXACT:
        return []
    reason = (
        f"its sums can need {need.bit_length()} bits; float32 is exact up to {SIGNIFICAND.bits}"
    )
    return [Unsupported(name, reason)]


def _neurons(graph: Graph, level: _Level) -> Any:
    """One node for a level, with parameters for each neuron."""
    thresholds, taus = [], []
    for name in level.names:
        op = _neuron(graph, name) if name in level.fresh else OR
        shape = graph.types[name].shape
        threshold = np.broadcast_to(op.threshold.array, (1, *shape)).ravel()
        thresholds.append(nir_nodes.between_steps(op, threshold, graph.T))
        taus.append(np.full(len(threshold), nir_portable.TIME_CONSTANTS[op.dv]))
    v_threshold = np.minimum(np.concatenate(thresholds), nir_portable.EXACT)
    return nir_nodes.cuba_lif(np.concatenate(taus), v_threshold)


def _neuron(graph: Graph, name: str) -> ops.Neuron:
    op = graph[name].op
    if not isinstance(op, ops.Neuron):
        raise TypeError(f"{name} fires and is no neuron")
    return op


def _shown(graph: Graph, name: str, key: str, offset: int) -> dict[str, Any]:
    """The metadata of a value that lies in a row from `offset` on."""
    shape = graph.types[name].shape
    home = offset + np.arange(math.prod(shape)).reshape(shape)
    op = graph[name].op
    bits = {"fraction_bits": op.fraction_bits} if isinstance(op, ops.Neuron) else {}
    return {"node": key, "layout": describe(Placed((), shape, home)), **bits}


def _size(graph: Graph, name: str) -> int:
    return math.prod(graph.types[name].shape)
