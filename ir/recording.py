"""What one run of a graph showed, whatever ran it: a simulator or PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lapilli.ir.counts import Counts
from lapilli.ir.tensor import IntArray


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
