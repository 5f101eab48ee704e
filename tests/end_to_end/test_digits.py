"""The two trained networks, whole: accuracy, Lava, NIR."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from lapilli.deploy.comparison.compare import compare
from lapilli.ir import ops
from lapilli.model.digits import PREPROCESSING, TEST_IMAGES, Split, load_digits
from lapilli.model.loading.checkpoint import Checkpoint, build
from lapilli.quantize import Quantized, quantize
from lapilli.simulators.c import PortableC, compiler
from lapilli.simulators.lava.host.adapter import Lava
from lapilli.simulators.nir.nirtorch import Nir, NirTorch
from lapilli.simulators.nir.snntorch import SnnTorch
from lapilli.simulators.nir.spikingjelly import SpikingJelly
from lapilli.simulators.onnx import Onnx
from lapilli.simulators.protocol import Simulator
from lapilli.simulators.reference import Reference

Get = Callable[[str], Quantized]
MODELS = ("spikformer", "spike_driven")
LAVA_IMAGES = 64


@pytest.mark.parametrize("model", MODELS)
def test_integers_answer_as_well_as_floats(
    quantized: Get, checkpoint: Callable[[str], Checkpoint], test_split: Split, model: str
) -> None:
    q = quantized(model)
    network = q.network
    found = compare(
        network,
        q.reference,
        Reference().compile(network.graph),
        test_split.images,
    )
    found.require()
    assert found.images == TEST_IMAGES
    assert found.compared > 60_000_000
    integers = int((np.array(found.answers) == test_split.labels).sum())
    floats = PREPROCESSING.right(build(checkpoint(model)), test_split.images, test_split.labels)
    assert floats >= 0.97 * TEST_IMAGES
    assert floats - integers <= 2


@pytest.mark.skipif(compiler() is None, reason="no C compiler is installed")
@pytest.mark.parametrize("model", MODELS)
def test_portable_c_fires_every_spike_of_pytorch(
    quantized: Get, test_split: Split, model: str
) -> None:
    q = quantized(model)
    simulator = PortableC(step=model == "spikformer")  # each way to call once
    found = compare(q.network, q.reference, simulator.compile(q.network.graph), test_split.images)
    found.require()
    assert found.images == TEST_IMAGES
    assert found.compared > 20_000_000


@pytest.mark.lava
@pytest.mark.parametrize("model", MODELS)
def test_lava_fires_every_spike_of_pytorch(quantized: Get, test_split: Split, model: str) -> None:
    q = quantized(model)
    network = q.network
    found = compare(
        network,
        q.reference,
        Lava().compile(network.graph),
        test_split.images[:LAVA_IMAGES],
        batch=LAVA_IMAGES,
    )
    found.require()
    assert found.images == LAVA_IMAGES
    assert found.compared > 3_000_000
    assert found.steps >= LAVA_IMAGES // Lava().batch * network.graph.T


def test_nirtorch_fires_every_spike_of_the_spike_driven_network(
    spike_driven: Quantized, test_split: Split
) -> None:
    """Written to a .nir file, read back, run by software that we did not write."""
    network = spike_driven.network
    found = compare(
        network,
        spike_driven.reference,
        Nir().compile(network.graph),
        test_split.images[:60],
    )
    found.require()
    assert found.compared > 3_000_000


@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_onnxruntime_fires_every_spike_of_pytorch(
    quantized: Get, test_split: Split, model: str, step: bool
) -> None:
    """Currents and membranes too: in an .onnx model, both of one step and of all."""
    q = quantized(model)
    network = q.network
    found = compare(
        network,
        q.reference,
        Onnx(step=step, inlined=step).compile(network.graph),
        test_split.images[:60],
    )
    found.require()
    assert found.compared > 10_000_000


def _exact_in(simulator: Simulator, made: Quantized, images: npt.NDArray[np.uint8]) -> int:
    """How many values of all images the importer and PyTorch share."""
    for package in ("nirtorch", "snntorch", "spikingjelly"):
        pytest.importorskip(package)
    network = made.network
    found = compare(network, made.reference, simulator.compile(network.graph), images)
    found.require()
    assert found.images == len(images)
    return found.compared


@pytest.mark.parametrize(
    "simulator", [NirTorch(), SnnTorch(), SpikingJelly()], ids=lambda s: s.name
)
def test_importers_of_others_fire_every_spike_of_the_spike_driven_network(
    spike_driven: Quantized, test_split: Split, simulator: Simulator
) -> None:
    """The portable file, through importers that we did not write, in float32."""
    assert _exact_in(simulator, spike_driven, test_split.images[:32]) > 1_800_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "simulator", [NirTorch(), SnnTorch(), SpikingJelly()], ids=lambda s: s.name
)
def test_importers_of_others_fire_every_spike_of_the_spikformer(
    spikformer: Quantized, test_split: Split, simulator: Simulator
) -> None:
    """The same of attention by matrix products, which are AND neurons in NIR."""
    assert _exact_in(simulator, spikformer, test_split.images[:120]) > 7_000_000


@pytest.mark.parametrize("model", MODELS)
def test_pools_see_spikes(quantized: Get, model: str) -> None:
    graph = quantized(model).network.graph
    pools = [n for n in graph.nodes if isinstance(n.op, ops.MaxPool2d)]
    assert len(pools) == 1
    assert all(isinstance(graph[p.inputs[0]].op, ops.Neuron) for p in pools)


def test_the_split_is_the_same_for_everything(digits: tuple[Split, Split]) -> None:
    training, test = digits
    again = load_digits()
    assert len(test.images) == TEST_IMAGES
    assert np.array_equal(again[1].images, test.images)
    # Two digits may be drawn alike, but the split itself must share no image by accident.
    seen = {image.tobytes() for image in training.images}
    assert sum(image.tobytes() in seen for image in test.images) == 0


def test_calibration_never_sees_test_images(
    spikformer: Quantized, checkpoint: Callable[[str], Checkpoint], training: Split
) -> None:
    """Other training images give the same scale; the fixture itself is given no others."""
    again = quantize(
        build(checkpoint("spikformer")),
        PREPROCESSING.normalise(training.images),
        mean=PREPROCESSING.mean,
        std=PREPROCESSING.std,
        classes=PREPROCESSING.classes,
    )
    assert again.network.graph.digest == spikformer.network.graph.digest
