"""Neurons for the kernels: constants of one rule, where 32 bits hold all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.bounds import neuron_bounds
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import TensorType
from lapilli.simulators.fast.choice import decay_shift
from lapilli.simulators.fast.sizes import BLOCK, padded
from lapilli.simulators.fast.work import Work

Array = npt.NDArray[Any]
_INT32 = 1 << 31


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a layer or its neurons gave: (T * B, *shape) each; None of what was not asked for."""

    spikes: Array | None = None
    currents: Array | None = None
    membranes: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A neuron node of binary spikes without a synaptic current, as `firing.fire` wants it.

    Attributes:
        op: the node's.
        constants: int32 [decay shift, fraction bits, kept by a spike (-1 or 0), taken by it].
    """

    op: ops.Neuron
    constants: Array

    def rows(self, shape: tuple[int, ...], channel: int, width: int) -> tuple[Array, Array] | None:
        """Threshold and bias, int32 (width,), of rows along one axis of `shape`.

        None if they differ along another axis.
        """
        size = shape[channel] if shape else 1
        found = []
        for tensor in (self.op.threshold, self.op.bias):
            row = np.ones(width, np.int32)  # what is beyond the row fires or not: nobody looks
            values = _along(tensor, len(shape), channel)
            if values is None:
                return None
            row[:size] = values
            found.append(row)
        return found[0], found[1]

    def fire(self, x: Array, T: int, work: Work, *, keeps: bool) -> Answer:
        """Neurons of currents (T * B, *shape); the membranes too, if `keeps`."""
        from lapilli.simulators.fast.kernels.layers import fire_rows

        order = (0, *(1 + i for i in memory_order(x)))
        maps = x.transpose(order)
        rank, channel = x.ndim - 1, order[-1] - 1
        size = x.shape[1:][channel] if rank else 1
        rows = self.rows(x.shape[1:], channel, padded(size, BLOCK))
        if rows is None:  # of every place its own: a whole sample is one row
            size = math.prod(x.shape[1:])
            rows = self._flat_rows(x.shape[1:], [i - 1 for i in order[1:]], padded(size, BLOCK))
        width = padded(size, BLOCK)
        currents = np.ascontiguousarray(maps).reshape(T, -1, size)
        Q = currents.shape[1]
        spikes = work.memory.take((T * Q * width,), np.uint8)
        membranes = work.memory.take((T * Q * width if keeps else 0,), np.int32)
        work.parts(Q, lambda a, b: fire_rows(
            currents, a, b, keeps, *rows, self.constants, spikes, membranes))  # fmt: skip
        back = np.argsort(order)

        def shaped(flat: Array) -> Array:
            return np.asarray(flat.reshape(-1, width)[:, :size].reshape(maps.shape).transpose(back))

        return Answer(shaped(spikes), None, shaped(membranes) if keeps else None)

    def _flat_rows(
        self, shape: tuple[int, ...], order: list[int], width: int
    ) -> tuple[Array, Array]:
        """Threshold and bias, int32 (width,), of every place of a sample in this order of axes."""
        found = []
        for tensor in (self.op.threshold, self.op.bias):
            row = np.ones(width, np.int32)
            full = np.broadcast_to(tensor.array, shape)
            row[: full.size] = full.transpose(order).reshape(-1)
            found.append(row)
        return found[0], found[1]


def _along(tensor: IntTensor, rank: int, channel: int) -> Array | None:
    """The values of a tensor that varies along one of `rank` axes at most."""
    sizes = (1,) * (rank - len(tensor.shape)) + tensor.shape
    others = math.prod(sizes) // (sizes[channel] if rank else 1)
    return tensor.array.reshape(-1) if others == 1 or math.prod(sizes) == 1 else None


def memory_order(x: Array) -> list[int]:
    """Axes of a sample as they lie in memory, the one whose elements are neighbours last."""
    strides = x.strides[1:]
    return sorted(range(len(strides)), key=lambda i: (-strides[i], i))


def rule(op: ops.Neuron, x: TensorType, T: int) -> Rule | None:
    """The constants of a neuron; None where the kernel does not know it, or 32 bits are few."""
    shift = decay_shift(op.dv)
    if shift is None or op.du != ops.DECAY_ONE or op.ternary or not 0 <= op.fraction_bits < 31:
        return None
    proven = neuron_bounds("", op, x, T)
    reached = (proven.current, proven.u, proven.v, proven.after, op.threshold.range, op.bias.range)
    if max(*(r.magnitude for r in reached), op.reset_by) >= _INT32 // 2:
        return None
    keeps = 0 if op.reset is ops.Reset.TO_ZERO else -1
    taken = op.reset_by if op.reset is ops.Reset.BY_SUBTRACTION else 0
    return Rule(op, np.array([shift, op.fraction_bits, keeps, taken], np.int32))
