"""What several test modules share: the digits, the trained checkpoints, their integers.

PyTorch is imported where it is needed, so that the tests of `ir` run without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.infer import infer
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

if TYPE_CHECKING:
    from lapilli.model.digits import Split
    from lapilli.model.loading.checkpoint import Checkpoint
    from lapilli.quantize import Quantized

settings.register_profile("lapilli", derandomize=True, deadline=None)
settings.load_profile("lapilli")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Train from one seed and with one thread, so that every run is the same."""
    torch = pytest.importorskip("torch")
    from lapilli.model.fit import begin

    threads = torch.get_num_threads()
    begin(seed=0, threads=1)
    assert torch.get_num_threads() == 1
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def digits() -> tuple[Split, Split]:
    """The training and the test split."""
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from lapilli.model.digits import load_digits

    return load_digits()


@pytest.fixture(scope="session")
def training(digits: tuple[Split, Split]) -> Split:
    return digits[0]


@pytest.fixture(scope="session")
def test_split(digits: tuple[Split, Split]) -> Split:
    return digits[1]


@pytest.fixture(scope="session")
def checkpoint() -> Callable[[str], Checkpoint]:
    """Load "spikformer" or "spike_driven", trained on the digits."""
    pytest.importorskip("torch")
    import lapilli.model
    from lapilli.model.loading.checkpoint import load_checkpoint

    folder = Path(lapilli.model.__file__).parent / "checkpoints"
    return lambda name: load_checkpoint(folder / f"digits_{name}.safetensors")


@pytest.fixture(scope="session")
def quantized(
    checkpoint: Callable[[str], Checkpoint], training: Split
) -> Callable[[str], Quantized]:
    """Quantize a checkpoint, calibrated on training images only; each name once."""
    from lapilli.model.digits import PREPROCESSING
    from lapilli.model.loading.checkpoint import build
    from lapilli.quantize import quantize

    made: dict[str, Quantized] = {}

    def get(name: str) -> Quantized:
        if name not in made:
            made[name] = quantize(
                build(checkpoint(name)),
                PREPROCESSING.normalise(training.images[:256]),
                mean=PREPROCESSING.mean,
                std=PREPROCESSING.std,
                classes=PREPROCESSING.classes,
            )
        return made[name]

    return get


@pytest.fixture(scope="session")
def spikformer(quantized: Callable[[str], Quantized]) -> Quantized:
    return quantized("spikformer")


@pytest.fixture(scope="session")
def spike_driven(quantized: Callable[[str], Quantized]) -> Quantized:
    return quantized("spike_driven")


@pytest.fixture(scope="session")
def graphs() -> st.SearchStrategy[Graph]:
    """Small random graphs over every op, for `data.draw`.

    Not the shipped `random_case`: that one takes thresholds and shapes from values, so that its
    neurons are alive and runs can be compared. What is proved of any graph (types, passes, files)
    must hold of dead ones as well: of one step, one node, gates that overflow, pools of padding.
    """
    return st.integers(0, 10**9).map(_graph)


@pytest.fixture(scope="session")
def feed() -> Callable[[Graph, int], dict[str, IntArray]]:
    """Random inputs of three samples, each element at an end of its range half of the time."""
    return _feed


def _feed(graph: Graph, seed: int) -> dict[str, IntArray]:
    rng = np.random.default_rng(seed)
    given = {}
    for name in graph.inputs:
        kind = graph.types[name]
        shape = (graph.T, 3, *kind.shape)
        inside = rng.integers(kind.range.lo, kind.range.hi + 1, shape)
        ends = rng.choice([kind.range.lo, kind.range.hi], shape)
        given[name] = np.where(rng.random(shape) < 0.5, inside, ends).astype(np.int64)
    return given


_KINDS = (
    (Kind.SPIKES, 0, 1), (Kind.SPIKES, -1, 1), (Kind.COUNTS, 0, 3), (Kind.GRADED, -5, 7),
)  # fmt: skip


