"""The network that was trained on CIFAR-10: its integers, every value of two simulators.

CIFAR-10 has no licence that would let its images lie here: the images are clouds of its colours.
What the network answers on the real ones stands in docs/training.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

import lapilli.model
from lapilli.deploy.comparison.compare import compare
from lapilli.model.loading.checkpoint import build, load_checkpoint
from lapilli.quantize import Quantized, quantize
from lapilli.simulators.fast.simulator import Fast
from lapilli.simulators.protocol import Simulator
from lapilli.simulators.reference import Reference

FOLDER = Path(lapilli.model.__file__).parent / "checkpoints"


def _clouds(count: int) -> npt.NDArray[np.uint8]:
    """Images whose colours change over some pixels, as photographs' do."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (count, 3, 8, 8))
    return coarse.repeat(4, axis=2).repeat(4, axis=3).astype(np.uint8)


@pytest.fixture(scope="module")
def integers() -> Quantized:
    trained = load_checkpoint(FOLDER / "cifar10_spike_driven.safetensors")
    known = trained.preprocessing
    assert known is not None
    assert known.classes[0] == "airplane"
    return quantize(
        build(trained), known.normalise(_clouds(16)), mean=known.mean, std=known.std,
        classes=known.classes,
    )  # fmt: skip


def test_all_checkpoints_are_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 8e6


@pytest.mark.parametrize("simulator", [Reference(), Fast()], ids=lambda s: s.name)
def test_every_value_is_that_of_pytorch(integers: Quantized, simulator: Simulator) -> None:
    network = integers.network
    found = compare(network, integers.reference, simulator.compile(network.graph), _clouds(2))
    found.require()  # also that each layer fires, and none always
    assert found.images == 2
    assert found.compared > 1_000_000
