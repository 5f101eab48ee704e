"""Shiftmax in integers: how far it shifts, and what its sums are truncated to, on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from torch import nn

from lapilli.ir import ops
from lapilli.ir.types import TensorType
from lapilli.model.capture import program
from lapilli.model.neurons.shiftmax import Shiftmax

_FLOAT_BITS = 52  # of float64, one below the 53 that it holds


@dataclass(frozen=True, slots=True)
class IntegerShiftmax:
    """A Shiftmax in integers.

    Attributes:
        op: for the graph.
        unit: real value of one of its results, as of the values that it adds.
    """

    op: ops.ShiftSum
    unit: Fraction

    @property
    def note(self) -> str:
        """What is not the author's module bit for bit."""
        return (
            f"on both sides, weights below 2**-{self.op.reach} are left out, and each sum is "
            f"truncated toward zero to a multiple of {float(self.unit):g}"
        )


def integer_shiftmax(
    weigh: program.ShiftSum, scores: TensorType, values: TensorType, unit: Fraction
) -> IntegerShiftmax:
    """As far a reach as matters: what is left out adds up to less than half a unit.

    And no further than the sum of `values`, in 2**-reach of a unit, stays exact in float64.
    """
    bits = values.range.magnitude.bit_length() + scores.shape[-1].bit_length()
    reach = max(0, min(weigh.window, bits, _FLOAT_BITS - bits))
    return IntegerShiftmax(ops.ShiftSum(window=weigh.window, reach=reach), unit)


def set_shiftmaxes(module: nn.Module, shiftmaxes: Mapping[str, IntegerShiftmax]) -> None:
    """Make each `Shiftmax` of a quantized module, by path, round as the graph does."""
    for path, integers in shiftmaxes.items():
        own = module.get_submodule(path)
        if not isinstance(own, Shiftmax):
            raise TypeError(f"{path} is no Shiftmax")
        own.reach = integers.op.reach
        own.unit = float(integers.unit)
