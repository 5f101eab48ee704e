"""Run a captured program in float64: PyTorch's side, where maps were merged.

The author's forward cannot run with parameters that are not its own. This one computes the
program operator by operator, on values (T, B, *step) of all time steps at once; its neurons
are the author's, its linear maps float32 where that rounds nothing. `agreement` shows that it is
the author's forward: with parameters of so few bits that no sum can round, both are equal bit for
bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lapilli.model.capture import program
from lapilli.model.capture.axes import from_steps, has, step_axes, step_shape, to_steps
from lapilli.model.capture.program import Call, Captured
from lapilli.quantize.pytorch.exact_map import ExactMap, Form, WholeNumbers


class Program(nn.Module):
    """A captured program as a module, its neurons under the author's paths.

    Attributes have names that an author hardly gives a layer: both are attributes of one object.

    Attributes:
        captured_program: that runs.
        exact_maps: the linear maps by their calls.
        folded_norms: calls of batch norms that are part of them.
    """

    def __init__(
        self,
        captured: Captured,
        neurons: nn.Module,
        weights: Mapping[str, tuple[Tensor | WholeNumbers, Tensor | None]],
        folded: frozenset[str] = frozenset(),
        *,
        wide: bool = False,
        checked: set[Form] | None = None,
    ) -> None:
        """Take the weights of each linear map; `wide` if it shall compute in float64 alone.

        `checked` are forms of maps in float32 that need no comparison with float64.
        """
        super().__init__()
        for name, child in neurons.named_children():
            self.add_module(name, child)
        self.captured_program = captured
        known = set() if checked is None else checked
        made = ExactMap.wide if wide else partial(ExactMap.of, checked=known)
        self.exact_maps = {name: made(*self._map(name), *held) for name, held in weights.items()}
        self.folded_norms = folded

    def _map(self, name: str) -> tuple[program.Synapse, str]:
        """A linear map, and its path for messages."""
        call = self.captured_program.calls[name]
        if not isinstance(call.op, program.Synapse):
            raise TypeError(f"{name} is no linear map")
        return call.op, call.path or name

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, C, H, W), or (B, T, C, H, W), to every answer: see `Signature.answers`."""
        return finished(self.neuron_by_neuron(images))

    def neuron_by_neuron(self, images: Tensor) -> Generator[None, None, tuple[Tensor, ...]]:
        """The same from neuron to neuron: stops behind each, and returns the answers at the end."""
        timed = "T" in self.captured_program.signature.layout
        given = images.transpose(0, 1) if timed else images[None]
        values: dict[str, Tensor] = {}
        left = Counter(i for call in self.captured_program.calls.values() for i in call.inputs)
        for call in self.captured_program.calls.values():
            is_input = isinstance(call.op, program.Input)
            value = given if is_input else self._value(call, [values[i] for i in call.inputs])
            values[call.name] = value
            left.subtract(call.inputs)
            for read in set(call.inputs):
                if not left[read] and read not in self.captured_program.outputs:
                    del values[read]
            del value
            if isinstance(call.op, program.Neuron):
                yield
        pairs = zip(
            self.captured_program.outputs, self.captured_program.signature.results, strict=True
        )
        return tuple(
            values[name] if result.keeps_steps else values[name][0] for name, result in pairs
        )

    def _value(self, call: Call, args: list[Tensor]) -> Tensor:
        x = args[0]
        shape = step_shape(call.dims)
        match call.op:
            case program.Synapse():
                return self.exact_maps[call.name](x)
            case program.BatchNorm() as op:
                return x if call.name in self.folded_norms else self._normalised(call, op, x)
            case program.Affine(factor=factor, shift=shift):
                y = x if factor is None else x * self._constant(factor)
                return y if shift is None else y + self._constant(shift)
            case program.Pad() as op:
                return self._padded(op, x)
            case program.Neuron(module=path):
                return self._fired(call, path, x)
            case program.Membrane(neuron=fire):
                raise TypeError(f"{fire.module}: a membrane is read in the author's forward alone")
            case program.Last():
                return x[-1:]
            case program.Relu():
                return torch.relu(x)
            case program.Matmul():
                return args[0] @ args[1]
            case program.ShiftSum(module=path):
                weighed: Tensor = self.get_submodule(path)(*args)
                return weighed
            case program.Mul():
                a, b = (_aligned(y, len(shape)) for y in args)
                return a * b
            case program.Add():
                a, b = (_aligned(y, len(shape)) for y in args)
                return a + b
            case program.Scale(factor=constant):
                if constant.numerator == 1:
                    return x / constant.denominator
                return x * float(constant)
            case program.Sum() as reduce:
                return _reduced(reduce, x)
            case program.MaxPool() as pool:
                y = functional.max_pool2d(x.flatten(0, -3), pool.kernel, pool.stride, pool.padding)
                return y.reshape(*x.shape[:2], *shape)
            case program.Reshape():
                return x.reshape(*x.shape[:2], *shape)
            case program.Permute(axes=axes):
                return x.permute(0, 1, *(a + 2 for a in axes))
            case program.Expand():
                T = self.captured_program.T if has(call.dims, "T") else x.shape[0]
                if x[0, 0].numel() == math.prod(shape):  # time alone appears, in an axis of 1
                    x = x.reshape(*x.shape[:2], *shape)
                return _aligned(x, len(shape)).expand(T, x.shape[1], *shape)
            case program.Slice(axis=axis, start=start, stop=stop):
                return x.narrow(axis + 2, start, stop - start)
            case program.Concat(axis=axis):
                return torch.cat(args, axis + 2)
            case program.Input():
                raise TypeError(f"{call.name} is given")

    def _fired(self, call: Call, path: str, x: Tensor) -> Tensor:
        arranged = torch.from_numpy(from_steps(x.detach().numpy(), call.dims))
        spikes = self.get_submodule(path)(arranged)
        return torch.from_numpy(to_steps(spikes.detach().numpy(), call.dims, x.shape[1]))

    def _normalised(self, call: Call, op: program.BatchNorm, x: Tensor) -> Tensor:
        factor, shift = (torch.from_numpy(v) for v in self.captured_program.normalisation(op))
        rank = len(step_shape(call.dims))
        axis = step_axes(call.dims)[1]
        along = [-1 if a == axis else 1 for a in range(rank)]
        y = x * factor.reshape(along)
        y += shift.reshape(along)
        return y

    def _padded(self, op: program.Pad, x: Tensor) -> Tensor:
        (top, left), (bottom, right) = op.before, op.after
        y = functional.pad(x, (left, right, top, bottom))
        if op.fill is None:
            return y
        inside = functional.pad(torch.ones_like(x), (left, right, top, bottom))
        fill = self._constant(op.fill).reshape(-1, 1, 1)
        return torch.where(inside == 1, y, fill)

    def _constant(self, name: str) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.captured_program.constants[name]))


def finished(steps: Generator[None, None, tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Go to the end of `Program.neuron_by_neuron`, and return the answers."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answers: tuple[Tensor, ...] = end.value
            return answers


def _reduced(op: program.Sum, x: Tensor) -> Tensor:
    """Over time the axis stays, with length 1."""
    over = [a + 2 for a in op.axes]
    if over:
        x = x.mean(over, op.keepdims) if op.mean else x.sum(over, op.keepdims)
    if op.time:
        x = x.mean(0, True) if op.mean else x.sum(0, True)
    return x


def _aligned(x: Tensor, rank: int) -> Tensor:
    """One time step's axes at the right, as broadcasting has them."""
    missing = rank + 2 - x.ndim
    return x.reshape(*x.shape[:2], *[1] * missing, *x.shape[2:])
