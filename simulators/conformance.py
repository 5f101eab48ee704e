"""The suite every simulator must pass. Shipped, so that yours can pass it too.

Example:
    In your own repository::

        @pytest.mark.parametrize("case", CASES, ids=str)
        def test_mine(case): check(MySimulator(), case)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lapilli.ir.errors import MismatchError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.ops import (
    DECAY_ONE,
    Add,
    Concat,
    Conv2d,
    Expand,
    Gate,
    Input,
    Linear,
    MaxPool2d,
    Membrane,
    Neuron,
    Op,
    Permute,
    Readout,
    Relu,
    Reset,
    Reshape,
    ShiftSum,
    Slice,
    SpikeMatmul,
    Staircase,
    Sum,
)
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.digest import digests
from lapilli.simulators.protocol import Recording, Simulator
from lapilli.simulators.reference import Reference


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A graph, inputs that separate right from nearly right, and why they do.

    `by_hand` is the output computed on paper: it pins the reference itself.
    """

    name: str
    why: str
    graph: Graph
    inputs: Mapping[str, IntArray] = field(repr=False)
    by_hand: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return self.name


def check(simulator: Simulator, case: Case) -> int:
    """Run `case` twice and compare everything recorded in both runs with the reference.

    Returns:
        How many values were compared.

    Raises:
        MismatchError: where and when the first value differs, or that nothing was compared.
        UnsupportedError: the simulator declines; the caller decides whether it may.
    """
    expected = Reference().compile(case.graph).run(case.inputs)
    executable = simulator.compile(case.graph)
    compared = 0
    for attempt in ("first", "second"):  # the second run must start from rest
        got = executable.run(case.inputs)
        for kind, name, want, have in _pairs(expected, got, case.graph):
            where = f"{case} ({case.why}): {simulator.name}, {attempt} run: {kind} of {name}"
            if want.shape != have.shape:
                raise MismatchError(f"{where} has shape {have.shape}, not {want.shape}")
            if (wrong := np.argwhere(want != have)).size:
                at = tuple(int(i) for i in wrong[0])
                raise MismatchError(
                    f"{where}{list(at[2:])} at t={at[0]} of sample {at[1]} is {have[at]}, "
                    f"expected {want[at]}; {len(wrong)} of {want.size} values differ"
                )
            compared += want.size
    if not compared:
        raise MismatchError(f"{case}: {simulator.name} recorded nothing to compare")
    return compared


def _pairs(
    expected: Recording, got: Recording, graph: Graph
) -> list[tuple[str, str, IntArray, IntArray]]:
    """What both must agree on: `Graph.recorded`, the rest if recorded."""
    shown = set(graph.recorded)
    if missing := sorted(shown - got.values.keys()):
        raise MismatchError(f"nothing recorded of {missing[0]!r}")
    pairs = [("value", n, expected.values[n], v) for n, v in got.values.items()]
    pairs += [("membrane", n, expected.membranes[n], v) for n, v in got.membranes.items()]
    pairs += [("current", n, expected.currents[n], v) for n, v in got.currents.items()]
    pairs += [
        ("current digest", n, digests(expected.currents[n]), v)
        for n, v in got.current_digests.items()
    ]
    return pairs


def neuron_case(op: Neuron | Membrane, drive: list[int]) -> tuple[Graph, dict[str, IntArray]]:
    """One neuron and its input currents."""
    x = np.array(drive, np.int64)[:, None, None]
    kind = TensorType((1,), IntRange(int(x.min()), int(x.max())), Kind.GRADED)
    nodes = (Node("x", Input(type=kind)), Node("s", op, ("x",)))
    return Graph(nodes, ("s",), len(drive)), {"x": x}


def _unary(op: Op, kind: TensorType, x: object) -> tuple[Graph, dict[str, IntArray]]:
    """One op, one sample: x is (T, *shape)."""
    given = np.asarray(x, np.int64)[:, None]
    nodes = (Node("x", Input(type=kind)), Node("y", op, ("x",)))
    return Graph(nodes, ("y",), len(given)), {"x": given}


