"""What wiring costs in NIR: each element comes home, and large moves stay affordable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lapilli.export.nir.write.dialect import Flavour
from lapilli.ir import ops
from lapilli.ir.errors import MismatchError, UnsupportedError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance import Case, check
from lapilli.simulators.nir import nirtorch as nir_runtime
from lapilli.simulators.nir import snntorch as snntorch_runtime
from lapilli.simulators.nir import spikingjelly as spikingjelly_runtime
from lapilli.simulators.nir.playback import Imported, Playback, played
from lapilli.simulators.reference import Reference

for package in ("nir", "nirtorch", "torch", "snntorch", "spikingjelly"):
    pytest.importorskip(package)

import torch  # noqa: E402

from lapilli.export.nir.write import canonical  # noqa: E402  (needs nir)
from lapilli.export.nir.write import routing as nir_moves  # noqa: E402
from lapilli.export.nir.write.layouts import cropped  # noqa: E402
from lapilli.export.nir.write.placement import Placed  # noqa: E402
from lapilli.export.nir.write.writer import to_nir  # noqa: E402

pytestmark = pytest.mark.torch


def _run(stages: list[nir_moves.Stage], x: IntArray) -> IntArray:
    y = torch.from_numpy(x.astype(np.float64))[None]
    for stage in stages:
        node = stage.make()
        assert node.weight.size == stage.weights
        weight = torch.from_numpy(node.weight.astype(np.float64))
        y = torch.nn.functional.conv2d(
            y, weight, stride=tuple(node.stride), padding=tuple(node.padding)
        )
        assert tuple(y.shape[1:]) == stage.shape
    return np.asarray(y.numpy()[0], np.int64)


@pytest.mark.parametrize("cheap", [nir_moves._CHEAP, 0], ids=["whole", "in parts"])
@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ((6, 2, 3), (5, 3, 3)),
        ((6, 3, 3), (7, 3, 3)),
        ((24, 1, 1), (6, 2, 4)),
        ((4, 3, 2), (24, 1, 1)),
        ((4, 2, 2), (9, 1, 5)),
        ((4, 4, 1), (12, 4, 4)),
    ],
)
@pytest.mark.parametrize("repeats", [False, True])
def test_each_element_comes_home(
    given: tuple[int, ...],
    shape: tuple[int, ...],
    repeats: bool,
    cheap: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nir_moves, "_CHEAP", cheap)
    rng = np.random.default_rng(0)
    count = min(math.prod(given), math.prod(shape)) - 1
    home = rng.permutation(math.prod(shape))[:count]
    sources = rng.permutation(math.prod(given))[: count // 3 if repeats else count]
    if repeats:  # all channels of the target see the same few
        sources = sources[home % (shape[1] * shape[2]) % len(sources)]
    x = rng.integers(1, 99, given)

    branches = nir_moves.moved(Placed(("x",), given, sources), shape, home)

    (made,) = {stages[-1].shape for stages in branches}
    got = np.sum([_run(stages, x) for stages in branches], axis=0)
    want = np.zeros(made, np.int64)
    want.ravel()[cropped(home, shape, made)] = x.ravel()[sources]
    assert np.array_equal(got, want)
    if cheap == 0 and not repeats and shape[1] > 1:
        assert len(branches) > 1


def _attention(tokens: int) -> Case:
    """Scores and values of the spikes on a map, BSA's Shiftmax, and a neuron."""
    side = math.isqrt(tokens)
    rng = np.random.default_rng(tokens)

    def synapses(out: int) -> ops.Linear:
        weight = IntTensor.of(rng.integers(-2, 3, (out, 4)))
        return ops.Linear(weight=weight, bias=IntTensor.of([0] * out))

    nodes = (
        Node("in", ops.Input(type=TensorType.spikes(4, side, side))),
        Node("flat", ops.Reshape(shape=(4, tokens)), ("in",)),
        Node("tokens", ops.Permute(axes=(1, 0)), ("flat",)),
        Node("scores", synapses(tokens), ("tokens",)),
        Node("values", synapses(3), ("tokens",)),
        Node("mixed", ops.ShiftSum(window=6, reach=4), ("scores", "values")),
        Node("fire", ops.Neuron(threshold=IntTensor.of([64]), dv=2048), ("mixed",)),
    )
    x = rng.integers(0, 2, (2, 6, 4, side, side))
    return Case("attention", "of many tokens", Graph(nodes, ("fire",), 2), {"in": x})


