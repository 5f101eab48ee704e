"""What a rule knows of the node that it translates: its values, constants and axes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from lapilli.ir.errors import CaptureError
from lapilli.model.capture import axes, program
from lapilli.model.capture.axes import Dims, MixError
from lapilli.model.capture.program import Call, FloatArray
from lapilli.model.capture.rolling import Loop


class Context(Protocol):
    """What a translation may ask of its reader."""

    model: nn.Module
    per_sample: bool
    loop: Loop | None
    looping: bool  # whether the node is part of the loop's step
    calls: dict[str, Call]
    constants: dict[str, FloatArray]

    def value(self, node: str) -> Call | None:
        """The call that computes this node, if it is not a constant."""
        ...

    def constant(self, name: str) -> Any:
        """The value of a parameter or of what was computed from parameters, or None."""
        ...

    def is_constant(self, name: str) -> bool:
        """Whether it is a parameter, or was computed from parameters alone."""
        ...

    def parameter_name(self, name: str) -> str | None:
        """Under which name the module holds a parameter, if it is one."""
        ...

    def parameter(self, name: str) -> Tensor:
        """The parameter that the module holds under a name: itself, no copy."""
        ...

    def keep(self, name: str, value: FloatArray) -> str:
        """Make a constant part of the program; return its name."""
        ...

    def add(self, call: Call) -> None:
        """Make a call part of the program."""
        ...

    def neuron_call(self, name: str) -> int:
        """Which call of its module this neuron node is."""
        ...

    def has_fired(self, call: Call) -> bool:
        """Whether this value depends on a neuron."""
        ...

    def note(self, path: str, sentence: str) -> None:
        """Tell the user."""
        ...


@dataclass(frozen=True, slots=True)
class Translation:
    """One node of the exported graph, and what came before it."""

    node: Any
    path: str
    reader: Context
    _count: Any = field(default_factory=lambda: itertools.count())

    def argument(self, index: int, default: Any = None) -> Any:
        """A positional argument of the node."""
        return self.node.args[index] if len(self.node.args) > index else default

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result, with T and B in it."""
        return tuple(self.node.meta["val"].shape)

    def error(self, problem: str) -> CaptureError:
        """An error that names the module of this node."""
        return CaptureError(self.path, problem)

    # ---- operands ----

    def is_constant(self, argument: Any) -> bool:
        """Whether it is a number, a parameter, or computed from these alone."""
        if isinstance(argument, int | float):
            return True
        name = getattr(argument, "name", None)
        return name is not None and self.reader.is_constant(name)

    def call(self, argument: Any) -> Call:
        """The program's value behind an argument.

        Raises:
            CaptureError: it is a parameter or a constant.
        """
        found = self.reader.value(getattr(argument, "name", ""))
        if found is None:
            raise self.error(f"{self.node.target} on a parameter is not supported")
        return found

    def constant(self, argument: Any) -> Tensor:
        """Value of a constant argument, float64.

        Raises:
            CaptureError: it depends on the image, or is not finite.
        """
        if not self.is_constant(argument):
            raise self.error(f"{self.node.target} takes a computed value where weights belong")
        value = argument
        if not isinstance(argument, int | float):
            value = self.reader.constant(argument.name)
        number = torch.as_tensor(value, dtype=torch.float64)
        self._check_finite(argument, number)
        return number

    def parameter(self, argument: Any) -> str:
        """Name of a parameter, or of a constant that was computed from parameters.

        Raises:
            CaptureError: it depends on the image, or is not finite.
        """
        name = self.reader.parameter_name(getattr(argument, "name", ""))
        if name is None:
            return self.kept(self.constant(argument).numpy(), self.node_name(argument))
        self._check_finite(argument, self.reader.parameter(name))
        return name

    def _check_finite(self, argument: Any, number: Tensor) -> None:
        if _is_finite(number):
            return
        what = "NaN" if number.isnan().any() else "infinity"
        name = self.reader.parameter_name(getattr(argument, "name", ""))
        raise self.error(
            f"{self.node.target} takes {what} "
            f"{f'from {name}' if name else 'that is computed from parameters or buffers'}; "
            "load a checkpoint of a finished training"
        )

    def node_name(self, argument: Any) -> str:
        """A name for a constant argument."""
        return str(getattr(argument, "name", f"{self.node.name}.constant"))

    def kept(self, value: FloatArray, name: str | None = None) -> str:
        """Keep a constant of this node in the program."""
        return self.reader.keep(name or f"{self.node.name}.constant", np.asarray(value))

    def step_constant(self, constant: Tensor, dims: Dims) -> FloatArray:
        """A constant that meets a value of these dimensions, for one time step.

        Raises:
            MixError: it differs from step to step, or from sample to sample.
        """
        value = constant.numpy()
        value = value.reshape((1,) * (len(dims) - value.ndim) + value.shape)
        parts = []
        for axis, dim in enumerate(dims):
            if value.shape[axis] != 1 and axes.named(dim):
                sizes = [f.size for f in dim]
                split = value.reshape(*value.shape[:axis], *sizes, *value.shape[axis + 1 :])
                for i, factor in enumerate(dim):
                    if factor.name:
                        split = _first_if_alike(split, axis + i, factor.name)
                value = split.reshape(*value.shape[:axis], -1, *value.shape[axis + 1 :])
            if axes.kept(dim):
                parts.append(value.shape[axis])
        return np.ascontiguousarray(value.reshape(parts))

    # ---- results ----

    def step(self, op: program.Operator, dims: Dims, *inputs: Call) -> Call:
        """Make a call part of the program; the first has the node's name."""
        number = next(self._count)
        name = f"{self.node.name}.{number}" if number else self.node.name
        call = Call(name, op, tuple(c.name for c in inputs), self.path, dims)
        self.reader.add(call)
        return call

    def reshaped(self, x: Call, sizes: Sequence[int]) -> Call:
        """X in another shape, T and B in it."""
        return self.step(program.Reshape(), axes.reshape(x.dims, sizes), x)

    def permuted(self, x: Call, order: Sequence[int]) -> Call:
        """X with its axes in another order, T and B among them."""
        step = axes.step_axes(x.dims)
        moved = tuple(a for d in order if (a := step[d]) is not None)
        return self.step(program.Permute(axes=moved), tuple(x.dims[d] for d in order), x)

    def expanded(self, x: Call, dims: Dims) -> Call:
        """X with axes of length 1 repeated."""
        return x if x.dims == dims else self.step(program.Expand(), dims, x)

    def scaled(self, x: Call, factor: Fraction) -> Call:
        """X times a constant.

        Raises:
            CaptureError: the constant is 0.
        """
        if factor == 0:
            raise self.error("multiplies a value by 0; remove it from the module")
        return self.step(program.Scale(factor=factor), x.dims, x)