def _lif(theta: int, **options: object) -> Neuron:
    """Half leak and one fraction bit, unless told."""
    given = {"dv": DECAY_ONE // 2, "fraction_bits": 1, **options}
    return Neuron(threshold=IntTensor.of([theta]), **given)  # type: ignore[arg-type]


def attention_block(tokens: int = 4, dim: int = 6, heads: int = 2, seed: int = 0) -> Graph:
    """Stem, attention and residual: two spike products, uneven branches, a read-out.

    Written for stock LIF neurons too: thresholds are 64 * vth + 1.
    """
    rng = np.random.default_rng(seed)
    nodes = [Node("x", Input(type=TensorType.spikes(tokens, dim)))]
    half = {"dv": DECAY_ONE // 2, "fraction_bits": 9}
    for name in ("q", "k", "v"):
        w = IntTensor.of(rng.integers(-8, 9, (dim, dim)))
        b = IntTensor.of(rng.integers(-2, 3, dim))
        nodes.append(Node(f"{name}.linear", Linear(weight=w, bias=b), ("x",)))
        theta = IntTensor.of([64 * 8 * 3 - 63])
        nodes.append(Node(name, Neuron(threshold=theta, **half), (f"{name}.linear",)))  # type: ignore[arg-type]
        nodes.append(
            Node(f"{name}.split", Reshape(shape=(tokens, heads, -(-dim // heads))), (name,))
        )
        axes = (1, 2, 0) if name == "k" else (1, 0, 2)
        nodes.append(Node(f"{name}.heads", Permute(axes=axes), (f"{name}.split",)))
    nodes += [
        Node("scores", SpikeMatmul(), ("q.heads", "k.heads")),
        Node("mixed", SpikeMatmul(), ("scores", "v.heads")),
        Node("merged", Permute(axes=(1, 0, 2)), ("mixed",)),
        Node("attn", Reshape(shape=(tokens, dim)), ("merged",)),
        Node("attn.fire", Neuron(threshold=IntTensor.of([64 * 8 * 2 - 63]), **half), ("attn",)),  # type: ignore[arg-type]
        Node("y", Add(), ("x", "attn.fire")),
        Node("head", Linear(weight=IntTensor.of(rng.integers(-8, 9, (3, dim))),
                            bias=IntTensor.of([1, -2, 3])), ("y",)),
        Node("pool", Sum(axes=(0,)), ("head",)),
        Node("logits", Readout(), ("pool",)),
    ]  # fmt: skip
    return Graph(tuple(nodes), ("logits",), 8)


def _spikes(shape: tuple[int, ...], seed: int = 1, rate: float = 0.4) -> IntArray:
    return (np.random.default_rng(seed).random(shape) < rate).astype(np.int64)


_SOFT, _HARD = Reset.BY_SUBTRACTION, Reset.TO_ZERO
_COUNTS = TensorType((2,), IntRange(0, 3), Kind.COUNTS)
_VALUES = TensorType((2,), IntRange(-9, 9), Kind.GRADED)
_MAP = TensorType((1, 2, 2), IntRange(-9, 9), Kind.GRADED)
_W = IntTensor.of([[3, -2]])
_SCORES = TensorType((2, 2), IntRange(-9, 9), Kind.GRADED)


def _pair(
    op: Op, a: TensorType, b: TensorType, x: object, y: object
) -> tuple[Graph, dict[str, IntArray]]:
    given = {"a": np.asarray(x, np.int64)[:, None], "b": np.asarray(y, np.int64)[:, None]}
    nodes = (Node("a", Input(type=a)), Node("b", Input(type=b)), Node("y", op, ("a", "b")))
    return Graph(nodes, ("y",), len(given["a"])), given


CASES: tuple[Case, ...] = (
    Case(
        "fires-at-threshold",
        ">= and > differ",
        *neuron_case(_lif(6, dv=0), [3, 2, 1, 0, 4]),
        by_hand=(1, 0, 1, 0, 1),
    ),
    Case(
        "soft-reset-keeps-the-rest",
        "subtracting and zeroing differ",
        *neuron_case(_lif(6, dv=0, reset=_SOFT, reset_by=6), [5, 1, 0, 7, 0, 0]),
        by_hand=(1, 1, 0, 1, 1, 0),
    ),
    Case(
        "soft-reset-by-its-own-amount",
        "r is not the threshold: a framework may subtract after the decay",
        *neuron_case(_lif(6, dv=0, reset=_SOFT, reset_by=4), [4, 1, 0, 0]),
        by_hand=(1, 1, 0, 0),
    ),
    Case(
        "hard-reset-drops-the-rest",
        "zeroing and subtracting differ",
        *neuron_case(_lif(6, dv=0), [5, 1, 0, 7, 0, 0]),
        by_hand=(1, 0, 0, 1, 0, 0),
    ),
    Case(
        "decay-truncates-toward-zero",
        "floor and truncation differ below zero: -3 decays to -1, not -2",
        *neuron_case(_lif(1, fraction_bits=0, reset=Reset.NONE), [-3, 2, 0]),
        by_hand=(0, 1, 0),
    ),
    Case(
        "fraction-bits-keep-the-half",
        "3 decays to 1.5; without a fraction bit 1 + 1 stays below 2.5",
        *neuron_case(_lif(5, reset=Reset.NONE), [3, 1]),
        by_hand=(1, 1),
    ),
    Case(
        "input-shifts-to-the-right",
        "two bits of the current are dropped, rounded down: -5 is -2, not -1",
        *neuron_case(_lif(3, dv=0, fraction_bits=-2), [-5, 7, 15, 4]),
        by_hand=(0, 0, 0, 1),
    ),
    Case(
        "v-below-zero-is-kept",
        "clamping at the resting potential differs",
        *neuron_case(_lif(4, dv=0, reset=_SOFT, reset_by=4), [-3, 2, 2, 2]),
        by_hand=(0, 0, 0, 1),
    ),
    Case(
        "current-decays-on-its-own",
        "u keeps a half of the input: 4, 2, 1 add up in v",
        *neuron_case(_lif(12, dv=0, du=DECAY_ONE // 2), [4, 0, 0]),
        by_hand=(0, 1, 0),
    ),
    Case(
        "neuron-bias-every-step",
        "the bias register is added whether or not anything arrives",
        *neuron_case(_lif(6, dv=0, bias=IntTensor.of([2])), [0, 0, 0, 1]),
        by_hand=(0, 0, 1, 0),
    ),
    Case(
        "ternary-fires-both-ways",
        "-v <= -threshold is a negative spike and resets",
        *neuron_case(_lif(6, dv=0, ternary=True), [-3, 3, -2, -1]),
        by_hand=(-1, 1, 0, -1),
    ),
    Case(
        "membrane-is-read-before-its-reset",
        "6 fires: the step shows 6, the next begins at 0; a spike would show 1",
        *neuron_case(Membrane(neuron=_lif(6)), [1, 3, -2, 3]),
        by_hand=(2, 7, -4, 4),
    ),
    Case(
        "membrane-is-read-after-its-reset",
        "7 fires and leaves 7 - 4 = 3; its half is 1 (toward zero); -3 is silent and stays",
        *neuron_case(
            Membrane(neuron=_lif(6, reset=_SOFT, reset_by=4), after_reset=True), [1, 3, -2, 3]
        ),
        by_hand=(2, 3, -3, 5),
    ),
    Case(
        "bias-without-spikes",
        "the bias of a synapse is added at every step, spike or not",
        *_unary(Linear(weight=_W, bias=IntTensor.of([-2])), TensorType.spikes(2), [[0, 0], [1, 0]]),
        by_hand=(-2, 1),
    ),
    Case(
        "counts-weigh-their-number",
        "a count of 3 brings the weight three times; a boolean cast brings it once",
        *_unary(Linear(weight=_W, bias=IntTensor.of([0])), _COUNTS, [[3, 1], [0, 2]]),
        by_hand=(7, -4),
    ),
    Case(
        "conv-correlates",
        "the kernel is not turned round, zero padding brings nothing, groups stay apart",
        *_unary(
            Conv2d(
                weight=IntTensor.of([[[[1, 2], [3, 4]]], [[[5, 6], [7, 8]]]]),
                bias=IntTensor.of([0, 1]),
                padding=(1, 0),
                stride=(1, 2),
                groups=2,
            ),
            TensorType.spikes(2, 1, 2),
            [[[[1, 0]], [[0, 1]]]],
        ),
        by_hand=(3, 1, 9, 7),
    ),
    Case(
        "pool-takes-the-largest",
        "padding is not a zero: the maximum of negative numbers is negative",
        *_unary(
            MaxPool2d(kernel=(2, 2), stride=(2, 2), padding=(1, 1)), _MAP, [[[[-5, -7], [-2, 3]]]]
        ),
        by_hand=(-5, -7, -2, 3),
    ),
    Case(
        "matmul-gates-rows",
        "order of rows and columns, with spikes on the right",
        *_pair(
            SpikeMatmul(),
            TensorType((1, 2), IntRange(-9, 9), Kind.GRADED),
            TensorType.spikes(2, 3),
            [[[5, -7]]],
            [[[1, 0, 1], [0, 1, 1]]],
        ),
        by_hand=(5, -7, -2),
    ),
    Case(
        "gate-keeps-the-sign",
        "a ternary gate turns the sign, a silent one brings zero",
        *_pair(
            Gate(),
            TensorType((3,), IntRange(-1, 1), Kind.SPIKES),
            TensorType((3,), IntRange(-9, 9), Kind.GRADED),
            [[-1, 0, 1]],
            [[4, 5, -6]],
        ),
        by_hand=(-4, 0, -6),
    ),
    Case(
        "matmul-adds-a-row-per-event",
        "a count of 3 brings the row three times, on the right as on the left",
        *_pair(
            SpikeMatmul(),
            TensorType((1, 2), IntRange(-9, 9), Kind.GRADED),
            TensorType((2, 2), IntRange(0, 3), Kind.COUNTS),
            [[[5, -7]]],
            [[[3, 0], [1, 2]]],
        ),
        by_hand=(8, -14),
    ),
    Case(
        "gate-adds-per-event",
        "a count of 3 lets the value through three times",
        *_pair(Gate(), _VALUES, _COUNTS, [[4, -5], [1, 6]], [[3, 2], [0, 1]]),
        by_hand=(12, -10, 0, 6),
    ),
    Case(
        "shift-sum-stops-at-a-power-of-two",
        "8 + 8 is shifted by the exponent of 16, and not of 32; 8 + 4 by that of 16",
        *_pair(
            ShiftSum(window=20, reach=9), _SCORES, _SCORES, [[[3, 3], [3, 2]]], [[[8, 0], [4, 4]]]
        ),
        by_hand=(6, 2, 5, 1),
    ),
    Case(
        "shift-sum-truncates-the-sum-toward-zero",
        "neither each term, 1 + 1, nor down: -3 - 4 halved is -3",
        *_pair(
            ShiftSum(window=9, reach=9), _SCORES, _SCORES, [[[0, 0], [5, 5]]], [[[3, -3], [3, -4]]]
        ),
        by_hand=(3, -3, 3, -3),
    ),
    Case(
        "shift-sum-leaves-out-what-is-far",
        "of the powers beyond the window, else 8 + 8 + 2**-9 asks for 32; of shifts beyond reach",
        *_pair(
            ShiftSum(window=8, reach=5),
            TensorType((2, 3), IntRange(-9, 9), Kind.GRADED),
            TensorType((3, 1), IntRange(0, 400), Kind.GRADED),
            [[[3, 3, -9], [3, -1, -3]]],
            [[[20], [32], [320]]],
        ),
        by_hand=(26, 11),
    ),
    Case(
        "staircase-counts-the-steps-reached",
        "a step is reached at equality; each element has thresholds of its own",
        *_unary(
            Staircase(thresholds=IntTensor.of([[1, 2], [3, 3], [4, 8]])),
            _VALUES,
            [[0, 2], [1, 3], [3, 7], [9, 8], [-9, 1]],
        ),
        by_hand=(0, 1, 1, 2, 2, 2, 3, 3, 0, 0),
    ),
    Case(
        "relu-drops-the-negative",
        "neither the magnitude nor one spike",
        *_unary(Relu(), _VALUES, [[-3, 4], [0, -1]]),
        by_hand=(0, 4, 0, 0),
    ),
    Case(
        "expand-repeats",
        "the new axis varies as it should: rows repeat, not elements",
        *_unary(Expand(shape=(2, 2)), TensorType.spikes(1, 2), [[[1, 0]]]),
        by_hand=(1, 0, 1, 0),
    ),
    Case(
        "slice-takes-the-middle",
        "start and stop, on the named axis",
        *_unary(Slice(axis=1, start=1, stop=2), TensorType.spikes(2, 3), [[[1, 0, 1], [0, 1, 0]]]),
        by_hand=(0, 1),
    ),
    Case(
        "concat-keeps-the-order",
        "the first operand first, on the named axis",
        Graph(
            (
                Node("x", Input(type=TensorType.spikes(2, 2))),
                Node("c", Input(type=TensorType((2, 1), IntRange(0, 3), Kind.COUNTS))),
                Node("y", Concat(axis=1), ("x", "c")),
            ),
            ("y",),
            T=1,
        ),
        {"x": np.array([[[[1, 0], [0, 1]]]]), "c": np.array([[[[3], [2]]]])},
        by_hand=(1, 0, 3, 0, 1, 2),
    ),
    Case(
        "readout-accumulates",
        "the sum of the steps, not the last",
        *_unary(Readout(), _MAP, [[[[1, -2], [0, 0]]], [[[3, 0], [0, -1]]]]),
        by_hand=(1, -2, 0, 0, 4, -2, 0, -1),
    ),
    Case(
        "attention-block",
        "heads, transposes, token order, and branches of unequal latency",
        attention_block(),
        {"x": _spikes((8, 3, 4, 6))},
    ),
)