RUNTIMES: tuple[tuple[str, Callable[[Any], Imported]], ...] = (
    ("nirtorch", nir_runtime.load_portable),
    ("snntorch", snntorch_runtime.load),
    ("spikingjelly", spikingjelly_runtime.load),
)


class Played:
    """A portable file that somebody may have changed, in one of the runtimes."""

    def __init__(
        self,
        name: str,
        load: Callable[[Any], Imported],
        change: Callable[[Any], None] = lambda read: None,
    ) -> None:
        self.name, self.load, self.change = name, load, change

    def compile(self, graph: Graph) -> Playback:
        return played(graph, Flavour.PORTABLE, self.load, self.change)


@pytest.mark.parametrize(("name", "load"), RUNTIMES, ids=[name for name, _ in RUNTIMES])
def test_attention_over_nine_tokens(name: str, load: Callable[[Any], Imported]) -> None:
    tried = _attention(9)
    assert 0 < Reference().compile(tried.graph).run(tried.inputs).values["fire"].mean() < 1
    assert check(Played(name, load), tried) == 2 * 2 * 6 * 9 * 3


@pytest.mark.parametrize("flavour", [nir_runtime.Nir(), nir_runtime.NirTorch()])
def test_a_linear_map_gates_channels_of_a_map(flavour: Any) -> None:
    """Squeeze and excite: what is summed over the map comes back to all of it."""
    rng = np.random.default_rng(3)
    weight = IntTensor.of(rng.integers(-2, 4, (4, 4)))
    nodes = (
        Node("in", ops.Input(type=TensorType.spikes(4, 6, 6))),
        Node("squeezed", ops.Sum(axes=(1, 2)), ("in",)),
        Node("excited", ops.Linear(weight=weight, bias=IntTensor.of([1, 0, 2, 0])), ("squeezed",)),
        Node("gate", ops.Neuron(threshold=IntTensor.of([64 * 40 + 1])), ("excited",)),
        Node("one", ops.Reshape(shape=(4, 1, 1)), ("gate",)),
        Node("everywhere", ops.Expand(shape=(4, 6, 6)), ("one",)),
        Node("let through", ops.Gate(), ("in", "everywhere")),
    )
    x = rng.integers(0, 2, (4, 3, 4, 6, 6))
    graph = Graph(nodes, ("let through",), 4)
    gates = Reference().compile(graph).run({"in": x}).values["gate"]
    assert 0 < gates.mean() < 1
    assert check(flavour, Case("gated", "by a vector", graph, {"in": x})) > 0


def test_a_lost_part_of_a_move_is_caught() -> None:
    def change(read: Any) -> None:
        (move, *_) = (node for key, node in sorted(read.nodes.items()) if "_sum_b" in key)
        move.weight[:] = 0

    with pytest.raises(MismatchError, match="values differ"):
        check(Played(*RUNTIMES[1], change), _attention(9))


@pytest.mark.parametrize("flavour", [Flavour.CANONICAL, Flavour.PORTABLE])
def test_a_file_with_too_many_weights_is_refused(flavour: Flavour) -> None:
    with pytest.raises(UnsupportedError, match="mixed: the file passes 9,500 weights here"):
        to_nir(_attention(4).graph, flavour=flavour, memory_limit=76_000)


def test_weights_are_summed_before_any_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution of one channel each, which NIR writes for every pair: 2^40 weights."""
    C = 1 << 18
    nodes = (
        Node("x", ops.Input(type=TensorType((C, 4, 4), IntRange(0, 1), Kind.SPIKES))),
        Node("deep", ops.Conv2d(
            weight=IntTensor.of(np.full((C, 1, 3, 3), 2)), bias=IntTensor.of(np.zeros(C, int)),
            padding=(1, 1), groups=C,
        ), ("x",)),
        Node("s", ops.Neuron(threshold=IntTensor.of([65])), ("deep",)),
    )  # fmt: skip
    tried = []
    monkeypatch.setattr(canonical, "conv2d", lambda *_, **__: tried.append(1))
    with pytest.raises(UnsupportedError) as caught:
        to_nir(Graph(nodes, ("s",), 1))
    assert f"its synapses take {C * C * 9:,} weights; the limit is 134,217,728" in str(caught.value)
    assert f"deep: {C * C * 9:,} weights" in str(caught.value)
    assert not tried


def test_what_is_written_is_told() -> None:
    told: list[tuple[int, int]] = []
    to_nir(_attention(4).graph, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, told[0][1] + 1))
