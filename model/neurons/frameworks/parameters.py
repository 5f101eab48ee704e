"""Parameters that neurons of several frameworks keep in the same way."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch


def fill_threshold(module: Any, v_threshold: float) -> None:
    """Set a threshold that is a tensor, for all neurons of the module."""
    with torch.no_grad():
        module.threshold.fill_(v_threshold)


def sigmoid_leak(module: Any) -> Fraction:
    """Return 1 / tau of a PLIF, which is the sigmoid of its parameter `w`."""
    return Fraction(float(module.w.detach().double().sigmoid()))
