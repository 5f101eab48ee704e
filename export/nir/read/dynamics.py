"""What a neuron of a `.nir` file does in discrete time: exactly, or not at all.

NIR is written in continuous time, and each framework means something of its own by the same
fields: what they are one step apart in is stated here as a `Reading`, the inverse of what that
framework's exporter writes. What an exporter drops (the kind of reset, above all) must be
stated by whoever imports. docs/nir-import.md has the table.

Source: the exporters and neurons of snnTorch 1.0.0, norse 1.1.0, SpikingJelly 2.0.0 and
sinabs 3.1.3; NIR 1.0.8.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.nodes import Floats, NirNode
from lapilli.ir import ops
from lapilli.ir.targets.float32 import SIGNIFICAND

FLOAT32 = SIGNIFICAND.bits  # bits of a significand: what frameworks add without rounding
_EXTREME = Fraction(1 << 64)


class Reading(enum.Enum):
    """Whose discretisation a file is written for.

    EULER: forward Euler in exact arithmetic, v > v_threshold, hard reset: what lapilli writes.
    SNNTORCH: Leaky, Synaptic. NORSE: LIFBoxCell, LIFCell, IAFCell. SPIKINGJELLY: IFNode,
    LIFNode, ParametricLIFNode, CUBALIFNode. SINABS: IAF with spike_fn=SingleSpike.
    """

    EULER = "euler"
    SNNTORCH = "snntorch"
    NORSE = "norse"
    SPIKINGJELLY = "spikingjelly"
    SINABS = "sinabs"

    @property
    def rounds(self) -> bool:
        """Whether it is run in float32, so that sums must fit its 24 bits."""
        return self is not Reading.EULER

    @property
    def drops_reset(self) -> bool:
        """Whether its exporter writes a hard reset, whatever the neuron does."""
        return self in (Reading.SNNTORCH, Reading.NORSE, Reading.SINABS)


@dataclass(frozen=True, slots=True, eq=False)
class Dynamics:
    """What a spiking node computes.

    From v = rest and i = 0, at each step::

        i <- current_keeps * i + x
        h <- rest + keeps * (v - rest) + gain * i
        s <- h >= threshold                      strict: >
        v <- rest | h - reset_by                 where s is not 0

    threshold holds one number, or one for each neuron.
    """

    keeps: Fraction
    current_keeps: Fraction
    gain: Fraction
    threshold: Floats
    strict: bool
    reset: ops.Reset
    reset_by: Fraction = Fraction(0)
    rest: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Integration:
    """What a node computes that shows its membrane: `Dynamics` without a threshold, from 0."""

    keeps: Fraction
    current_keeps: Fraction
    gain: Fraction


def integration(
    node: NirNode, reading: Reading, dt: Fraction, *, exact: bool = True
) -> Integration:
    """Read an I, LI or CubaLI node.

    Args:
        node: of one of these types.
        reading: whose file it is.
        dt: seconds; a step.
        exact: as `dynamics`.

    Raises:
        MalformedError: the fields say nothing certain under this reading.
    """
    if reading is Reading.SINABS:
        raise MalformedError("sinabs decays by exp(-1 / tau), which no integer neuron is exactly")
    if reading is not Reading.EULER and (reading, node.type) != (Reading.NORSE, "LI"):
        raise MalformedError(
            f"is a {node.type}, which no exporter of {reading.value} writes: nothing says what a "
            "step of it does"
        )
    leak, gain = _leak_and_gain(node, reading, dt, exact=exact)
    current_leak = Fraction(1)
    if node.type == "CubaLI":
        current_leak = _rate(node, "tau_syn", reading, dt, exact=exact)
    if "v_leak" in node.arrays and (rest := _one(node, "v_leak")):
        raise MalformedError(f"v_leak {float(rest):g}: a membrane that is read must rest at 0")
    return Integration(1 - leak, 1 - current_leak, gain)


def dynamics(
    node: NirNode,
    reading: Reading,
    dt: Fraction,
    reset: ops.Reset | None,
    *,
    exact: bool = True,
) -> Dynamics:
    """Read an IF, LIF or CubaLIF node.

    Args:
        node: of one of these types.
        reading: whose file it is.
        dt: seconds; a step.
        reset: as stated, where the file does not say it.
        exact: whether decays must be multiples of 1/4096 and gains powers of two; a model that is
            quantized later needs neither.

    Raises:
        MalformedError: the fields say nothing certain under this reading.
    """
    if reading is Reading.SINABS and node.type != "IF":
        raise MalformedError("sinabs decays by exp(-1 / tau), which no integer neuron is exactly")
    leak, gain = _leak_and_gain(node, reading, dt, exact=exact)
    current_leak = Fraction(1)
    if node.type == "CubaLIF":
        current_leak = _rate(node, "tau_syn", reading, dt, exact=exact)
    v_reset = _one(node, "v_reset")
    rest = _one(node, "v_leak") if "v_leak" in node.arrays else v_reset
    if v_reset != rest or (rest and (reading is not Reading.SPIKINGJELLY or current_leak != 1)):
        raise MalformedError(
            f"v_leak {float(rest):g}, v_reset {float(v_reset):g}: only SpikingJelly's neurons "
            "rest where they start, and only where both are equal; elsewhere both must be 0"
        )
    threshold = node.arrays["v_threshold"].astype(np.float64)
    if not reading.drops_reset:
        if reset not in (None, ops.Reset.TO_ZERO):
            raise MalformedError(f"a file of {reading.value} has hard resets, not {reset.value!r}")
        reset = ops.Reset.TO_ZERO
    if reset is None:
        raise MalformedError(
            f"the exporter of {reading.value} does not write how its neurons are reset: state it"
        )
    if (reading, reset, node.type) == (Reading.SNNTORCH, ops.Reset.TO_ZERO, "CubaLIF"):
        raise MalformedError("a Synaptic that is reset to zero drops the input of the next step")
    by = Fraction(0)
    if reset is ops.Reset.BY_SUBTRACTION:
        by = _one(node, "v_threshold")
        if reading is Reading.SNNTORCH:  # subtracts in the next step, after the decay
            if leak == 1:
                raise MalformedError(
                    "beta 0 and a delayed soft reset: it is no reset of a membrane"
                )
            by /= 1 - leak
    strict = reading not in (Reading.SPIKINGJELLY, Reading.SINABS)
    return Dynamics(1 - leak, 1 - current_leak, gain, threshold, strict, reset, by, rest)


def _leak_and_gain(
    node: NirNode, reading: Reading, dt: Fraction, *, exact: bool
) -> tuple[Fraction, Fraction]:
    if node.type in ("I", "IF"):
        r = _one(node, "r")
        if reading in (Reading.NORSE, Reading.SINABS):  # write r = 1 and ignore it
            if r != 1:
                raise MalformedError(f"r is {float(r):g}; {reading.value} writes 1")
            return Fraction(0), Fraction(1)
        return Fraction(0), _gain(r * dt, node.arrays["r"], exact=exact)
    name = "tau" if node.type in ("LI", "LIF") else "tau_mem"
    leak = _rate(node, name, reading, dt, exact=exact)
    r = _one(node, "r")
    if reading is Reading.NORSE:
        if r != 1 or (node.type == "CubaLIF" and _one(node, "w_in") != 1):
            raise MalformedError("norse writes r = 1 and w_in = 1")
        return leak, _gain(leak, node.arrays["r"], exact=exact)
    gain = r * dt / _one(node, name)
    fields = [node.arrays["r"], node.arrays[name]]
    if node.type in ("CubaLI", "CubaLIF"):
        gain *= _one(node, "w_in") * dt / _one(node, "tau_syn")
        fields += [node.field("w_in"), node.arrays["tau_syn"]]
    return leak, _gain(gain, *fields, exact=exact)


def _rate(node: NirNode, name: str, reading: Reading, dt: Fraction, *, exact: bool) -> Fraction:
    """What one step of a time constant takes away, as a multiple of 1/4096 where it is one."""
    rate = dt / _one(node, name)
    if not 1 / _EXTREME < rate < _EXTREME:
        raise MalformedError(f"{name} is out of all proportion to a step of {float(dt):g} s")
    if reading is Reading.NORSE:  # writes dt / tau_mem_inv, and steps by dt * tau_mem_inv
        inverse = np.float32(float(rate))
        rate = Fraction(float(np.float32(float(dt)) * inverse))
    if reading is Reading.EULER and rate == Fraction(1, 1 << 30):
        return Fraction(0)  # the portable flavour's way to write a membrane without a leak
    units = rate * ops.DECAY_ONE
    off = abs(units - round(units)) > units * rounding([node.arrays[name]])
    if off and not exact and units < ops.DECAY_ONE:
        return rate
    if off or units > ops.DECAY_ONE:
        raise MalformedError(
            f"{name} takes {float(rate):.9g} of its state in a step of {float(dt):g} s; it must "
            f"be a multiple of 1/{ops.DECAY_ONE}, at most 1"
        )
    return Fraction(round(units), ops.DECAY_ONE)


def _gain(gain: Fraction, *fields: Floats, exact: bool) -> Fraction:
    """The input's gain, freed of the rounding of the fields that it was written as."""
    if not 1 / _EXTREME < abs(gain) < _EXTREME:
        raise MalformedError("multiplies its input by 0, or by more than any network would")
    if gain > 0:
        nearest = Fraction(2) ** round(math.log2(gain))
        if abs(gain - nearest) <= gain * rounding(fields):
            return nearest
        if not exact:
            return gain
    raise MalformedError(f"multiplies its input by {float(gain):.9g}; only powers of two are exact")


def rounding(fields: Iterable[Floats]) -> Fraction:
    """Return how far, of itself, a quotient of such floats is from what they were made from."""
    kinds = [f.dtype if f.dtype.kind == "f" else np.dtype(np.float64) for f in fields]
    return max(4 * len(kinds) * Fraction(float(np.finfo(k).eps)) for k in kinds)


def _one(node: NirNode, field: str) -> Fraction:
    """The one value of a field, which may be written once or for each neuron."""
    values = np.unique(node.field(field))
    if len(values) > 1:
        raise MalformedError(f"{field} differs between its neurons; a node of a graph has one")
    return Fraction(values[0].item())
