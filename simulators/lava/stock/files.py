"""What the worker is given: a page of JSON, and arrays beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lapilli.ir.tensor import IntArray
from lapilli.simulators.lava.stock.network import StockNetwork

PAGE = "stock.json"
REGISTERS, WEIGHTS, INPUT, SPIKES = (
    "registers-{}.npz", "weights-{}.npz", "input-{}.npy", "spikes-{}.npy"
)  # fmt: skip
BLANK = -1  # what no spike is


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One run.

    Attributes:
        steps: of Lava. run_config: see `lapilli.simulators.lava.shared.run_config`.
        populations: registers of each. axons: each without its weights.
        played: inputs, as axons name them. watched: populations to record.
    """

    steps: int
    run_config: str
    populations: list[dict[str, int]]
    axons: list[dict[str, int]]
    played: list[int]
    watched: list[int]


def save(
    network: StockNetwork, inputs: Mapping[str, IntArray], run_config: str, folder: Path
) -> Page:
    """Write everything for a run of samples (T, B, *shape), one after the other."""
    graph = network.graph
    samples = next(iter(inputs.values())).shape[1]
    for i, population in enumerate(network.populations):
        file = folder / REGISTERS.format(i)
        np.savez(file, mantissa=population.mantissa, exponent=population.exponent)
    for i, axon in enumerate(network.axons):
        w, d = axon.weights, axon.delays
        file = folder / WEIGHTS.format(i)
        np.savez(file, weights=w.data, delays=d.data, indices=w.indices, indptr=w.indptr)
    watched = network.watched
    steps = graph.T * samples + max(network.levels[name] for name in network.recorded)
    for i in watched:
        shape = (steps, 1, network.populations[i].size)
        blank = np.lib.format.open_memmap(
            folder / SPIKES.format(i), mode="w+", dtype=np.int8, shape=shape
        )
        blank[:] = BLANK
    played = sorted({axon.source for axon in network.axons if axon.source < 0})
    for i in played:
        rows = inputs[graph.inputs[-1 - i]].swapaxes(0, 1).reshape(samples * graph.T, -1)
        whole = np.zeros((rows.shape[1], steps), np.int32)
        whole[:, : len(rows)] = rows.T
        np.save(folder / INPUT.format(i), whole)
    page = Page(
        steps=steps,
        run_config=run_config,
        populations=[
            {**asdict(p.registers), "vth": p.vth, "size": p.size} for p in network.populations
        ],
        axons=[_facts(axon, network) for axon in network.axons],
        played=played,
        watched=list(watched),
    )
    (folder / PAGE).write_text(json.dumps(asdict(page)))
    return page


def _facts(axon: Any, network: StockNetwork) -> dict[str, int]:
    """An axon as numbers; a message has bits where it is not just a spike."""
    kind = network.graph.types[network.graph.inputs[-1 - axon.source]] if axon.source < 0 else None
    return {
        "source": axon.source,
        "target": axon.target,
        "longest_delay": axon.longest_delay,
        "exponent": axon.exponent,
        "message_bits": 0 if kind is None or kind.is_binary else kind.range.bits,
    }


def load(folder: Path) -> Page:
    """Read what `save` wrote."""
    return Page(**json.loads((folder / PAGE).read_text()))
