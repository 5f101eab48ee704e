"""Small graphs with their inputs: one neuron, one op, one block of attention."""

from __future__ import annotations

import numpy as np

from lapilli.ir import ops
from lapilli.ir.graph import Graph, Node
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType


def neuron_case(
    op: ops.Integrating | ops.Membrane, drive: list[int]
) -> tuple[Graph, dict[str, IntArray]]:
    """One neuron and its input currents."""
    x = np.array(drive, np.int64)[:, None, None]
    kind = TensorType((1,), IntRange(int(x.min()), int(x.max())), Kind.GRADED)
    nodes = (Node("x", ops.Input(type=kind)), Node("s", op, ("x",)))
    return Graph(nodes, ("s",), len(drive)), {"x": x}


def unary(op: ops.Op, kind: TensorType, x: object) -> tuple[Graph, dict[str, IntArray]]:
    """One op of one operand, one sample: x is (T, *shape)."""
    given = np.asarray(x, np.int64)[:, None]
    nodes = (Node("x", ops.Input(type=kind)), Node("y", op, ("x",)))
    return Graph(nodes, ("y",), len(given)), {"x": given}


def lif(theta: int, **options: object) -> ops.Neuron:
    """Half leak and one fraction bit, unless told."""
    given = {"dv": ops.DECAY_ONE // 2, "fraction_bits": 1, **options}
    return ops.Neuron(threshold=IntTensor.of([theta]), **given)  # type: ignore[arg-type]


def attention_block(tokens: int = 4, dim: int = 6, heads: int = 2, seed: int = 0) -> Graph:
    """Stem, attention and residual: two spike products, uneven branches, a read-out.

    Written for stock LIF neurons too: thresholds are 64 * vth + 1.
    """
    rng = np.random.default_rng(seed)
    nodes = [Node("x", ops.Input(type=TensorType.spikes(tokens, dim)))]
    half = {"dv": ops.DECAY_ONE // 2, "fraction_bits": 9}
    for name in ("q", "k", "v"):
        w = IntTensor.of(rng.integers(-8, 9, (dim, dim)))
        b = IntTensor.of(rng.integers(-2, 3, dim))
        nodes.append(Node(f"{name}.linear", ops.Linear(weight=w, bias=b), ("x",)))
        theta = IntTensor.of([64 * 8 * 3 - 63])
        nodes.append(Node(name, ops.Neuron(threshold=theta, **half), (f"{name}.linear",)))  # type: ignore[arg-type]
        nodes.append(
            Node(f"{name}.split", ops.Reshape(shape=(tokens, heads, -(-dim // heads))), (name,))
        )
        axes = (1, 2, 0) if name == "k" else (1, 0, 2)
        nodes.append(Node(f"{name}.heads", ops.Permute(axes=axes), (f"{name}.split",)))
    nodes += [
        Node("scores", ops.SpikeMatmul(), ("q.heads", "k.heads")),
        Node("mixed", ops.SpikeMatmul(), ("scores", "v.heads")),
        Node("merged", ops.Permute(axes=(1, 0, 2)), ("mixed",)),
        Node("attn", ops.Reshape(shape=(tokens, dim)), ("merged",)),
        Node("attn.fire", ops.Neuron(threshold=IntTensor.of([64 * 8 * 2 - 63]), **half), ("attn",)),  # type: ignore[arg-type]
        Node("y", ops.Add(), ("x", "attn.fire")),
        Node("head", ops.Linear(weight=IntTensor.of(rng.integers(-8, 9, (3, dim))),
                            bias=IntTensor.of([1, -2, 3])), ("y",)),
        Node("pool", ops.Sum(axes=(0,)), ("head",)),
        Node("logits", ops.Readout(), ("pool",)),
    ]  # fmt: skip
    return Graph(tuple(nodes), ("logits",), 8)


def spikes(shape: tuple[int, ...], seed: int = 1, rate: float = 0.4) -> IntArray:
    """Random spikes at this rate."""
    return (np.random.default_rng(seed).random(shape) < rate).astype(np.int64)


def pair(
    op: ops.Op, a: TensorType, b: TensorType, x: object, y: object
) -> tuple[Graph, dict[str, IntArray]]:
    """One op of two operands, one sample: x and y are (T, *shape)."""
    given = {"a": np.asarray(x, np.int64)[:, None], "b": np.asarray(y, np.int64)[:, None]}
    nodes = (Node("a", ops.Input(type=a)), Node("b", ops.Input(type=b)), Node("y", op, ("a", "b")))
    return Graph(nodes, ("y",), len(given["a"])), given
