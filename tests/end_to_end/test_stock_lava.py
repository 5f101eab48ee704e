"""Whole networks of stock Lava processes: every spike and logit is the reference's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lapilli.ir.network import Network  # noqa: E402
from lapilli.ir.tensor import IntArray  # noqa: E402
from lapilli.model.families import Config  # noqa: E402
from lapilli.model.qkformer import QKFormerConfig  # noqa: E402
from lapilli.model.spike_driven import SpikeDrivenConfig  # noqa: E402
from lapilli.model.spikformer import SpikformerConfig  # noqa: E402
from lapilli.model.spikingformer import SpikingformerConfig  # noqa: E402
from lapilli.model.trial import alive, trial_images  # noqa: E402
from lapilli.quantize import quantize  # noqa: E402
from lapilli.simulators.lava.adapter import Lava  # noqa: E402
from lapilli.simulators.lava.stock.running import StockExecutable  # noqa: E402
from lapilli.simulators.reference import Reference  # noqa: E402

if TYPE_CHECKING:
    from lapilli.model.digits import Split
    from lapilli.quantize import Quantized

pytestmark = [pytest.mark.torch, pytest.mark.lava]

# Configuration, side of its images, neurons, latency.
_ONE_TOKEN = {"embed_dim": 16, "heads": 2, "pooling": "1111"}
_IMAGENET = {**_ONE_TOKEN, "depth": 1, "layout": "imagenet"}
SMALL: dict[str, tuple[Config, int, int, int]] = {
    "spikformer": (SpikformerConfig(**_IMAGENET), 32, 6_912, 20),  # type: ignore[arg-type]
    "spikingformer": (SpikingformerConfig(**_IMAGENET), 32, 6_848, 19),  # type: ignore[arg-type]
    "spike-driven": (SpikeDrivenConfig(**_ONE_TOKEN), 32, 10_224, 66),  # type: ignore[arg-type]
    "qkformer": (QKFormerConfig(embed_dim=16, heads=2, depth=3), 8, 22_113, 133),
}
SLOW = ("spike-driven", "qkformer")


def compared(made: Network, x: IntArray, neurons: int, latency: int) -> int:
    """How many values are the same."""
    graph, inputs = made.graph, {made.graph.inputs[0]: x}
    executable = Lava(lowering="stock").compile(graph)
    assert isinstance(executable, StockExecutable)
    assert executable.size.latency == latency
    assert neurons <= executable.size.neurons <= neurons * 1.01 + 1  # relays, and a constant
    got, want = executable.run(inputs), Reference().compile(graph).run(inputs)
    assert got.values.keys() == set(graph.recorded)
    for name, value in got.values.items():
        assert np.array_equal(value, want.values[name]), name
    fired = [0 < value.mean() < 1 for n in graph.firing for value in [np.abs(got.values[n])]]
    assert np.mean(fired) > 0.9
    assert len(np.unique(got.values[graph.outputs[0]])) > 3
    return sum(value.size for value in got.values.values())


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in SMALL]
)
def test_a_family_is_exact(name: str) -> None:
    config, side, neurons, latency = SMALL[name]
    images = trial_images(config, side)
    made = quantize(alive(config, side), images).network
    q = np.rint(images[1:].numpy().astype(np.float64) * 2.0**made.input.exponent)
    q = q.clip(made.input.lo, made.input.hi).astype(np.int64)
    x = np.broadcast_to(q, (made.graph.T, *q.shape))
    assert compared(made, x, neurons, latency) > 30_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "neurons", "latency"), [("spike_driven", 17_400, 20), ("spikformer", 81_280, 30)]
)
def test_the_trained_networks_are_exact(
    name: str,
    neurons: int,
    latency: int,
    quantized: Callable[[str], Quantized],
    test_split: Split,
) -> None:
    made = quantized(name).network
    x = made.encode(test_split.images[:3])[made.graph.inputs[0]]
    assert compared(made, x, neurons, latency) > 100_000
