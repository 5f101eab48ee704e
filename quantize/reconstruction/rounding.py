"""Round the weights of one linear map together, so that its currents stay what real weights give.

The nearest integers make each weight's error small. What a neuron hears are sums, and inputs go
together: an error of one weight can be taken back by another. With the second moments of what the
map hears (its Hessian, if currents are to be near in squares), columns are rounded one after the
other, and what each lost is spread over those to come: optimal brain quantization in a fixed order,
as GPTQ does it (Frantar et al., ICLR 2023). Then each is asked again, the others as they are, a few
times. The bias is one more column, of an input that is always 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from lapilli.ir.recipe import Rounding
from lapilli.ir.tensor import IntTensor
from lapilli.quantize.options import RECONSTRUCTION
from lapilli.quantize.weights import Folded, IntegerUnit, along_channels, distances

FloatArray = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
BOUND = Fraction(3, 2)  # of an integer from weight / scale: one of the three nearest
_RIDGE = 0.01  # of the mean square of an input: what a weight counts for that hears nothing
_PASSES = 3  # in which each column is asked again


def reconstructed(folded: Folded, unit: IntegerUnit, heard: FloatArray) -> IntegerUnit:
    """Choose a unit's integers together, on the scales that it has.

    Args:
        folded: its real weights and biases.
        unit: the nearest integers.
        heard: moments of what it hears, (groups, n + 1, n + 1), those of an input that is always 1
            at the end.
    """
    shape = (len(heard), -1)
    factors = np.broadcast_to(along_channels(unit.factors, 1), folded.bias.shape).astype(np.float64)
    steps = factors * float(unit.weight_scale) * 2.0**unit.exponent
    columns = zip(
        folded.weight.reshape(*shape, heard.shape[2] - 1),
        folded.bias.reshape(shape),
        steps.reshape(shape),
        (factors * float(unit.output_scale)).reshape(shape),
        heard,
        strict=True,
    )
    most = (1 << (unit.bits - 1)) - 1 if unit.bits else np.inf
    found = np.concatenate([_integers(*each, most=most) for each in columns])
    weight, bias = found[:, :-1].reshape(folded.weight.shape), found[:, -1]
    return replace(unit, weight=IntTensor(weight << unit.exponent), bias=IntTensor(bias))


def _integers(
    weight: FloatArray,
    bias: FloatArray,
    step: FloatArray,
    bias_step: FloatArray,
    heard: FloatArray,
    *,
    most: float,
) -> Integers:
    """Integers (rows, n + 1) of the weights of n inputs, and of the bias behind them."""
    n = weight.shape[1]
    hessian = heard + (_RIDGE * float(np.trace(heard[:n, :n])) / n or 1.0) * np.eye(n + 1)
    real = np.concatenate([weight, bias[:, None]], axis=1)
    near = (weight / step[:, None]).clip(-most, most)
    no_bound = np.full((len(bias), 1), np.inf)
    grid = _Grid(
        np.concatenate([np.repeat(step[:, None], n, axis=1), bias_step[:, None]], axis=1),
        np.concatenate([np.ceil(near - float(BOUND)).clip(-most, most), -no_bound], axis=1),
        np.concatenate([np.floor(near + float(BOUND)).clip(-most, most), no_bound], axis=1),
    )
    found = _one_by_one(real, hessian, grid)
    for _ in range(_PASSES):
        _ask_again(found, real, hessian, grid)
    return found.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Of each number (rows, columns) the step between two integers, and the range of those."""

    step: FloatArray
    lowest: FloatArray
    highest: FloatArray

    def nearest(self, real: FloatArray, column: int) -> FloatArray:
        """Integers of a column."""
        near = np.rint(real / self.step[:, column])
        return np.asarray(near.clip(self.lowest[:, column], self.highest[:, column]))


def _one_by_one(real: FloatArray, hessian: FloatArray, grid: _Grid) -> FloatArray:
    """Round column by column, the loudest first; those to come make up for what is lost."""
    order = np.argsort(-np.diag(hessian), kind="stable")
    upper = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(order, order)])).T
    left, found = real.copy(), np.zeros_like(real)
    for place, column in enumerate(order):
        found[:, column] = grid.nearest(left[:, column], column)
        lost = left[:, column] - found[:, column] * grid.step[:, column]
        later = order[place + 1 :]
        left[:, later] -= np.outer(lost / upper[place, place], upper[place, place + 1 :])
    return found


def _ask_again(found: FloatArray, real: FloatArray, hessian: FloatArray, grid: _Grid) -> None:
    """Choose each column again, in place, for all the others as they are: no error grows."""
    off = found * grid.step - real
    for column in range(real.shape[1]):
        pull = off @ hessian[:, column] / hessian[column, column]
        held = found[:, column] * grid.step[:, column]
        found[:, column] = grid.nearest(held - pull, column)
        off[:, column] += found[:, column] * grid.step[:, column] - held


def rounding_of(folded: Mapping[str, Folded], units: Mapping[str, IntegerUnit]) -> Rounding:
    """What a recipe says of such integers."""
    far = [distances(folded[name], unit)[1] for name, unit in units.items()]
    return Rounding(method=RECONSTRUCTION, bound=BOUND, bias_bound=max(far, default=Fraction(0)))
