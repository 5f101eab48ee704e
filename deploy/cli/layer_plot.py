"""A layer of one image as a picture: who fired when, membranes, and thresholds across."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lapilli.ir import ops
from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.pictures.spikes import Trace, raster, traces
from lapilli.pictures.stack import stacked

_ROWS = 40  # neurons that are drawn, where nobody says which
_LINES = 4  # membranes in one picture


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """What some neurons of a layer did.

    Attributes:
        node: its name; size: neurons of all of it; fired: how many of them did at all.
        chosen: numbers of those that are shown, rows of what follows; names: theirs.
        events: (chosen, T); membranes: before reset, likewise, None where there are none.
        levels: of each of `chosen` its thresholds by name.
    """

    node: str
    size: int
    fired: int
    chosen: tuple[int, ...]
    names: tuple[str, ...]
    events: IntArray
    membranes: IntArray | None
    levels: tuple[Mapping[str, float], ...]


def check_node(graph: Graph, name: str) -> str:
    """Return the name, or of none the first layer of neurons.

    Raises:
        InputError: no such layer; says which are like it.
    """
    shown = (*graph.firing, *graph.membranes)
    if not shown:
        raise InputError("no neurons are in it: there is no raster to draw")
    if not name:
        return shown[0]
    if name not in shown:
        near = difflib.get_close_matches(name, shown, n=3, cutoff=0.3) or shown[:3]
        raise InputError(f"no layer of neurons is called {name!r}; such are {', '.join(near)}")
    return name


def layer_of(
    graph: Graph, recording: Recording, name: str, chosen: Sequence[int] | None = None
) -> Layer:
    """Take the neurons that are shown out of a run of one image.

    Args:
        graph: that ran.
        recording: of one image.
        name: of a layer.
        chosen: numbers of neurons; by default those that changed most from step to step, in
            their order.

    Raises:
        InputError: a number that no neuron has.
    """
    shape = graph.types[name].shape
    shown = recording.values[name][:, 0].reshape(graph.T, -1).T  # (neurons, T)
    sent = np.abs(shown).sum(axis=1)
    if chosen is None:
        changes = np.count_nonzero(np.diff(shown, axis=1, prepend=0), axis=1)
        chosen = sorted(np.lexsort((-sent, -changes))[:_ROWS].tolist())
    if beyond := [n for n in chosen if not 0 <= n < len(shown)]:
        raise InputError(f"{name} has neurons 0 to {len(shown) - 1:,}, none {beyond[0]:,}")
    membranes = _membranes(graph, recording, name)
    picked = list(chosen)
    return Layer(
        node=name,
        size=len(shown),
        fired=int(np.count_nonzero(sent)),
        chosen=tuple(picked),
        names=tuple(
            ",".join(str(int(i)) for i in np.unravel_index(n, shape)) or "0" for n in picked
        ),
        events=shown[picked] if name in graph.firing else np.zeros((len(picked), graph.T), int),
        membranes=None if membranes is None else membranes[picked],
        levels=tuple(_levels(graph[name].op, shape, n) for n in picked),
    )


def _membranes(graph: Graph, recording: Recording, name: str) -> IntArray | None:
    known = recording.values if name in graph.membranes else recording.membranes
    return known[name][:, 0].reshape(graph.T, -1).T if name in known else None


def _levels(op: ops.Op, shape: tuple[int, ...], number: int) -> dict[str, float]:
    """Thresholds of one neuron that are the same at all steps."""
    if isinstance(op, ops.Membrane):
        return _levels(op.neuron, shape, number)
    if isinstance(op, ops.Neuron):
        level = _at(op.threshold, shape, number)
        return {"threshold": level, "below": -level} if op.ternary else {"threshold": level}
    if isinstance(op, ops.GeneralNeuron) and op.threshold.shape[0] == 1:
        each = op.threshold.array[0]
        return {
            f"level {k + 1}" if len(each) > 1 else "threshold": _at(
                IntTensor.of(level), shape, number
            )
            for k, level in enumerate(each)
        }
    return {}


def _at(constant: IntTensor, shape: tuple[int, ...], number: int) -> float:
    if constant.array.size == 1:
        return float(constant.array.item())
    return float(np.broadcast_to(constant.array, shape).ravel()[number])


def picture(layer: Layer, image: str) -> str:
    """Draw a raster, and below it up to four membranes with their thresholds.

    Args:
        layer: what is drawn.
        image: what the caption calls the input.
    """
    sent = int(np.abs(layer.events).sum())
    which = (
        "all of them"
        if len(layer.chosen) == layer.size
        else f"{len(layer.chosen)} of {layer.size:,} neurons, of which {layer.fired:,} fired at all"
    )
    told = f"{image}: {which}, {sent:,} events in {layer.events.shape[1]} steps"
    parts = []
    if layer.events.any() or layer.membranes is None:
        parts.append(raster(layer.events, title=layer.node, told=told, labels=layer.names))
    if layer.membranes is not None and layer.chosen:
        parts.append(_drawn_membranes(layer, told))
    return stacked(parts, title=layer.node, told=told)


def _drawn_membranes(layer: Layer, told: str) -> str:
    """Of the first neurons that fired; where their thresholds are the same, these once."""
    order = np.argsort(~layer.events.any(axis=1), kind="stable")[:_LINES].tolist()
    lines = [
        Trace(layer.names[n], [float(v) for v in _row(layer.membranes, n)]) for n in sorted(order)
    ]
    different = {tuple(layer.levels[n].items()): layer.names[n] for n in sorted(order)}
    levels = {
        name if len(different) == 1 else f"{name} of {whose}": level
        for held, whose in different.items()
        for name, level in held
    }
    title = f"{layer.node}, membranes before reset in state units"
    return traces(lines, title=title, told=told, levels=levels)


def _row(membranes: IntArray | None, number: int) -> list[int]:
    found: list[int] = [] if membranes is None else membranes[number].tolist()
    return found
