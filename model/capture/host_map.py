"""A linear map of all time steps of a value, which the host computes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class HostMap:
    """A linear map of all time steps.

    Attributes:
        weight: (T,), by which every element of each step is multiplied before they are added; or
            (K, T * n) of all n elements of all steps.
        bias: (K,) of the second; empty of the first.
    """

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]

    def of(self, steps: Tensor) -> Tensor:
        """Values (T, B, ...) to (B, ...) or (B, K), in float64."""
        weight = torch.from_numpy(self.weight)
        mapped: Tensor
        if weight.ndim == 1:
            mapped = torch.tensordot(weight, steps.double(), 1)
        else:
            flat = steps.double().transpose(0, 1).flatten(1)
            mapped = flat @ weight.T + torch.from_numpy(self.bias)
        return mapped
