"""Steps of weights that are given, by the names of linear maps: the real distance of neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from lapilli.ir.errors import QuantizeError
from lapilli.quantize.options import LEARNED, QuantizeOptions, learns_scales
from lapilli.quantize.plan import Plan
from lapilli.quantize.recipe import uses_of
from lapilli.quantize.weights import IntegerUnit

FloatArray = npt.NDArray[np.float64]


def step_names(plan: Plan) -> dict[str, str]:
    """Name each unit as options and files do: PATH, or PATH#1 where it is the second there."""
    uses = uses_of(plan)
    return {
        name: f"{unit.path}#{uses[name]}" if uses[name] else unit.path
        for name, unit in plan.units.items()
    }


def given_steps(plan: Plan, options: QuantizeOptions) -> dict[str, FloatArray]:
    """Find the step, or steps of groups of channels, of each unit; none if they are chosen.

    Raises:
        QuantizeError: they are those of other linear maps, or none are given.
    """
    if not learns_scales(options):
        return {}
    given = options.get("weight_steps")
    if not given:
        raise QuantizeError(
            "image", f"weight_scale {LEARNED!r} takes the weight_steps that `finetune` has learned"
        )
    names = step_names(plan)
    if odd := sorted(given.keys() - set(names.values())):
        raise QuantizeError(odd[0], "is no linear map, to have weight_steps")
    if lacks := [name for name in names.values() if name not in given]:
        raise QuantizeError(lacks[0], "has no weight_steps, and others do")
    return {unit: np.asarray(given[name], np.float64) for unit, name in names.items()}


def steps_of(
    plan: Plan, units: Mapping[str, IntegerUnit], together: int
) -> dict[str, tuple[float, ...]]:
    """Return the steps of integers that were chosen, by name: what `given_steps` finds again.

    Args:
        plan: of the units.
        units: by name of the call.
        together: so many neighbouring channels have one scale, where channels have any.
    """
    return {
        name: tuple(
            abs(float(units[unit].weight_scale)) * 2.0 ** units[unit].exponent * factor
            for factor in (units[unit].factors[:: max(1, together)] or (1,))
        )
        for unit, name in step_names(plan).items()
    }


def nearest_power(path: str, steps: FloatArray) -> Fraction:
    """Return the power of two nearest to the one step of a linear map, in parts of it.

    Raises:
        QuantizeError: it has several.
    """
    check_count(path, steps, 1)
    return Fraction(2) ** round(float(np.log2(steps[0])))


def check_count(path: str, steps: Sequence[float] | FloatArray, count: int) -> None:
    """Refuse another number of steps than there are scales.

    Raises:
        QuantizeError: see above.
    """
    if len(steps) != count:
        raise QuantizeError(
            path,
            f"has {len(steps)} weight_steps and {count} scales: were they learned with others?",
        )
