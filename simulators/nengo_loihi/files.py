"""What the worker is given: a page of JSON, and arrays beside it. It answers with spikes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from lapilli.ir.errors import SimulatorFailedError
from lapilli.ir.tensor import IntArray
from lapilli.simulators.nengo_loihi.blocks import Block
from lapilli.simulators.nengo_loihi.mapping import planes_of
from lapilli.simulators.nengo_loihi.network import LoihiNetwork

PAGE, ARRAYS, SPIKES = "page.json", "arrays.npz", "spikes.npy"


def save(
    network: LoihiNetwork,
    blocks: tuple[Block, ...],
    inputs: Mapping[str, IntArray],
    folder: Path,
) -> None:
    """Write everything for a run of samples (T, B, *shape), one after the other.

    Compartments are numbered by block from now on; what is played counts from behind the last.
    """
    order = _order(blocks)
    number = np.empty(network.count, np.int64)
    number[order] = np.arange(network.count)
    registers: dict[str, Any] = {
        field.name: getattr(network.compartments, field.name)[order].astype(np.int32)
        for field in fields(network.compartments)
    }
    arrays: dict[str, Any] = {}
    synapses = [(i, s) for i, block in enumerate(blocks) for s in block.synapses]
    for k, (_, each) in enumerate(synapses):
        sources, neurons = each.sources.copy(), each.sources < network.count
        sources[neurons] = number[sources[neurons]]
        arrays |= {
            f"sources-{k}": sources,
            f"axons-{k}": each.axons,
            f"ends-{k}": each.weights.indptr[1:],
            f"targets-{k}": each.weights.indices,
            f"weights-{k}": each.weights.data,
        }
    shown = [number[_members(network, name)] for name in network.recorded]
    np.savez(
        folder / ARRAYS,
        **registers,
        **arrays,
        recorded=np.sort(np.concatenate(shown)),
        played=_played(network, inputs),
    )
    page = {
        "steps": network.steps,
        "samples": next(iter(inputs.values())).shape[1],
        "played": network.weights.shape[1] - network.count,
        "sizes": [len(block.members) for block in blocks],
        "synapses": [[i, each.exponent] for i, each in synapses],
    }
    (folder / PAGE).write_text(json.dumps(page))


def load_spikes(
    network: LoihiNetwork, blocks: tuple[Block, ...], folder: Path
) -> dict[str, IntArray]:
    """Of each recorded node, (T, B, *shape): its first step shows at the emulator's level + 1.

    Raises:
        SimulatorFailedError: the worker recorded something else than asked.
    """
    seen = np.load(folder / SPIKES)  # (samples, steps, recorded)
    column = np.empty(network.count, np.int64)
    order = _order(blocks)
    wanted = np.concatenate([_members(network, name) for name in network.recorded])
    mask = np.isin(order, wanted)
    if seen.shape[1:] != (network.steps, int(mask.sum())):
        raise SimulatorFailedError(f"nengo-loihi's worker recorded an array of {seen.shape}")
    column[order[mask]] = np.arange(int(mask.sum()))
    found = {}
    for name in network.recorded:
        level, T = network.levels[name], network.graph.T
        rows = seen[:, level : level + T, column[_members(network, name)]]
        shape = network.graph.types[name].shape
        found[name] = rows.astype(np.int64).reshape(len(seen), T, *shape).swapaxes(0, 1)
    return found


def _order(blocks: tuple[Block, ...]) -> IntArray:
    return np.concatenate([block.members for block in blocks])


def _members(network: LoihiNetwork, name: str) -> IntArray:
    size = int(np.prod(network.graph.types[name].shape))
    return np.arange(network.places[name], network.places[name] + size)


def _played(network: LoihiNetwork, inputs: Mapping[str, IntArray]) -> IntArray:
    """(sample, step, spike) of each spike that is played, in this order; steps count from 1."""
    found = [np.zeros((0, 3), np.int64)]
    for each in network.played:
        values = inputs[each.name]
        flat = values.reshape(*values.shape[:2], -1)
        planes = planes_of(flat, network.graph.types[each.name].range)
        t, b, plane, element = np.nonzero(planes)
        spike = each.start + plane * flat.shape[2] + element
        found.append(np.stack([b, t + 1 + each.late, spike], axis=1))
    spikes: IntArray = np.unique(np.concatenate(found), axis=0)
    return spikes
