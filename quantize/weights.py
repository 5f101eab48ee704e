"""From trained parameters to integers: fold batch norm, choose powers of two, round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
from torch import nn

from lapilli.ir.errors import QuantizeError
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.model.capture import program
from lapilli.model.capture.program import Captured
from lapilli.quantize.channel_scales import ChannelScales
from lapilli.quantize.plan import Plan, Unit

FloatArray = npt.NDArray[np.float64]
ChooseScale: TypeAlias = Callable[[FloatArray, int], Fraction]  # weights and bits to a scale
_FINER = 4  # scales that are tried below the one that holds the largest weight
_PART = 1 << 15  # weights at a time: what is computed of them stays in a processor's cache


@dataclass(frozen=True, slots=True)
class IntegerUnit:
    """A unit in integers: real weight = weight * weight_scale, real output = y * output_scale.

    The bias is in output units. Both scales are exact; weight_scale is a power of two. Weights are
    multiples of 2**exponent, in a stream whose unit is finer than they need, and have `bits` beside
    it, if that is not 0. Where there are `factors`, one for each output channel, both scales of a
    channel are so many times as large.
    """

    weight: IntTensor
    bias: IntTensor
    weight_scale: Fraction
    output_scale: Fraction
    exponent: int = 0
    bits: int = 0
    factors: tuple[int, ...] = ()

    @property
    def real_weight(self) -> FloatArray:
        """Weights as PyTorch holds them."""
        return self._real(self.weight, self.weight_scale)

    @property
    def real_bias(self) -> FloatArray:
        """Biases as PyTorch holds them."""
        return self._real(self.bias, self.output_scale)

    def _real(self, integers: IntTensor, scale: Fraction) -> FloatArray:
        units = integers.array * along_channels(self.factors, integers.array.ndim)
        real = units * float(scale.numerator) / float(scale.denominator)
        return np.asarray(real, np.float64)


def neuron_factors(plan: Plan, units: Mapping[str, IntegerUnit]) -> dict[str, IntTensor]:
    """Find how many times as large the scale of each channel is, by call.

    Returns:
        Of each neuron, and each answer, whose channels have a scale each, in a shape that
        broadcasts against its current.
    """
    found = {}
    for call, shape in plan.channels.shapes.items():
        factors = units[min(plan.feeds[call])].factors
        if factors:
            found[call] = IntTensor.of(np.reshape(factors, shape))
    return found


def along_channels(factors: Sequence[int], axes: int) -> IntArray:
    """Factors of the first of so many axes, to multiply by; 1 where there are none."""
    return np.array(factors or [1], np.int64).reshape(-1, *[1] * (axes - 1))


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """Real weight and bias of a unit, its batch norm folded in, float64."""

    weight: FloatArray
    bias: FloatArray


def fold(captured: Captured, unit: Unit) -> Folded:
    """Fold the batch norm behind a linear map into its weight and bias.

    Raises:
        QuantizeError: a parameter that is not finite.
    """
    op = captured.calls[unit.call].op
    if not isinstance(op, program.Synapse):
        raise TypeError(f"{unit.call} is no linear map")
    weight = captured.array(op.weight)
    bias = captured.array(op.bias) if op.bias else np.zeros(len(weight))
    norm = captured.calls[unit.norm].op if unit.norm is not None else None
    if isinstance(norm, program.BatchNorm):
        factor, shift = captured.normalisation(norm)
        bias = factor * bias + shift
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise QuantizeError(unit.path, "holds NaN or infinity")
    return Folded(weight, bias)


@dataclass(frozen=True, slots=True, eq=False)
class FoldedUnits(Mapping[str, Folded]):
    """Every unit of a plan, folded when it is asked for and not kept.

    In float64 all of them together take more memory than whatever else is done to a model.
    """

    captured: Captured
    units: Mapping[str, Unit]

    def __getitem__(self, name: str) -> Folded:
        """Fold one unit; see `fold`."""
        return fold(self.captured, self.units[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.units)

    def __len__(self) -> int:
        return len(self.units)


def norm_module(captured: Captured, unit: Unit) -> nn.BatchNorm2d:
    """The batch norm module of a unit that has one; 1-d and 2-d hold the same parameters."""
    op = captured.calls[unit.norm or ""].op
    path = op.module if isinstance(op, program.BatchNorm) else ""
    return cast("nn.BatchNorm2d", captured.module.get_submodule(path))


def round_units(
    plan: Plan,
    folded: Mapping[str, Folded],
    bits: Mapping[str, int],
    own: Mapping[str, Fraction],
    lowered: Mapping[str, int],
    apart: Mapping[str, ChannelScales],
    before: Mapping[str, IntegerUnit] | None = None,
) -> dict[str, IntegerUnit]:
    """Integers for every unit, of the power of two that is chosen for its weights.

    The output scale of a group is the finest that one of its units takes; the others' weights
    are multiples of powers of two in it. What has no weights takes the scale of the others.

    Args:
        plan: units and groups.
        folded: real parameters, by unit.
        bits: of the weights of each unit, sign included; the range is symmetric.
        own: the scale that the weights of each unit would take alone: `largest_fits` or another.
        lowered: group -> how much coarser its output scale is, in bits, so that a state fits.
        apart: group -> its scales, where each channel has one; `own` is not asked there.
        before: an earlier result; units whose scales are the same are taken from it.

    Raises:
        QuantizeError: a group whose input scales are no powers of two of each other.
    """
    scales: dict[str, Fraction] = {}  # by group: of its output
    inputs: dict[str, Fraction] = {}  # by unit: of its input
    finest: dict[str, Fraction] = {}  # by unit: the group's output scale that it would take alone
    for group in dict.fromkeys(plan.groups.values()):
        members = [unit for name, unit in plan.units.items() if plan.groups[name] == group]
        for unit in members:
            inputs[unit.call] = _input_scale(plan, unit, scales)
            if (chosen := apart.get(group)) is not None:
                finest[unit.call] = chosen.unit * 2 ** chosen.exponents[unit.call]
            else:
                alone = abs(inputs[unit.call]) * own[unit.call]
                finest[unit.call] = alone / abs(plan.ratios[unit.call])
        asked = [finest[unit.call] for unit in members if not unit.constant]
        scales[group] = min(asked or [finest[unit.call] for unit in members])
        finest |= {unit.call: scales[group] for unit in members if unit.constant}
        scales[group] *= 2 ** lowered.get(group, 0)
    units = {}
    for name, unit in plan.units.items():
        output_scale = scales[plan.groups[name]] * plan.ratios[name]
        weight_scale = output_scale / inputs[name]
        exponent = max(0, binary_log(finest[name] / scales[plan.groups[name]]))
        known = (before or {}).get(name)
        if known and (known.weight_scale, known.output_scale) == (weight_scale, output_scale):
            units[name] = known
        else:
            scaled = weight_scale, output_scale, exponent, bits[name]
            chosen = apart.get(plan.groups[name])
            factors = chosen.factors if chosen else ()
            units[name] = round_unit(unit, folded[name], *scaled, factors)
    return units


def binary_log(ratio: Fraction) -> int:
    """Binary logarithm of a power of two, rounded down of anything else."""
    whole = ratio.numerator.bit_length() - ratio.denominator.bit_length()
    return whole if Fraction(2) ** whole <= ratio else whole - 1


def odd_part(scale: Fraction) -> Fraction:
    """What is left of a scale without its powers of two."""
    above, below = scale.numerator, scale.denominator
    return Fraction(above // (above & -above), below // (below & -below))


def _input_scale(plan: Plan, unit: Unit, scales: Mapping[str, Fraction]) -> Fraction:
    """Of the unit's input: known, unless it is the current of other units."""
    if unit.source is None:
        return unit.input_scale
    group = plan.groups[unit.source]
    if group not in scales:
        raise QuantizeError(unit.path, "is part of the stream that it takes as its input")
    return unit.input_scale * scales[group] * plan.ratios[unit.source]


