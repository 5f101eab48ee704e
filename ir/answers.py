"""What the host makes of a graph's outputs: which steps count, and what an integer is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lapilli.ir.errors import InputError
from lapilli.ir.graph import Graph
from lapilli.ir.recording import Recording
from lapilli.ir.tensor import IntArray, IntTensor

LOGITS = "logits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one of a network's answers follows from the values of an output of its graph.

    Attributes:
        name: by which it is known.
        scale: a real number is an integer times this.
        steps: the answer has all T time steps; otherwise it is the value at the last of them.
        weights: by which the value at each of the T steps is multiplied, before all are added.
        matrix: (K, T * n), a linear map of all n elements of all steps; offset: (K,) its bias.
    """

    name: str = LOGITS
    scale: Fraction
    steps: bool = False
    weights: tuple[int, ...] = ()
    matrix: IntTensor | None = None
    offset: tuple[int, ...] = ()

    @property
    def sees_steps(self) -> bool:
        """Whether the value at more than the last step decides it."""
        return self.steps or bool(self.weights) or self.matrix is not None

    def shape(self, value: tuple[int, ...]) -> tuple[int, ...]:
        """Of one sample of the answer, or of one step of it; `value` is that of the output."""
        return value if self.matrix is None else (self.matrix.shape[0],)

    def check(self, value: tuple[int, ...], T: int) -> None:
        """Refuse what does not fit the output's shape and time steps.

        Raises:
            InputError: says what.
        """
        ways = self.steps + bool(self.weights) + (self.matrix is not None)
        if ways > 1 or (self.weights and len(self.weights) != T):
            raise InputError(f"answer {self.name!r} needs a weight for each of the T steps")
        matrix = self.matrix
        if matrix is None and self.offset:
            raise InputError(f"answer {self.name!r} has a bias of no map")
        if matrix is not None and (
            matrix.shape[1:] != (T * math.prod(value),) or len(self.offset) != matrix.shape[0]
        ):
            raise InputError(f"answer {self.name!r}: its map {matrix.shape} does not fit")

    def read(self, values: IntArray) -> IntArray:
        """Values (T, B, ...) of the output to integers (B, ...); (T, B, ...) with `steps`."""
        if self.steps:
            return values
        if self.matrix is not None:
            flat = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
            mapped: IntArray = flat @ self.matrix.array.T + np.array(self.offset, np.int64)
            return mapped
        if not self.weights:
            last: IntArray = values[-1]
            return last
        weights = np.array(self.weights, np.int64)
        added: IntArray = np.tensordot(weights, values, 1)
        return added


def read_answers(
    graph: Graph, answers: Sequence[Answer], recording: Recording
) -> dict[str, IntArray]:
    """Every answer of a recording, by name; in the order of the graph's outputs."""
    pairs = zip(answers, graph.outputs, strict=True)
    return {answer.name: answer.read(recording.values[node]) for answer, node in pairs}
