"""General rules that several frameworks have: rounded spikes, KLIF, parallel spiking neurons."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor

from lapilli.ir import ops
from lapilli.model.neurons.general_rule import Constants, GeneralRule


def rounding_levels(threshold: Fraction, levels: int) -> tuple[Constants, tuple[bool, ...]]:
    """Thresholds of round(clamp(h / threshold, 0, levels)), half to even, and which are strict."""
    values = [threshold * (2 * k - 1) / 2 for k in range(1, levels + 1)]
    return Constants(tuple(values), (1, levels, 1)), tuple(k % 2 == 1 for k in range(1, levels + 1))


def klif_rule(
    k: Fraction,
    *,
    decay: Fraction,
    gain: Fraction,
    threshold: Fraction,
    strict: bool,
    reset_by: Fraction | None = None,
) -> GeneralRule:
    """A membrane that is multiplied by `k` and cut off at 0 before it is compared.

    Raises:
        ValueError: `k` is not positive, or the membrane grows by itself.
    """
    if k <= 0:
        raise ValueError(f"k is {float(k):g}; times that, no current brings the membrane above 0")
    return GeneralRule(
        taps=Constants.one(gain, between=1),
        decay=Constants.one(decay),
        thresholds=Constants.one(threshold, between=1),
        strict=(strict,),
        reset=ops.Reset.TO_ZERO if reset_by is None else ops.Reset.BY_SUBTRACTION,
        reset_by=Constants.one(reset_by or Fraction(0)),
        floored=True,
    )


def parallel_rule(weight: Tensor, bias: Tensor, strict: bool) -> GeneralRule:
    """H[t] = sum of weight[t, s] * x[s] over s, compared with -bias[t].

    Raises:
        ValueError: a step weighs a later one.
    """
    if bool(weight.detach().triu(1).any()):
        raise ValueError(
            "its T x T matrix weighs later steps: not causal; a masked or sliding PSN looks back"
        )
    T, w = len(weight), weight.detach().double().tolist()
    furthest = max((t - s for t in range(T) for s in range(t) if w[t][s]), default=0)
    reach = range(furthest + 1)
    taps = [Fraction(w[t][t - k]) if k <= t else Fraction(0) for t in range(T) for k in reach]
    return looking_back(Constants(tuple(taps), (T, len(reach), 1)), bias, strict)


def looking_back(taps: Constants, bias: Tensor, strict: bool) -> GeneralRule:
    """A sum of the latest inputs, compared with -bias, of which nothing is kept."""
    thresholds = [Fraction(-b) for b in bias.detach().double().flatten().tolist()]
    return GeneralRule(
        taps=taps,
        decay=Constants.one(Fraction(0)),
        thresholds=Constants.steps(thresholds, between=1),
        strict=(strict,),
        reset=ops.Reset.NONE,
    )


def unmoved(module: Any, v_threshold: float) -> None:
    """Refuse to move thresholds of which there are several, or which a reset takes.

    Raises:
        TypeError: always.
    """
    raise TypeError(f"{type(module).__name__} has no one threshold to set to {v_threshold}")