def round_unit(
    unit: Unit,
    folded: Folded,
    weight_scale: Fraction,
    output_scale: Fraction,
    exponent: int = 0,
    bits: int = 0,
    factors: tuple[int, ...] = (),
) -> IntegerUnit:
    """Take the nearest integers to a unit's weights and biases by these scales.

    Weights are the nearest multiples of 2**exponent that have so many bits, if any are given.
    Factors multiply both scales of an output channel.

    Raises:
        QuantizeError: the scale of the weights is no power of two.
    """
    if abs(weight_scale.numerator).bit_count() != 1 or weight_scale.denominator.bit_count() != 1:
        raise QuantizeError(
            unit.path,
            f"shares a residual stream, but not its input scale {output_scale / weight_scale}",
        )
    each = folded.weight
    if factors:
        each = each / along_channels(factors, each.ndim)
    flat, mantissa = each.reshape(-1), np.empty(each.size, np.int64)
    for start in range(0, flat.size, _PART):
        part = slice(start, start + _PART)
        mantissa[part] = _rounded(flat[part], weight_scale * 2**exponent, bits)
    weight = IntTensor((mantissa << exponent).reshape(each.shape))
    shifts = folded.bias / along_channels(factors, 1)
    bias = np.rint(shifts / float(output_scale)).astype(np.int64)
    return IntegerUnit(weight, IntTensor(bias), weight_scale, output_scale, exponent, bits, factors)


