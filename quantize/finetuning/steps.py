"""Steps of weights that learn: how many doublings each has moved from where it began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lapilli.ir.types import TensorType
from lapilli.quantize.finetuning.straight_through import by_steps
from lapilli.quantize.options import QuantizeOptions, channels_together
from lapilli.quantize.pipeline import integers
from lapilli.quantize.preparation import Prepared
from lapilli.quantize.weight_steps import given_steps, steps_of

LOOK = 16  # batches, after which integers are made of the steps as they have become


def first_steps(
    prepared: Prepared, image: TensorType, options: QuantizeOptions
) -> Mapping[str, Sequence[float]]:
    """Return the steps that learning begins with: those that are given, else the nearest weights'.

    Args:
        prepared: the model as a program.
        image: type of one step of its input.
        options: of `quantize`; `weight_steps` may be left out.

    Raises:
        QuantizeError, RangeError: see `pipeline.integers`; or steps of other linear maps.
    """
    if given := options.get("weight_steps"):
        given_steps(prepared.plan, options)  # refuses those of other linear maps
        return given
    nearest = QuantizeOptions(**{**options, "weight_scale": None, "weight_steps": None})
    units = integers(prepared, image, nearest).units
    return steps_of(prepared.plan, units, channels_together(options))


class LearnedSteps(nn.Module):
    """A parameter for each step: what has been learned, in doublings, from where it began.

    What is trained stays real; the integers take the nearest scale that they admit, and the
    gradient at that scale goes straight on to the parameter. AdamW's decay of weights draws a step
    back to where it began, not to 1.

    Attributes:
        moved: a tensor for each set of weights that learns.
    """

    def __init__(
        self, begun: Mapping[str, Sequence[float]], sets: Mapping[str, str], together: int
    ) -> None:
        """Begin at given steps.

        Args:
            begun: steps by name of the linear map, `weight_steps.step_names`.
            sets: name -> its set of weights; those of one set are the same, and so is their step.
                Others keep what they begin with.
            together: so many neighbouring channels have one step, where channels have any.
        """
        super().__init__()
        self._begun = {name: np.asarray(steps, np.float64) for name, steps in begun.items()}
        numbers = {each: number for number, each in enumerate(dict.fromkeys(sets.values()))}
        self._number = {name: numbers[each] for name, each in sets.items()}
        first = {number: name for name, number in reversed(self._number.items())}
        self.moved = nn.ParameterList(
            torch.zeros(len(self._begun[first[number]])) for number in range(len(numbers))
        )
        self._together = max(1, together)

    def steps(self) -> dict[str, tuple[float, ...]]:
        """Return the real steps as they are now, by name."""
        now = dict(self._begun)
        for name, number in self._number.items():
            now[name] = now[name] * np.exp2(self.moved[number].detach().double().numpy())
        return {name: tuple(steps.tolist()) for name, steps in now.items()}

    def learning(self, name: str, rounded: Tensor, slope: Tensor) -> Tensor:
        """Return rounded weights, with the gradient of their step; see `Rounded.slope`."""
        return by_steps(rounded, self.moved[self._number[name]], slope, self._together)