def _graph(seed: int) -> Graph:
    """Two inputs and up to 13 nodes or so; an op that does not fit is left out."""
    rng = np.random.default_rng(seed)
    T = int(rng.integers(1, 5))
    nodes: list[Node] = []
    types: dict[str, TensorType] = {}

    def add(op: ops.Op, *inputs: str) -> None:
        with suppress(ValueError):
            made = infer(op, tuple(types[i] for i in inputs), T)
            if made.range.magnitude < 1 << 24:
                name = f"n{len(nodes)}"
                types[name] = made
                nodes.append(Node(name, op, inputs))

    for _ in range(2):
        shape = ((2, 3, 3), (2, 3, 3), (3, 3), (2, 2))[rng.integers(4)]
        kind, lo, hi = _KINDS[rng.integers(4)]
        add(ops.Input(type=TensorType(shape, IntRange(lo, hi), kind)))
    for _ in range(rng.integers(2, 14)):
        a, b = (nodes[i].name for i in rng.integers(0, len(nodes), 2))
        same = [n for n in types if types[n].shape == types[a].shape]
        other = same[rng.integers(len(same))]
        if (which := rng.integers(13)) == 0:
            add(ops.Gate(), a, other)
        elif which == 1:
            add(ops.Add(), a, other)
        elif which == 2:
            add(ops.Permute(axes=tuple(range(len(types[b].shape)))[::-1]), b)
            add(ops.SpikeMatmul(), a, nodes[-1].name)
        elif which == 3:
            add(_neuron(rng), a)
        elif which == 5:
            add(ops.Permute(axes=tuple(range(len(types[b].shape)))[::-1]), b)
            reach = int(rng.integers(6))
            add(ops.ShiftSum(window=reach + int(rng.integers(6)), reach=reach), a, nodes[-1].name)
        elif which == 4:
            add(ops.Concat(axis=int(rng.integers(max(1, len(types[a].shape))))), a, other)
        elif which == 6:
            add(ops.Membrane(neuron=_neuron(rng), after_reset=bool(rng.integers(2))), a)
        elif which == 7:
            add(_general(rng, T), a)
        else:
            add(_unary(rng, types[a]), a)
    read = {i for node in nodes for i in node.inputs}
    return Graph(tuple(nodes), tuple(n for n in types if n not in read), T)


