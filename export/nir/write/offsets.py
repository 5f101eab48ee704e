"""Constants for each element, as of a position embedding: written where they are added.

No node of NIR has a bias for each pixel. The graph adds the current of a synapse without weights;
here one pixel that is always 1 meets a kernel as large as the map, whose weights are the constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lapilli.export.nir.write import canonical as nir_nodes
from lapilli.export.nir.write.builder import NirBuilder
from lapilli.export.nir.write.layouts import cropped
from lapilli.export.nir.write.placement import NotRepresentableError, Placed
from lapilli.export.nir.write.routing import Weights, onto_elements, onto_map
from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.semantics import evaluate
from lapilli.ir.tensor import IntArray

_NONE = np.zeros(0, np.int64)
_NO_WEIGHTS = Weights(_NONE, _NONE, _NONE)


@dataclass(frozen=True, slots=True, eq=False)
class Offsets:
    """A current that is the same at every step.

    Attributes:
        heard: the value that its synapse, which has no weights, is given.
        values: of each element.
    """

    heard: str
    values: IntArray


def offsets_of(graph: Graph) -> Mapping[str, Offsets]:
    """Find the constant currents that nothing but sums with other values reads, by node."""
    found: dict[str, Offsets] = {}
    for node in graph.nodes:
        match node.op:
            case ops.Linear(weight=weight, bias=bias) if not weight.array.any():
                values = np.broadcast_to(bias.array, graph.types[node.name].shape)
                found[node.name] = Offsets(node.inputs[0], np.array(values))
            case ops.Reshape() | ops.Permute() | ops.Slice() if node.inputs[0] in found:
                inner = found[node.inputs[0]]
                found[node.name] = Offsets(inner.heard, evaluate(node.op, (inner.values[None],))[0])
            case _:
                pass
    for node in reversed(graph.nodes):
        added = isinstance(node.op, ops.Add) and sum(i in found for i in node.inputs) == 1
        if node.name in graph.outputs or not (added or node.name in found):
            for name in (node.name, *node.inputs):
                found.pop(name, None)
    return found


def placed_beside(
    file: NirBuilder, name: str, offsets: Offsets, heard: Placed, x: Placed
) -> Placed:
    """Constants where the elements of `x` lie, to be added to it.

    Args:
        file: in the making.
        name: of the node.
        offsets: for each element of x.
        heard: the value that they stand behind; any does.
        x: what they are added to.

    Raises:
        NotRepresentableError: a vector cannot become a map, or a matrix is too large.
    """
    shape, home = x.shape, x.positions
    if len(shape) not in (1, 3) or len(np.unique(home)) < home.size:  # repeated elements are apart
        shape = (home.size, 1, 1) if len(shape) == 3 else (home.size,)
        home = np.arange(home.size).reshape(home.shape)
    places, values = home.ravel(), offsets.values.ravel()
    if len(shape) == 1:
        bias = np.zeros(shape, np.int64)
        bias[places] = values
        size = (math.prod(heard.shape),)
        if heard.shape != size and not file.dialect.FLATTENS:
            raise NotRepresentableError("adds constants to a vector behind a map")
        if heard.shape != size:
            heard = file.put(f"{name}.flatten", nir_nodes.flatten(heard.shape), heard, size)
        return file.stages(name, onto_elements(_NO_WEIGHTS, bias, size), heard, home)
    if len(heard.shape) != 3:
        raise NotRepresentableError("adds constants to a map behind a vector")
    one = onto_elements(_NO_WEIGHTS, np.ones(1, np.int64), heard.shape)
    weights = Weights(places, np.zeros(places.size, np.int64), values)
    spread = onto_map(weights, 1, (shape[0], shape[1], shape[2]))
    return file.stages(name, [*one, spread], heard, cropped(home, shape, spread.shape))
