"""Whole networks of stock Lava processes: every spike and logit is the reference's.

The rows of docs/lava.md say how large they are, and are held by these tests.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lapilli.ir.graph import Graph  # noqa: E402
from lapilli.ir.passes.binary import to_binary_neurons  # noqa: E402
from lapilli.ir.tensor import IntArray  # noqa: E402
from lapilli.model import trial  # noqa: E402
from lapilli.model.digits import PREPROCESSING, trained  # noqa: E402
from lapilli.model.families.a2os2a import A2OS2AConfig  # noqa: E402
from lapilli.model.families.e_spikeformer import ESpikeFormerConfig  # noqa: E402
from lapilli.model.families.meta_spikeformer import MetaSpikeFormerConfig  # noqa: E402
from lapilli.model.families.qkformer import QKFormerConfig  # noqa: E402
from lapilli.model.families.semm import SEMMConfig, SEMMImageNetConfig  # noqa: E402
from lapilli.model.families.spike_driven import SpikeDrivenConfig  # noqa: E402
from lapilli.model.families.spikformer import SpikformerConfig  # noqa: E402
from lapilli.model.families.spikingformer import SpikingformerConfig  # noqa: E402
from lapilli.model.families.table import Config  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.simulators.lava.host.stock import StockExecutable, StockLava  # noqa: E402
from lapilli.simulators.lava.host.supervisor import Limits  # noqa: E402
from lapilli.simulators.lava.stock.mapping import to_stock  # noqa: E402
from lapilli.simulators.lava.stock.network import MOST_DELAY  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402
from lapilli.simulators.stock.currents import currents  # noqa: E402

if TYPE_CHECKING:
    from lapilli.model.digits import Split

pytestmark = [pytest.mark.torch, pytest.mark.lava]

_16: dict[str, Any] = {"embed_dim": 16, "heads": 2, "depth": 1}
_8: dict[str, Any] = {"embed_dim": 8, "heads": 1}
_IMAGENET: dict[str, Any] = {"layout": "imagenet", "pooling": "1111"}
_DVS: dict[str, Any] = {"layout": "dvs", "pooling": "1111", "in_channels": 2, "T": 10}
_EXPERTS: dict[str, Any] = {"attention": "emsa", "expert_dim": 8}
_WIDTHS: dict[str, Any] = {"widths": (8, 8, 8, 8), "heads": 1, "classes": 5, "depths": (1, 1)}
# Every layout of `trial.SMALL`, small enough for Lava: configuration, side of its images.
SMALL: dict[str, tuple[Config, int]] = {
    "spikformer cifar": (SpikformerConfig(**_16), 8),
    "spikformer imagenet": (SpikformerConfig(**_16, **_IMAGENET), 32),
    "spikformer dvs": (SpikformerConfig(**_16, **_DVS), 32),
    "spikformer step": (SpikformerConfig(**_16, **_IMAGENET, proj_bias=False), 32),
    "spikingformer cifar": (SpikingformerConfig(**_16), 8),
    "spikingformer imagenet": (SpikingformerConfig(**_16, **_IMAGENET), 32),
    "spikingformer dvs": (SpikingformerConfig(**_16, **_DVS, tau=1.5), 32),
    "spikingformer bsa": (SpikingformerConfig(**_16, attention="bsa"), 4),
    "spike-driven cifar": (SpikeDrivenConfig(**_16), 8),
    "spike-driven imagenet": (SpikeDrivenConfig(**_16, pooling="1111"), 32),
    "spike-driven cifar10-dvs": (SpikeDrivenConfig(**_16, in_channels=2, T=10, erode=True), 8),
    "spike-driven gesture": (SpikeDrivenConfig(**_16, in_channels=2, T=16, pooling="0111"), 16),
    "spike-driven step": (SpikeDrivenConfig(**_16, mask_threshold=1.0), 8),
    "a2os2a": (A2OS2AConfig(**_16), 8),
    "qkformer cifar": (QKFormerConfig(embed_dim=16, heads=2, depth=3), 8),
    "qkformer imagenet": (QKFormerConfig(**_8, depth=4, layout="imagenet"), 16),
    "qkformer dvs": (
        QKFormerConfig(embed_dim=16, heads=1, depth=2, layout="dvs", in_channels=2, T=16), 16
    ),
    "qkformer channel": (QKFormerConfig(embed_dim=16, heads=2, depth=3, mask="channel"), 4),
    "qkformer bsa": (QKFormerConfig(**_8, depth=3, attention="bsa"), 4),
    "semm": (SEMMConfig(embed_dim=16, depth=1, expert_dim=8), 8),
    "semm imagenet": (SEMMImageNetConfig(embed_dim=16, depth=1, expert_dim=8, classes=10), 32),
    "semm spikingformer": (SpikingformerConfig(**_16, **_EXPERTS), 8),
    "semm spike-driven": (SpikeDrivenConfig(**_16, **_EXPERTS), 8),
    "meta-spikeformer": (MetaSpikeFormerConfig(**_WIDTHS), 16),
    "meta-spikeformer kd": (MetaSpikeFormerConfig(**_WIDTHS, distilled=True, T=2), 16),
    "e-spikeformer": (ESpikeFormerConfig(**_WIDTHS), 16),
    "e-spikeformer bsa": (ESpikeFormerConfig(**_WIDTHS, attention="bsa"), 16),
}  # fmt: skip
INPUT_BITS = {"qkformer imagenet": 4}  # of more, the largest values of its pools need 26 bits
TRAINED = {"spike-driven, trained": "spike_driven", "spikformer, trained": "spikformer"}
PATIENT = Limits(step=600.0)  # two hundred processes on a busy machine
QUICK = ("spikformer imagenet", "spikingformer imagenet")
ROWS = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]


def _documented() -> dict[str, tuple[int, ...]]:
    """The rows of docs/lava.md: the numbers behind width and image."""
    page = (Path(__file__).parents[2] / "docs" / "lava.md").read_text()
    _, _, table = page.partition("| network | width |")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {row[0]: tuple(int(n.replace(",", "")) for n in row[3:]) for row in rows}


DOCUMENTED = _documented()


def row(executable: StockExecutable, samples: int, values: int) -> tuple[int, ...]:
    """What docs/lava.md says of a network."""
    size = executable.size
    return (size.neurons, size.synapses, size.longest_delay, size.latency, size.processes,
            samples, values)  # fmt: skip


def compared(graph: Graph, x: IntArray) -> tuple[StockExecutable, int]:
    """How many values are the same."""
    executable = StockLava(limits=PATIENT).compile(graph)
    inputs = {graph.inputs[0]: x}
    got, want = executable.run(inputs), Reference().compile(graph).run(inputs)
    assert got.values.keys() == set(graph.recorded)
    for name, value in got.values.items():
        assert np.array_equal(value, want.values[name]), name
    rates = {n: np.abs(got.values[n]).mean() for n in graph.firing}
    alive = [0 < rate < graph.types[n].range.hi for n, rate in rates.items()]
    assert np.mean(alive) > 0.75, rates
    assert len(np.unique(got.values[graph.outputs[0]])) > 3
    return executable, sum(value.size for value in got.values.values())


def network_of(name: str) -> tuple[Graph, IntArray]:
    """A small network, and integers (T, 1, C, H, W) of an image that make it fire."""
    config, side = SMALL[name]
    images = trial.trial_images(config, side)
    timed = images.ndim == 5
    made = quantize(
        trial.alive(config, side),
        images,
        input_bits=INPUT_BITS.get(name, 8),
        layout="BTCHW" if timed else "BCHW",
        counts=timed,
        target="stock",
        weight_scale="max",
    ).network
    q = np.rint(images[1:2].numpy().astype(np.float64) * 2.0**made.input.exponent)
    q = q.clip(made.input.lo, made.input.hi).astype(np.int64)
    T = made.graph.T
    return made.graph, q.swapaxes(0, 1) if timed else np.broadcast_to(q, (T, *q.shape))


def test_every_layout_has_a_row() -> None:
    assert trial.SMALL.keys() == SMALL.keys()
    assert DOCUMENTED.keys() == {*SMALL, *TRAINED}
    assert all(len(numbers) == 7 for numbers in DOCUMENTED.values())


@pytest.mark.parametrize("name", ROWS)
def test_a_family_is_exact(name: str) -> None:
    graph, x = network_of(name)
    executable, values = compared(graph, x)
    assert row(executable, 1, values) == DOCUMENTED[name]


def test_a_membrane_stream_is_rebuilt_at_each_consumer() -> None:
    """Spikingformer's shortcuts skip neurons: each one listens to all branches before it."""
    config = SpikingformerConfig(**{**_16, "depth": 2}, **_IMAGENET)
    images = trial.trial_images(config, 32)
    graph = quantize(
        trial.alive(config, 32), images, target="stock", weight_scale="max"
    ).network.graph
    driven = currents(to_binary_neurons(graph))
    branches = ["patch_embed.maxpool.maxpool.4"]
    for block in ("block.0", "block.1"):
        for last, part in (("attn.attn_lif", "attn.proj_lif"), ("mlp.mlp2_lif", "mlp.mlp1_lif")):
            assert set(driven[f"{block}.{part}"].weights) == set(branches)
            branches.append(f"{block}.{last}")
    size = to_stock(graph, 100_000).size
    assert 0 < size.longest_delay <= MOST_DELAY
    assert f"{size.synapses:,} synapses" in str(size)
    assert f"longest delay {size.longest_delay}," in str(size)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_the_trained_networks_are_exact(name: str, training: Split, test_split: Split) -> None:
    made = quantize(
        trained(TRAINED[name]),
        PREPROCESSING.normalise(training.images[:256]),
        mean=PREPROCESSING.mean,
        std=PREPROCESSING.std,
        target="stock",
    ).network
    x = made.encode(test_split.images[:3])[made.graph.inputs[0]]
    executable, values = compared(made.graph, x)
    assert row(executable, 3, values) == DOCUMENTED[name]

    # A planted fault: one neuron hears the image with the other sign.
    axons = list(executable.network.axons)
    i = next(i for i, axon in enumerate(axons) if axon.source < 0)
    weights = axons[i].weights.copy()
    most = int(np.argmax(abs(weights).sum(axis=1)))
    weights.data[weights.indptr[most] : weights.indptr[most + 1]] *= -1
    axons[i] = replace(axons[i], weights=weights)
    network = replace(executable.network, axons=tuple(axons))
    inputs = {made.graph.inputs[0]: x}
    got = replace(executable, network=network).run(inputs).values
    want = Reference().compile(made.graph).run(inputs).values
    assert any(not np.array_equal(value, want[n]) for n, value in got.items())
