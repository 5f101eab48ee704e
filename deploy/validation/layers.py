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
                _add(row, events=int(np.abs(values).sum()), most=most)
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

    def add_compared(self, name: str, compared: int, mismatches: int) -> None:
        """Count what was compared with the quantized module."""
        _add(self._row(name), compared=compared, mismatches=mismatches)

    def rows(self) -> list[Row]:
        """Return a row for each node, in the order of the graph."""
        order = [node.name for node in self._graph.nodes]
        return sorted(self._rows.values(), key=lambda row: order.index(row["node"]))

    def _row(self, name: str) -> Row:
        return self._rows.setdefault(name, {"node": name, "compared": 0, "mismatches": 0})


def _add(row: Row, **counts: int) -> None:
    for key, count in counts.items():
        row[key] = row.get(key, 0) + count
