"""What a simulator is given: the inputs that its graph was proved for, or an error."""

from __future__ import annotations

from collections.abc import Mapping

from lapilli.ir.errors import InputError, RangeError
from lapilli.ir.graph import Graph
from lapilli.ir.tensor import IntArray


def check_inputs(graph: Graph, inputs: Mapping[str, IntArray]) -> int:
    """The number of samples B of inputs (T, B, *shape) that the graph was proved for.

    Raises:
        InputError: one is missing, or there are no samples, or not of each as many.
        RangeError: one is not of the type or the number of steps.
    """
    if missing := [name for name in graph.inputs if name not in inputs]:
        raise InputError(
            f"the graph takes {', '.join(graph.inputs)}, and no {missing[0]!r} is given"
        )
    for name in graph.inputs:
        given, kind = inputs[name], graph.types[name]
        if given.shape[:1] != (graph.T,) or given.shape[2:] != kind.shape:
            raise RangeError(name, f"input {given.shape} is not (T = {graph.T}, B) of {kind}")
        if given.size and not (int(given.min()) in kind.range and int(given.max()) in kind.range):
            raise RangeError(name, f"input in [{given.min()}, {given.max()}] leaves {kind}")
    counts = {name: inputs[name].shape[1] for name in graph.inputs}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise InputError(f"the same number of samples is needed of each input, got {counts}")
    samples: int = counts[graph.inputs[0]]
    return samples
