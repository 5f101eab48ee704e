"""What one run of a graph showed, whatever ran it: a simulator or PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lapilli.ir.counts import Counts
from lapilli.ir.tensor import IntArray

_DRAWN = 24  # values of which a notebook sees a row


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What a run showed. Arrays are int64 (T, B, *shape of the node); B is the batch.

    Attributes:
        values: node name -> value at each step: spikes of a neuron, sums of a read-out.
        membranes: neuron name -> membrane before its reset, in state units.
        currents: neuron name -> its input, in synaptic units.
        current_digests: neuron name -> (T, B) digests of its input, where the currents
            themselves are too many to keep (`lapilli.simulators.digest`).
        synops: accumulates performed, if the simulator counts them.
        steps: algorithmic steps that the target took, if it is pipelined.
        seconds: time spent in those steps, start-up excluded.
        counts: node name -> what it did, if the simulator counts that.
    """

    values: Mapping[str, IntArray]
    membranes: Mapping[str, IntArray] = field(default_factory=dict)
    currents: Mapping[str, IntArray] = field(default_factory=dict)
    current_digests: Mapping[str, IntArray] = field(default_factory=dict)
    synops: int | None = None
    steps: int | None = None
    seconds: float | None = None
    counts: Mapping[str, Counts] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Show a notebook what is recorded, and how much of it is not 0 at each step."""
        from lapilli.pictures.tables import table  # Lava's worker has no pictures

        rows = [
            (
                name,
                " x ".join(map(str, values.shape)),
                f"{np.count_nonzero(values):,}",
                f"{values.min(initial=0):,} to {values.max(initial=0):,}",
                "yes" if name in self.membranes else "",
            )
            for name, values in self.values.items()
        ]
        head = ("value", "T x images x shape", "not 0", "from, to", "membranes")
        return table(head, rows, caption="recording") + self._drawn()

    def _drawn(self) -> str:
        from lapilli.pictures.heat import heat

        shown = dict(list(self.values.items())[:_DRAWN])
        if not shown:
            return ""
        share = [
            [float(np.count_nonzero(step) / max(1, step.size)) for step in values]
            for values in shown.values()
        ]
        steps = [str(t) for t in range(len(share[0]))]
        told = f"the first {len(shown)} of {len(self.values)} values, over {len(steps)} steps"
        return heat(
            list(shown), steps, share, title="Share that is not 0", told=told, across="time step",
            most=1.0, written=lambda part: f"{part:.0%}", cell=(40.0, 20.0),
        )  # fmt: skip