def _unary(rng: np.random.Generator, x: TensorType) -> ops.Op:
    """An op that usually fits a value of this type."""
    rank, graded = len(x.shape), x.kind is Kind.GRADED
    two = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    ends = (int(rng.integers(2)), int(rng.integers(2)))
    order = tuple(int(a) for a in rng.permutation(rank))
    axis = int(rng.integers(max(1, rank)))
    size = x.shape[axis] if rank else 1
    out, groups = (int(n) for n in rng.integers(1, 3, 2))
    candidates: list[ops.Op] = [
        ops.Readout(),
        ops.Delay(steps=out),
        ops.Reshape(shape=tuple(x.shape[a] for a in order)),
        ops.Reshape(shape=(math.prod(x.shape), 1)),
        ops.Expand(shape=tuple(3 if n == 1 else n for n in x.shape)),
        ops.Permute(axes=order),
        ops.Sum(axes=order[:axis + 1], keepdims=bool(rng.integers(2))),
        ops.Slice(axis=axis, start=int(rng.integers(size)), stop=size),
        ops.Relu(),
        ops.Staircase(thresholds=_ints(rng, out, 1 if rng.integers(2) else x.shape[-1])
                  if rank else _ints(rng, out)),
        ops.Linear(weight=_ints(rng, out, x.shape[-1] if rank else 1), bias=_ints(rng, out),
               graded=graded),
        ops.MaxPool2d(kernel=(2, 2), stride=two, padding=ends),
        ops.Conv2d(
            weight=_ints(rng, 2, x.shape[0] // groups if rank else 1, *two), bias=_ints(rng, 2),
            stride=(two[1], two[0]), padding=ends, groups=groups, graded=graded,
        ),
    ]  # fmt: skip
    return candidates[rng.integers(11 if rank < 3 else len(candidates))]


def _ints(rng: np.random.Generator, *shape: int) -> IntTensor:
    return IntTensor.of(rng.integers(-8, 9, shape))


def _neuron(rng: np.random.Generator) -> ops.Neuron:
    dv, du = (int(d) for d in rng.choice([0, 1, 1365, 2048, 4095, 4096], 2))
    return ops.Neuron(
        threshold=IntTensor.of([int(rng.integers(1, 300))]),
        dv=dv,
        du=du,
        bias=IntTensor.of([int(rng.integers(-40, 41))]),
        reset=list(ops.Reset)[rng.integers(3)],
        reset_by=int(rng.integers(300)),
        fraction_bits=int(rng.integers(7)),
        ternary=bool(rng.integers(2)),
    )


def _general(rng: np.random.Generator, T: int) -> ops.GeneralNeuron:
    steps, K = T if rng.integers(2) else 1, int(rng.integers(1, T + 1))
    return ops.GeneralNeuron(
        taps=_ints(rng, steps, K, 1),
        threshold=IntTensor.of(rng.integers(1, 300, (steps, int(rng.integers(1, 3)), 1))),
        dv=IntTensor.of(rng.choice([0, 1, 1365, 2048, 4095, 4096], (steps, 1))),
        du=IntTensor.of(rng.choice([0, 1365, 4096], (1, 1))),
        bias=_ints(rng, steps, 1),
        reset=list(ops.Reset)[rng.integers(3)],
        reset_by=IntTensor.of(rng.integers(0, 300, (1, 1))),
        shift=int(rng.integers(3)),
        floored=(floored := bool(rng.integers(2))),
        floor=-int(rng.integers(300)) * floored,
    )


@pytest.fixture(scope="session")
def exact_on() -> Callable[..., int]:
    """Compare PyTorch, reference and event-driven on images; how many values were compared."""
    pytest.importorskip("torch")
    return _exact_on


def _exact_on(made: Quantized, images: Any, *, live: bool = True) -> int:
    from lapilli.simulators.event_driven import EventDriven
    from lapilli.simulators.reference import Reference

    graph, source = made.network.graph, made.network.input
    integers = np.rint(np.asarray(images, np.float64) * 2.0**source.exponent).astype(np.int64)
    integers = integers.clip(source.lo, source.hi)
    trace = made.reference.run_images(integers)
    timed = integers.ndim == 5
    shown = (
        integers.swapaxes(0, 1) if timed else np.broadcast_to(integers, (graph.T, *integers.shape))
    )
    compared = 0
    for simulator in (Reference(), EventDriven()):
        got = simulator.compile(graph).run({graph.inputs[0]: np.ascontiguousarray(shown)})
        pairs = [
            *((got.values[n], trace.values[n], n) for n in graph.firing),
            *((got.membranes[n], trace.membranes[n], n) for n in graph.neurons),
            *((got.currents[n], trace.currents[n], n) for n in graph.neurons),
            *((got.values[n], trace.values[n], n) for n in graph.membranes),
            (got.values[graph.outputs[0]][-1], trace.values[graph.outputs[0]][-1], "logits"),
        ]
        for ours, theirs, name in pairs:
            assert np.array_equal(ours, theirs), (simulator.name, name)
            compared += ours.size
        for name in graph.firing:
            assert not live or 0 < got.values[name].mean() < graph.types[name].range.hi, name
        for name in graph.membranes:
            assert not live or len(np.unique(got.values[name])) > 10, name
    assert not live or len(np.unique(trace.values[graph.outputs[0]])) > 3
    return compared


@pytest.fixture
def nir_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read NIR in this process: a worker for each file is for strangers (test_nir_reader.py)."""
    pytest.importorskip("h5py")
    from lapilli.export.hdf5.parser import Tree, parse_tree
    from lapilli.export.nir.read import reader as nir_reader

    def read_tree(path: Path, memory_limit: int | None = None, progress: object = None) -> Tree:
        assert memory_limit is progress is None
        return parse_tree(path.read_bytes(), 1 << 24)

    monkeypatch.setattr(nir_reader, "read_tree", read_tree)


@pytest.fixture(scope="session")
def net_chain() -> Callable[..., Network]:
    """Makes one; see `_chain`."""
    return _chain


@pytest.fixture(scope="session")
def net_drive() -> Callable[[Graph], IntArray]:
    """Random inputs of its graph: (T, 5, ...)."""
    return _drive


def _lif(vth: int, **options: Any) -> ops.Neuron:
    return ops.Neuron(threshold=IntTensor.of([64 * vth + 1]), **options)


def _chain(*, encoder: bool, T: int = 6, fine: int = 0) -> Network:
    """Two convolutions, an average pool, two dense layers; neurons of every kind that netx has.

    Args:
        encoder: the input drives neurons, as lava-dl's input layers do; else a convolution.
        T: steps of a sample.
        fine: fraction bits beyond Loihi's 6, of the neurons behind convolutions.
    """
    rng = np.random.default_rng(5)

    def drawn(low: int, high: int, *shape: int) -> IntTensor:
        return IntTensor.of(rng.integers(low, high, shape))

    ones, none = IntTensor.of(np.ones((6, 1, 3, 2), int)), IntTensor.of([0] * 6)
    own = IntTensor.of(64 * rng.integers(-1, 3, (6, 1, 1)) << fine)
    image = TensorType((2, 7, 6), IntRange(-8, 8), Kind.GRADED)
    first = ("spikes",) if encoder else ("x",)
    encoded = [Node("spikes", _lif(9, dv=512), ("x",))] if encoder else []
    graph = Graph(
        (
            Node("x", ops.Input(type=image)),
            *encoded,
            Node(
                "c1",
                ops.Conv2d(
                    weight=drawn(-127, 128, 4, 2, 3, 2),
                    bias=drawn(-9, 9, 4),
                    stride=(2, 1),
                    padding=(1, 0),
                    graded=not encoder,
                ),
                first,
            ),
            Node(
                "n1",
                _lif((60 if encoder else 300) << fine, dv=2048, fraction_bits=6 + fine),
                ("c1",),
            ),
            Node("c2", ops.Conv2d(weight=drawn(-5, 7, 6, 2, 2, 2), bias=none, groups=2), ("n1",)),
            Node(
                "n2", _lif(14 << fine, dv=100, du=1000, bias=own, fraction_bits=6 + fine), ("c2",)
            ),
            Node("pool", ops.Conv2d(weight=ones, bias=none, stride=(3, 2), groups=6), ("n2",)),
            Node("flat", ops.Reshape(shape=(12,)), ("pool",)),
            Node(
                "fc",
                ops.Linear(weight=drawn(-127, 128, 10, 12), bias=drawn(-5, 5, 10), graded=True),
                ("flat",),
            ),
            Node("n3", _lif(200, dv=1024), ("fc",)),
            Node("head", ops.Linear(weight=drawn(0, 256, 3, 10), bias=drawn(-5, 5, 3)), ("n3",)),
            Node("logits", ops.Readout(), ("head",)),
        ),
        ("logits",),
        T,
    )
    quantizer = InputQuantizer(
        mean=(Fraction(1, 2),) * 2, std=(Fraction(1, 16),) * 2, exponent=0, lo=-8, hi=8
    )
    return Network(graph=graph, input=quantizer, logit_scale=Fraction(1), classes=("a", "b", "c"))


def _drive(graph: Graph, batch: int = 5) -> IntArray:
    shape = graph.types["x"].shape
    return np.random.default_rng(1).integers(-8, 9, (graph.T, batch, *shape))
