"""The side of nengo-loihi: `python -I worker.py FOLDER`, one process for a run.

It imports nothing of lapilli: it runs in an environment of old packages, with what `files` left in
the folder. It fills nengo-loihi's own blocks, has them checked by its own rules, and steps its
emulator, in which an overflow is an error. Each step is a line on standard output.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from nengo_loihi.block import Axon, LoihiBlock, Synapse
from nengo_loihi.builder import Model
from nengo_loihi.builder.discretize import bias_to_manexp, vth_to_manexp
from nengo_loihi.builder.validate import validate_model
from nengo_loihi.emulator import EmulatorInterface
from nengo_loihi.inputs import SpikeInput
from nengo_loihi.probe import LoihiProbe

MOST_POTENTIAL = 2**23 - 1


def say(**content: Any) -> None:
    """A line to the host; if nobody is there any more, an error that ends the run."""
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


class StrictEmulator(EmulatorInterface):
    """What would only warn of an overflow raises."""

    strict = True


def build(page: dict[str, Any], arrays: Any) -> tuple[Model, SpikeInput, LoihiProbe]:
    """A model of blocks, integers from the start: nothing is left to discretize."""
    model = Model()
    starts = np.cumsum([0, *page["sizes"]])
    blocks = []
    for start, size in zip(starts.tolist(), page["sizes"], strict=False):
        blocks.append(_block(arrays, start, size))
        model.add_block(blocks[-1])
    sources: list[Any] = list(blocks)
    played = SpikeInput(page["played"])
    sources.append(played)
    for k, (target, exponent) in enumerate(page["synapses"]):
        synapse = _synapse(arrays, k, exponent)
        blocks[target].add_synapse(synapse)
        heard, rows = arrays[f"sources-{k}"], arrays[f"axons-{k}"]
        home = np.searchsorted(starts, heard, side="right") - 1
        for i in np.unique(home).tolist():
            own = home == i
            _connect(sources[i], heard[own] - starts[i], rows[own], synapse)
    model.add_input(played)
    recorded = arrays["recorded"]
    home = np.searchsorted(starts, recorded, side="right") - 1
    watched = np.unique(home).tolist()
    probe = LoihiProbe(
        target=[blocks[i] for i in watched],
        key="spiked",
        slice=[recorded[home == i] - starts[i] for i in watched],
    )
    model.add_probe(probe)
    validate_model(model)
    return model, played, probe


def _block(arrays: Any, start: int, size: int) -> LoihiBlock:
    block = LoihiBlock(size)
    own = {n: arrays[n][start : start + size] for n in ("decay_u", "decay_v", "vth", "bias")}
    for name, (split, values) in {
        "vth": (vth_to_manexp, own["vth"]),
        "bias": (bias_to_manexp, own["bias"]),
    }.items():
        mantissa, exponent = split(values)
        if np.any(mantissa * 2**exponent != values):
            raise ValueError(f"{name} does not fit its registers")
    compartment = block.compartment
    for name, values in own.items():
        setattr(compartment, name, values)
    compartment.scale_u = compartment.scale_v = False
    compartment.refract_delay[:] = 1  # the least: it fires again a step later
    compartment.vmin, compartment.vmax = int(arrays["vmin"][start]), MOST_POTENTIAL
    compartment.noise_exp = 1
    return block


def _synapse(arrays: Any, k: int, exponent: int) -> Synapse:
    ends = arrays[f"ends-{k}"][:-1]
    weights = np.split(arrays[f"weights-{k}"], ends)
    targets = np.split(arrays[f"targets-{k}"], ends)
    synapse = Synapse(len(weights))
    synapse.set_population_weights(
        [w[None] for w in weights], [t[None] for t in targets], None, None, pop_type=0
    )
    synapse.format(weight_exp=exponent)
    scale = synapse.synapse_cfg.real_weight_exp
    synapse.weights = [w[None].astype(np.int32) << scale for w in weights]
    return synapse


def _connect(source: Any, numbers: Any, rows: Any, synapse: Synapse) -> None:
    """Axons from those numbers of what fires to these rows of a synapse."""
    axon = Axon(len(numbers))
    axon.target = synapse
    places = np.full(source.n_neurons, -1)
    places[numbers] = rows
    axon.set_compartment_axon_map(places)
    source.add_axon(axon)


def run(page: dict[str, Any], arrays: Any) -> Any:
    """Spikes of what is recorded: (samples, steps, compartments)."""
    model, played, probe = build(page, arrays)
    first, last = arrays["first"], arrays["last"]
    spikes = arrays["played"]
    answers = []
    began = time.perf_counter()
    for sample in range(page["samples"]):
        _play(played, spikes[spikes[:, 0] == sample, 1:])
        emulator = StrictEmulator(model, seed=0)  # at rest
        state = emulator.compartment
        for step in range(1, page["steps"] + 1):
            outside = (step - 1 < first) | (step - 1 > last)
            for part in (state.voltage, state.current, state.spiked):
                part[outside] = 0
            emulator.step()
            say(step=sample * page["steps"] + step)
        answers.append(emulator.collect_probe_output(probe).astype(np.int8))
    say(seconds=time.perf_counter() - began)
    return np.stack(answers)


def _play(played: SpikeInput, spikes: Any) -> None:
    played.spikes.clear()
    for step in np.unique(spikes[:, 0]).tolist():
        played.add_spikes(step, spikes[spikes[:, 0] == step, 1])


def main() -> None:
    """Run what the folder holds; leave the answer beside it."""
    folder = Path(sys.argv[1])
    versions = {name: metadata.version(name) for name in ("nengo-loihi", "nengo", "numpy")}
    say(versions=versions)
    page = json.loads((folder / "page.json").read_text())
    with np.load(folder / "arrays.npz") as arrays:
        np.save(folder / "spikes.npy", run(page, dict(arrays.items())))


if __name__ == "__main__":
    main()
