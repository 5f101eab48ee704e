"""What is counted of each layer over the images of a shard."""

from __future__ import annotations

from typing import Any

import numpy as np

from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray

Row = dict[str, Any]


class Layers:
    """A row for each node that is recorded; sums over images, in integers."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._rows: dict[str, Row] = {}

    def add(self, got: Recording) -> None:
        """Count events, and look how far membranes go, of one batch."""
        for name in self._graph.recorded:
            values, row = got.values[name], self._row(name)
            if name in self._graph.firing:
                most = values.size * self._graph.types[name].range.magnitude
                steps = np.abs(values).reshape(len(values), -1).sum(axis=1).tolist()
                _add(row, events=sum(steps), most=most)
                row["step_events"] = summed(row.get("step_events"), steps)
            state = values if name in self._graph.membranes else got.membranes.get(name)
            if state is not None:
                lowest, highest = int(state.min()), int(state.max())
                row["lowest"] = min(row.get("lowest", lowest), lowest)
                row["highest"] = max(row.get("highest", highest), highest)

    def add_float(self, name: str, spikes: IntArray, mismatches: int) -> None:
        """Count what the model in float sent, and where integers send something else."""
        events = int(np.abs(spikes).sum())
        _add(
            self._row(name),
            float_events=events,
            float_compared=spikes.size,
            float_mismatches=mismatches,
        )

    def add_compared(self, name: str, kind: str, compared: int, mismatches: int) -> None:
        """Count what was compared with the quantized module: currents, membranes, ..."""
        row = self._row(name)
        _add(row, compared=compared, mismatches=mismatches)
        kinds = {told["kind"]: told for told in row.get("kinds", [])}
        told = kinds.setdefault(kind, {"kind": kind, "compared": 0, "mismatches": 0})
        _add(told, compared=compared, mismatches=mismatches)
        row["kinds"] = list(kinds.values())

    def rows(self) -> list[Row]:
        """Return a row for each node, in the order of the graph."""
        order = [node.name for node in self._graph.nodes]
        return sorted(self._rows.values(), key=lambda row: order.index(row["node"]))

    def _row(self, name: str) -> Row:
        return self._rows.setdefault(name, {"node": name, "compared": 0, "mismatches": 0})


def summed(one: list[int] | None, other: list[int] | None) -> list[int] | None:
    """Add numbers of each step; None of a shard that has none."""
    if one is None or other is None:
        return other if one is None else one
    return [a + b for a, b in zip(one, other, strict=True)]


def _add(row: Row, **counts: int) -> None:
    for key, count in counts.items():
        row[key] = row.get(key, 0) + count
