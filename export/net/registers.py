"""What the synapses and neurons that netx makes can hold, as lava-nc 0.10.0 runs them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lapilli.ir import ops
from lapilli.ir.bounds import NeuronBounds, neuron_bounds
from lapilli.ir.loihi import TIE, state_fault, with_fraction_bits
from lapilli.ir.targets.loihi1 import BIAS, THRESHOLD
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import IntRange, Kind, TensorType

_MOST_VTH = THRESHOLD.largest // TIE
_MOST_BIAS = BIAS.largest
_MOST_MOVED = 7  # bits of which a weight of 1 takes 8


def weight_fault(weight: IntArray) -> str | None:
    """Why a synapse would hold other weights; None if it holds these.

    A synapse has 8 bits: mixed signs in [-128, 127], or even in [-256, 254]; one sign up to 255.
    netx shifts small weights up and divides again by `weight_exp`, which is exact.
    """
    lo, hi = int(weight.min()), int(weight.max())
    if lo == hi == 0:
        return "weights that are all 0, by the largest of which netx divides"
    if lo >= -128 and hi <= 127:
        return None
    if lo >= 0 and hi <= 255:
        return None
    if lo >= -256 and hi <= 254 and lo < 0 < hi and not np.any(weight & 1):
        return None
    return f"weights in [{lo}, {hi}]; 8 bits hold [-128, 127], of one sign 255, even ones 254"


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A layer as netx holds it, and why it cannot; `faults` is empty if it can."""

    weight: IntArray
    bias: IntArray
    op: ops.Neuron
    faults: tuple[str, ...]


def held(op: ops.Neuron, T: int, x: TensorType, weight: IntArray, bias: IntArray) -> Held:
    """The layer with Loihi's 6 fraction bits, what it needs beyond them moved into its weights.

    Args:
        op: the neuron.
        T: steps of a sample.
        x: what its synapses give.
        weight: of its synapses.
        bias: of its synapses.
    """
    found = [
        _moved(own, more, T, x, weight, bias)
        for more in range(_MOST_MOVED + 1)
        if (own := with_fraction_bits(op, T, ops.LOIHI_FRACTION_BITS + more)) is not None
    ]
    if fits := next((h for h in found if not h.faults), None):
        return fits
    if with_fraction_bits(op, T, ops.LOIHI_FRACTION_BITS) is not None:
        return found[0]
    asis = neuron_faults(op, neuron_bounds("", op, x, T), bias)
    moved = found[0].faults if found else ()
    return Held(weight, bias, op, tuple(dict.fromkeys((*asis, *moved))))


def _moved(
    op: ops.Neuron, more: int, T: int, x: TensorType, weight: IntArray, bias: IntArray
) -> Held:
    """The same state, whose input comes `more` bits larger from the synapses."""
    own, bias = replace(op, fraction_bits=ops.LOIHI_FRACTION_BITS), bias << more
    channels = None if x.channels is None else x.channels.shifted(more)
    given = TensorType(x.shape, x.range.shifted(more), Kind.GRADED, channels)
    faults = list(neuron_faults(own, neuron_bounds("", own, given, T), bias))
    if fault := weight_fault(weight << more):
        moved = (
            f"; {more} fraction bits beyond Loihi's {ops.LOIHI_FRACTION_BITS} are in them, so that "
            f"weights of {9 - more} bits would fit"
        )
        faults.insert(0, fault + moved * (more > 0))
    return Held(weight << more, bias, own, tuple(faults))


def neuron_faults(
    op: ops.Neuron, bounds: NeuronBounds, bias: IntArray, *, whole: bool = False
) -> tuple[str, ...]:
    """Why a CUBA neuron of netx cannot be this one; empty if it can.

    Args:
        op: the neuron.
        bounds: proven of it.
        bias: of its synapses, in synaptic units.
        whole: it is an input layer, whose current is given as its bias.
    """
    faults = []
    if op.threshold.array.size != 1:
        faults.append("one threshold per neuron; a layer has one `vThMant`")
    elif (theta := int(op.threshold.array.ravel()[0])) % TIE != 1 or theta // TIE > _MOST_VTH:
        faults.append(f"threshold {theta} is not 64 * vThMant + 1 with vThMant up to {_MOST_VTH}")
    if op.ternary:
        faults.append("fires both ways")
    if op.reset is not ops.Reset.TO_ZERO:
        faults.append("a spike must set the membrane to zero")
    if not 1 <= op.du <= ops.DECAY_ONE or op.dv >= ops.DECAY_ONE:
        faults.append(f"decays {op.du} and {op.dv}; iDecay is 1 to 4096, vDecay 0 to 4095")
    if op.fraction_bits != ops.LOIHI_FRACTION_BITS:
        faults.append(f"{op.fraction_bits} fraction bits; Loihi shifts its input by 6")
    if np.any(op.bias.array % TIE):
        faults.append("a bias that is no multiple of 64; `bias_exp` in netx is 6")
    given = max(bounds.current.hi, -bounds.current.lo - 1)  # of 13 bits in two's complement
    most = given if whole else int(np.abs(bias).max())
    if most + op.bias.range.magnitude // TIE > _MOST_BIAS:
        faults.append(f"a bias beyond {_MOST_BIAS}, which are {BIAS.bits} bits")
    if op.du != ops.DECAY_ONE and (whole or np.any(bias)):
        faults.append("a constant in a current that decays; a bias in netx drives the membrane")
    if whole and np.any(op.bias.array):
        faults.append("a bias beside the input, which netx gives as the bias")
    if fault := state_fault(bounds):
        faults.append(fault)
    return tuple(faults)


def readout_faults(proven: IntRange, bias: IntArray) -> tuple[str, ...]:
    """Why a neuron that never fires cannot be this sum over time; empty if it can."""
    faults = []
    if proven.magnitude > _MOST_VTH:
        faults.append(f"sums in [{proven.lo}, {proven.hi}]; a membrane holds {_MOST_VTH}")
    if int(np.abs(bias).max()) > _MOST_BIAS:
        faults.append(f"a bias beyond {_MOST_BIAS}, which are {BIAS.bits} bits")
    return tuple(faults)


def bias_mantissa(op: ops.Op, bias: IntArray, shape: tuple[int, ...]) -> IntArray:
    """`bias_mant` of each neuron or channel: what its synapses and itself add at each step."""
    own = op.bias.array >> ops.LOIHI_FRACTION_BITS if isinstance(op, ops.Neuron) else np.int64(0)
    return np.asarray(bias.reshape(shape) + np.broadcast_to(own, shape), np.int64)