def untouched(x: Call, dims: Sequence[int]) -> None:
    """Refuse to compute across T or B.

    Raises:
        MixError: one of these dimensions holds T or B.
    """
    if any(axes.named(x.dims[d]) for d in dims):
        raise MixError(f"it computes across T or B of {axes.show(x.dims)}")


def sizes(x: Call) -> tuple[int, ...]:
    """Shape with T and B in it."""
    return axes.shape(x.dims)


def pair(value: Any) -> tuple[int, int]:
    """Two numbers of one, or of two."""
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    return (int(numbers[0]), int(numbers[-1]))


def uniform(value: FloatArray) -> Fraction | None:
    """The number that every element is, if it is one."""
    flat = value.ravel()
    return Fraction(float(flat[0])) if flat.size and (flat == flat[0]).all() else None


def _is_finite(number: Tensor) -> bool:
    """Whether all of it is; extremes tell in one walk, and without a mask."""
    if not (number.is_floating_point() and number.numel()):
        return bool(number.isfinite().all())
    return all(bool(end.isfinite()) for end in number.aminmax())


def _first_if_alike(value: FloatArray, axis: int, name: str) -> FloatArray:
    first = value.take([0], axis)
    if not np.array_equal(np.broadcast_to(first, value.shape), value):
        what = "time steps" if name == "T" else "samples"
        raise MixError(f"a constant that is not the same for all {what}")
    return first


OperatorRule: TypeAlias = Callable[[Translation], "Call | None"]
