"""The trained networks in nengo-loihi's emulator: its spikes are PyTorch's and Lava's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lapilli.deploy.comparison.compare import compare
from lapilli.ir.errors import SimulatorUnavailableError
from lapilli.model.digits import PREPROCESSING, Split
from lapilli.simulators.lava.host.stock import StockLava
from lapilli.simulators.nengo_loihi.blocks import divided
from lapilli.simulators.nengo_loihi.environment import NENGO_LOIHI
from lapilli.simulators.nengo_loihi.simulator import NengoLoihi

pytestmark = [pytest.mark.torch, pytest.mark.lava, pytest.mark.slow]

IMAGES = 16
ROWS = {"spikformer": "Spikformer", "spike_driven": "Spike-driven Transformer"}


def documented(name: str) -> list[int]:
    """The numbers of a row of docs/nengo-loihi.md."""
    page = (Path(__file__).parents[2] / "docs" / "nengo-loihi.md").read_text()
    (line,) = (row for row in page.splitlines() if row.startswith(f"| {name} |"))
    return [int(cell.replace(",", "")) for cell in line.strip("| ").split(" | ")[1:]]


@pytest.mark.parametrize("model", ROWS)
def test_the_digits_networks_are_exact(model: str, training: Split, test_split: Split) -> None:
    from lapilli.model.digits import trained
    from lapilli.quantize import quantize

    try:
        NENGO_LOIHI.find()
    except SimulatorUnavailableError:
        pytest.skip("nengo-loihi's environment is not built: lapilli doctor --fix")
    made = quantize(
        trained(model),
        PREPROCESSING.normalise(training.images[:256]),
        mean=PREPROCESSING.mean,
        std=PREPROCESSING.std,
        target="loihi1",
    )
    network, images = made.network, test_split.images[:IMAGES]
    executable = NengoLoihi().compile(network.graph)
    found = compare(network, made.reference, executable, images)
    found.require()
    size = executable.size
    assert documented(ROWS[model]) == [
        size.compartments, size.relays, size.synapses, size.blocks, size.latency, found.images,
        found.compared,
    ]  # fmt: skip

    # Lava, filled from the same lowering, shows the same; a neuron that fires, and hears the image
    # with the other sign, does not.
    inputs = network.encode(images[:1])
    here, there = executable.run(inputs), StockLava().compile(network.graph).run(inputs)
    assert here.values.keys() == there.values.keys()
    assert all(np.array_equal(value, there.values[name]) for name, value in here.values.items())
    weights = executable.network.weights.copy()
    first = next(n for n in executable.network.recorded if executable.network.levels[n] == 1)
    most = int(here.values[first].sum(axis=(0, 1)).argmax())
    row = executable.network.places[first] + most
    weights.data[weights.indptr[row] : weights.indptr[row + 1]] *= -1
    faulty = replace(executable.network, weights=weights)
    got = replace(executable, network=faulty, blocks=divided(faulty)).run(inputs)
    assert any(not np.array_equal(v, there.values[name]) for name, v in got.values.items())
