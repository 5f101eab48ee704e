"""The graph's integer neuron, in the module, where the author's float neuron is not exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lapilli.ir import ops
from lapilli.ir.errors import MismatchError
from lapilli.ir.semantics import Fired, State, evaluate, integrate
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.model.capture import program
from lapilli.model.capture.opaque_step import MEMBRANE, SPIKES
from lapilli.model.neurons.rule import Adapter
from lapilli.quantize.neurons import IntegerNeuron

_BLOCK = 1 << 15  # values at a time, so that what is between a float and its integer stays in cache


def on_grid(
    name: str,
    values: npt.NDArray[np.floating[Any]],
    scale: Fraction,
    factors: IntTensor | None = None,
) -> IntArray:
    """The integers n with value == n * scale, exactly; n * scale * factor where there are factors.

    A scale that floats cannot hold (an average over 49) was rounded wherever PyTorch computed
    with it: a few thousand sums of 24-bit integers err by less than 2**-12 of a unit, which
    leaves one integer; further off is off the grid.

    Raises:
        MismatchError: a value that is none.
    """
    if factors is not None:
        return _on_grids(name, values, scale, factors)
    whole = _shifted if _is_shift(scale) else _divided
    integers = np.empty(values.shape, np.int64)
    given, taken = np.ascontiguousarray(values).reshape(-1), integers.reshape(-1)
    with np.errstate(invalid="ignore"):  # NaN and infinity become integers that are off the grid
        for start in range(0, given.size, _BLOCK):
            end = start + _BLOCK
            if not whole(given[start:end], scale, taken[start:end]):
                _refuse(name, values, scale)
    return integers


def _is_shift(scale: Fraction) -> bool:
    """Whether it is a power of two by which no float here is rounded."""
    parts = scale.numerator, scale.denominator
    return all(n.bit_count() == 1 and n.bit_length() <= 64 for n in parts)


def _shifted(values: npt.NDArray[np.floating[Any]], scale: Fraction, integers: IntArray) -> bool:
    """Put value / scale into `integers`, for a power of two; whether all are on the grid."""
    quotient = values * values.dtype.type(1 / scale)
    nearest = np.rint(quotient)
    integers[...] = nearest
    exact = np.array_equal(quotient, nearest)
    return exact and bool(np.abs(nearest).max() <= 2.0**53)  # infinity equals itself


def _divided(values: npt.NDArray[np.floating[Any]], scale: Fraction, integers: IntArray) -> bool:
    """Put value / scale into `integers`, for any scale; whether all are on the grid."""
    unit = float(scale.numerator) / float(scale.denominator)
    quotient = np.multiply(
        values, float(scale.denominator) / float(scale.numerator), dtype=np.float64
    )
    integers[...] = np.rint(quotient)
    if _is_rounded(scale):
        return bool((np.abs(quotient - integers) < 2.0**-12).all())
    return np.array_equal(np.multiply(integers, unit, out=quotient), values)


def _on_grids(
    name: str, values: npt.NDArray[np.floating[Any]], scale: Fraction, factors: IntTensor
) -> IntArray:
    """Channel by channel: the last axes of `values` broadcast against the factors."""
    axis = values.ndim - factors.array.ndim
    found = np.empty(values.shape, np.int64)
    for given, taken, factor in zip(
        np.moveaxis(values, axis, 0),
        np.moveaxis(found, axis, 0),
        factors.array.ravel().tolist(),
        strict=True,
    ):
        taken[...] = on_grid(name, given, scale * factor)
    return found


def _refuse(name: str, values: npt.NDArray[np.floating[Any]], scale: Fraction) -> NoReturn:
    if not np.isfinite(values).all():
        raise MismatchError(f"{name}: NaN or infinity in PyTorch's run")
    real = values.astype(np.float64)
    unit = float(scale.numerator) / float(scale.denominator)
    worst = int(np.argmax(np.abs(np.rint(real / unit) * unit - real)))
    raise MismatchError(
        f"{name}: {float(real.flat[worst])!r} is no multiple of {scale} in PyTorch's run"
    )


def _is_rounded(scale: Fraction) -> bool:
    """Whether a product of this scale with a 24-bit integer can be rounded in float64."""
    return scale.denominator.bit_count() != 1 or scale.numerator.bit_length() > 29


@dataclass(slots=True)
class _Running:
    """One use of the neuron: what it is in integers, and its state between two steps."""

    fire: program.Neuron
    neuron: IntegerNeuron
    state: State | None = None

    def step(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes and membrane before reset of one time step, in real units."""
        name, op = self.fire.module, self.neuron.op
        neuron = self.neuron
        current = on_grid(
            f"the current of {name}", x.detach().numpy(), neuron.scale, neuron.factors
        )
        if not isinstance(op, ops.Integrating):
            return self._real(evaluate(op, (current,)), self.fire.rule.output_scale), x
        fired: Fired = integrate(op, current, self.state or State.zeros(current.shape))
        self.state = fired.state
        spikes = self._real(fired.spikes, self.fire.rule.output_scale)
        return spikes, self._membrane(fired.membrane)

    def after_reset(self) -> Tensor:
        """What the latest step has left of the membrane, in real units.

        Raises:
            TypeError: there was none, or it has no membrane.
        """
        if self.state is None or not isinstance(self.neuron.op, ops.Integrating):
            raise TypeError(f"{self.fire.module} has no membrane")
        return self._membrane(self.state.v)

    def trace(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """All steps, from rest."""
        self.state = None
        if not isinstance(self.neuron.op, ops.Integrating):
            return self.step(x)
        steps = [self.step(current) for current in x]
        self.state = None
        return torch.stack([s for s, _ in steps]), torch.stack([h for _, h in steps])

    def _membrane(self, v: IntArray) -> Tensor:
        neuron = self.neuron
        if not isinstance(neuron.op, ops.Integrating):
            raise TypeError(f"{self.fire.module} has no membrane")
        units = v if neuron.factors is None else v * neuron.factors.array
        return self._real(units, neuron.unit / Fraction(2) ** neuron.op.fraction_bits)

    def _real(self, integers: IntArray, unit: Fraction) -> Tensor:
        return torch.from_numpy(integers * float(unit.numerator) / float(unit.denominator))


class StandIn(nn.Module):
    """Takes a neuron's place, in whichever way its forward is called.

    Attributes:
        module: the author's neuron; where it runs step by step, it still runs, so that what
            it returns beside its spikes has the form that the model expects.
        folded: T, if forward takes (T * B, ...).
        shows: name of the attribute in which the author's neuron shows its membrane.
        after_reset: whether it does so after the reset; silent: in place of spikes.
    """

    def __init__(
        self,
        module: nn.Module,
        uses: Sequence[tuple[program.Neuron, IntegerNeuron]],
        adapter: Adapter,
    ) -> None:
        super().__init__()
        self.module = module
        self.folded = adapter.folded(module)
        self.shows, self.silent = adapter.membrane, adapter.silent
        self.after_reset = adapter.shows_after_reset(module)
        self.shown: Tensor | None = None
        self.uses = {fire.call: _Running(fire, neuron) for fire, neuron in uses}
        self.turns = {n: use for use in self.uses.values() for n in use.fire.steps}
        self.called = 0

    def restart(self) -> None:
        """Begin a run."""
        self.called, self.shown = 0, None
        for use in self.uses.values():
            use.state = None

    def forward(self, x: Tensor, *others: Any, **named: Any) -> Any:
        """Integer spikes of this call."""
        number, self.called = self.called, self.called + 1
        if not self.turns:
            return self.trace(number, x)[0]
        returned = self.module(x, *others, **named)
        use = self.turns[number]
        spikes, membrane = use.step(x)
        self.shown = use.after_reset() if self.after_reset else membrane
        if not isinstance(returned, tuple):
            return spikes
        leaves, form = pytree.tree_flatten(returned)
        leaves[SPIKES] = self.shown if self.silent else spikes
        leaves[MEMBRANE] = self.shown
        return pytree.tree_unflatten(leaves, form)

    def trace(self, call: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes and membranes of all T steps, in the layout of `x`."""
        use = self.uses[call]
        if not self.folded:
            return use.trace(x)
        spikes, membranes = use.trace(x.unflatten(0, (self.folded, -1)))
        return spikes.flatten(0, 1), membranes.flatten(0, 1)

    def __getattr__(self, name: str) -> Any:
        """Its membrane, or whatever else the model asks of its neuron."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == self.__dict__.get("shows") and self.__dict__["shown"] is not None:
                return self.__dict__["shown"]
            return getattr(super().__getattr__("module"), name)
