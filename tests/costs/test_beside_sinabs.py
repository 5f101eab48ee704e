"""Speck as sinabs has it, beside ours: the same memories, words of a layer, and layers on cores.

sinabs asks for samna, which is closed and drives the chip; what is compared computes without it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sinabs")

from torch import nn  # noqa: E402

from lapilli.costs import small_pages  # noqa: E402
from lapilli.costs.small_chips import SmallMap  # noqa: E402
from lapilli.ir import ops  # noqa: E402
from lapilli.ir.graph import Graph, Node  # noqa: E402
from lapilli.ir.targets.speck import SPECK  # noqa: E402
from lapilli.ir.tensor import IntTensor  # noqa: E402
from lapilli.ir.types import TensorType  # noqa: E402

pytestmark = pytest.mark.torch

_CLOSED = (
    "samna", "samnagui", "samna.speck2e", "samna.speck2e.configuration", "samna.speck2f",
    "samna.speck2f.configuration", "samna.specksim", "samna.specksim.nodes",
)  # fmt: skip


@pytest.fixture(scope="module")
def dynapcnn() -> Iterator[ModuleType]:
    """Import sinabs.backend.dynapcnn with nothing behind samna, and forget it afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _CLOSED:
            patch.setitem(sys.modules, name, MagicMock())
        before = set(sys.modules)
        import sinabs.backend.dynapcnn as found
        import sinabs.backend.dynapcnn.chips.dynapcnn
        import sinabs.backend.dynapcnn.mapping  # noqa: F401

        yield found
        for name in set(sys.modules) - before:
            if name.startswith("sinabs.backend"):
                del sys.modules[name]


@dataclass(frozen=True, slots=True)
class _Layer:
    channels: int
    features: int
    kernel: int
    stride: int
    padding: int
    height: int
    width: int

    @property
    def shown(self) -> tuple[int, int]:
        """(H, W) of what it makes; below 1 if its kernel is larger than the map."""
        height, width = (
            (length + 2 * self.padding - self.kernel) // self.stride + 1
            for length in (self.height, self.width)
        )
        return height, width


def _random(rng: np.random.Generator, large: bool) -> _Layer:
    while True:
        kernel = int(rng.integers(1, 8))
        layer = _Layer(
            channels=int(rng.integers(1, 65 if large else 9)),
            features=int(rng.integers(1, 129 if large else 33)),
            kernel=kernel,
            stride=int(rng.choice([1, 2, 4])),
            padding=int(rng.integers(0, min(kernel, 4))),
            height=int(rng.integers(1, 65)),
            width=int(rng.integers(1, 65)),
        )
        if min(layer.shown) > 0:
            return layer


def _ours(layers: list[_Layer]) -> SmallMap:
    """Layers beside each other, each with an input of its own: cores ask for no more."""
    nodes = list[Node]()
    for i, one in enumerate(layers):
        shape = (one.channels, one.height, one.width)
        weight = np.ones((one.features, one.channels, one.kernel, one.kernel), np.int64)
        conv = ops.Conv2d(
            weight=IntTensor.of(weight), bias=IntTensor.of([0] * one.features),
            stride=(one.stride, one.stride), padding=(one.padding, one.padding),
        )  # fmt: skip
        nodes += [
            Node(f"x{i}", ops.Input(type=TensorType.spikes(*shape))),
            Node(f"w{i}", conv, (f"x{i}",)),
            Node(f"n{i}", ops.Neuron(threshold=IntTensor.of([65])), (f"w{i}",)),
        ]
    return small_pages.put_on(
        Graph(tuple(nodes), tuple(f"n{i}" for i in range(len(layers))), 1), SPECK
    )


def _theirs(found: ModuleType, one: _Layer) -> Any:
    import sinabs.layers

    conv = nn.Conv2d(one.channels, one.features, one.kernel, stride=one.stride, padding=one.padding)
    return found.DynapcnnLayer(
        conv, sinabs.layers.IAFSqueeze(batch_size=1), (one.channels, one.height, one.width),
        pool=[[1, 1]], discretize=False,
    )  # fmt: skip


def _constraints(found: ModuleType) -> Any:
    return found.chips.dynapcnn.DynapcnnConfigBuilder.get_constraints()


def test_memories_of_cores(dynapcnn: ModuleType) -> None:
    theirs = [(c.kernel_memory, c.neuron_memory, c.bias_memory) for c in _constraints(dynapcnn)]
    assert theirs == [(c.kernels, c.neurons, c.biases) for c in SPECK.cores]
    assert len(theirs) == 9


def test_words_of_a_layer(dynapcnn: ModuleType) -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(150):
        one = _random(rng, large=True)
        theirs = _theirs(dynapcnn, one).memory_summary()
        (share,) = _ours([one]).shares
        assert dict(share.takes) == {
            "kernel words": theirs["kernel"], "neuron words": theirs["neuron"],
            "biases": theirs["bias"],
        }  # fmt: skip
        fits = dynapcnn.mapping.find_chip_layers(_theirs(dynapcnn, one), _constraints(dynapcnn))
        assert bool(fits) == (share.core is not None)
        seen.add(bool(fits))
    assert seen == {True, False}


def test_networks_that_fit(dynapcnn: ModuleType) -> None:
    """Edmonds' flow there and augmenting paths here: every layer has a core, or some have none."""
    rng, seen = np.random.default_rng(1), []
    for _ in range(60):
        layers = [_random(rng, large=False) for _ in range(int(rng.integers(2, 10)))]
        given = {i: _theirs(dynapcnn, one) for i, one in enumerate(layers)}
        homeless = None in [share.core for share in _ours(layers).shares]
        if homeless:
            with pytest.raises(ValueError, match="No valid mapping found"):
                dynapcnn.mapping.get_valid_mapping(given, _constraints(dynapcnn))
        else:
            cores = dynapcnn.mapping.get_valid_mapping(given, _constraints(dynapcnn))
            assert len(set(cores.values())) == len(layers)
        seen.append(homeless)
    assert 5 < sum(seen) < 55
