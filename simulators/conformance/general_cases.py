"""General neurons with the answer computed by hand: constants of each step and channel, taps."""

from __future__ import annotations

import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.simulators.conformance.building import neuron_case, unary

_HALF = ops.DECAY_ONE // 2


def _general(theta: npt.ArrayLike, **constants: object) -> ops.GeneralNeuron:
    """Keep all, weigh inputs by 1 and reset to zero, unless told."""
    given = {"taps": [[[1]]], **constants}
    tensors = {k: IntTensor.of(v) if isinstance(v, list) else v for k, v in given.items()}
    return ops.GeneralNeuron(threshold=IntTensor.of(theta), **tensors)  # type: ignore[arg-type]


def _one(
    theta: npt.ArrayLike, drive: list[int], **constants: object
) -> tuple[Graph, dict[str, IntArray]]:
    return neuron_case(_general(theta, **constants), drive)


def _channels() -> tuple[Graph, dict[str, IntArray]]:
    """Two neurons of their own decays and reset amounts."""
    op = _general([[[4]]], dv=[[0, _HALF]], reset=ops.Reset.BY_SUBTRACTION, reset_by=[[3, 1]])
    kind = TensorType((2,), IntRange(0, 3), Kind.GRADED)
    return unary(op, kind, [[3, 3], [1, 3], [3, 3], [0, 0]])


# Name, what it shows, graph and inputs, answer.
GENERAL: tuple[tuple[str, str, tuple[Graph, dict[str, IntArray]], tuple[int, ...]], ...] = (
    (
        "floor-forgets-what-is-below-zero",
        "-5 becomes 0, and 3 fires at once; -1 becomes 0, and 2 + 1 fires",
        _one([[[3]]], [-5, 3, -1, 2, 1], floored=True),
        (0, 1, 0, 0, 1),
    ),
    (
        "floor-below-zero-is-where-a-membrane-stays",
        "-5 becomes -2, and 4 more are 2; -9 becomes -2, 5 more are 3: it fires",
        _one([[[3]]], [-5, 4, -9, 5, 1], floored=True, floor=-2),
        (0, 0, 0, 1, 0),
    ),
    (
        "several-levels-are-several-events",
        "5 reaches 2 and 4: two events, which take 2 * 2 and leave 1; 1 + 4 does so again",
        _one(
            [[[2], [4], [6]]], [5, 4, 0], reset=ops.Reset.BY_SUBTRACTION, reset_by=[[2]]
        ),
        (2, 2, 0),
    ),
    (
        "each-step-has-its-constants",
        "2 * 1 is below 4; half of 2, 1 * 2 and 1 are below 5; nothing of 4 and 3 * 3 are 9",
        _one(
            [[[4]], [[5]], [[9]]], [1, 2, 3],
            taps=[[[2]], [[1]], [[3]]], dv=[[0], [_HALF], [4096]], bias=[[0], [1], [0]],
        ),
        (0, 0, 1),
    ),
    (
        "taps-weigh-earlier-inputs",
        "4 * 1, 2 * 1, 4 + 1, 4 + 2, 2 + 1: only the fourth reaches 6",
        _one(
            [[[6]]], [1, 0, 1, 1, 0],
            taps=[[[4], [2], [1]]], dv=[[4096]], reset=ops.Reset.NONE,
        ),
        (0, 0, 0, 1, 0),
    ),
    (
        "weighted-inputs-shift-down",
        "-3 >> 1 is -2, not -1: with 9 >> 1 = 4 that is 2, and with 3 >> 1 = 1 it is 3",
        _one([[[3]]], [-1, 3, 1], taps=[[[3]]], shift=1),
        (0, 0, 1),
    ),
    (
        "each-channel-has-its-decay",
        "the first keeps all and gives 3; the second keeps half and gives 1",
        _channels(),
        (0, 0, 1, 1, 1, 1, 0, 0),
    ),
    (
        "a-general-current-lasts",
        "u is 4, 2, 1: what comes once reaches 2 twice",
        _one(
            [[[2]]], [2, 0, 0],
            taps=[[[2]]], dv=[[4096]], du=[[_HALF]], reset=ops.Reset.NONE,
        ),
        (1, 1, 0),
    ),
)  # fmt: skip