def distances(folded: Folded, unit: IntegerUnit) -> tuple[Fraction, Fraction]:
    """How far a weight, and a bias, lies at most from what its scale makes of the real one.

    Returns:
        In units of the integers: of weights, multiples of 2**exponent, from the real weight
        cut off at the largest of them; of biases from the real bias.
    """
    factors = along_channels(unit.factors, folded.weight.ndim)
    step = float(unit.weight_scale) * 2.0**unit.exponent
    most = (1 << (unit.bits - 1)) - 1 if unit.bits else np.inf
    exact = (folded.weight / factors / step).clip(-most, most)
    weights = np.abs(unit.weight.array / 2.0**unit.exponent - exact).max(initial=0)
    shifts = folded.bias / along_channels(unit.factors, 1) / float(unit.output_scale)
    biases = np.abs(unit.bias.array - shifts).max(initial=0)
    return Fraction(float(weights)), Fraction(float(biases))


def _rounded(weight: FloatArray, scale: Fraction, bits: int) -> FloatArray:
    nearest = weight / float(scale)
    np.rint(nearest, out=nearest)
    most = (1 << (bits - 1)) - 1
    return nearest.clip(-most, most, out=nearest) if bits else nearest


def largest_fits(weight: FloatArray, bits: int) -> Fraction:
    """Choose the finest power of two that holds the largest weight."""
    top = Fraction(max(float(weight.max()), -float(weight.min())))
    return _power_of_two_above(top / ((1 << (bits - 1)) - 1))


def least_squares(weight: FloatArray, bits: int) -> Fraction:
    """Choose the power of two by which weights, rounded and cut off, lie nearest to themselves.

    Of weights of few bits, cutting off the largest pays: the others are twice as fine.
    """
    largest, flat = largest_fits(weight, bits), weight.reshape(-1)
    scales = [largest / (1 << finer) for finer in range(_FINER)]
    errors = [0.0] * _FINER
    for part in np.split(flat, range(_PART, flat.size, _PART)):
        for number, scale in enumerate(scales):
            errors[number] += _squared_error(part, scale, bits)
    return scales[errors.index(min(errors))]


def _squared_error(weight: FloatArray, scale: Fraction, bits: int) -> float:
    error = _rounded(weight, scale, bits)
    error *= -float(scale)
    error += weight
    return float(error @ error)


def _power_of_two_above(value: Fraction) -> Fraction:
    """Smallest power of two that is not below a positive value; 1 for zero.

    >>> _power_of_two_above(Fraction(3, 100))
    Fraction(1, 32)
    """
    if value == 0:
        return Fraction(1)
    below = Fraction(2) ** binary_log(value)
    return below if below == value else 2 * below
