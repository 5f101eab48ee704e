"""`quantize`: a trained module and calibration images in, a network and its reference out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from torch import Tensor, nn

from lapilli.ir.certificate import NeuronBounds, certify, check_registers
from lapilli.ir.errors import QuantizeError, RangeError
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.passes.wiring import fuse_wiring
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.model.capture import capture
from lapilli.model.program import Captured
from lapilli.quantize.lower import Lowered, lower
from lapilli.quantize.neurons import can_be_coarse
from lapilli.quantize.plan import Plan, plan
from lapilli.quantize.reference import PyTorchReference, quantized_module
from lapilli.quantize.weights import IntegerUnit, fold, round_units


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """The result of `quantize`.

    Attributes:
        network: what is deployed; saved by `export.file.save_network`.
        reference: the author's module with the same integers, to compare with.
        bounds: what was proved of each neuron's state.
        notes: sentences about everything that is not the author's module bit for bit.
    """

    network: Network
    reference: PyTorchReference
    bounds: tuple[NeuronBounds, ...]
    notes: tuple[str, ...]


def quantize(
    model: nn.Module,
    calibration: Tensor,
    *,
    weight_bits: int = 8,
    input_bits: int = 8,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
) -> Quantized:
    """Turn a trained spiking transformer into integers.

    Args:
        model: in evaluation mode; it is captured untouched and never changed.
        calibration: normalised *training* images (count, C, H, W), to choose the input scale.
        weight_bits: 2 to 8, sign included.
        input_bits: of a quantized pixel, sign included.
        mean: with which the images were normalised (of pixel / 255), one per channel, so
            that the network can take raw images.
        std: likewise.
        classes: names of the answers.

    Returns:
        The integer network and the PyTorch reference that it must equal.

    Raises:
        CaptureError: the module cannot be captured.
        QuantizeError: a layer has no integer form.
        RangeError: a state does not fit 24 bits even with 2-bit weights.
    """
    if calibration.ndim != 4 or not len(calibration):
        raise QuantizeError(
            "image", f"calibration must be (count, C, H, W), got {calibration.shape}"
        )
    if not 2 <= weight_bits <= 8 or not 2 <= input_bits <= 16:
        raise QuantizeError("image", "weights take 2 to 8 bits, the input 2 to 16")
    channels = calibration.shape[1]
    source = _input_quantizer(
        calibration, input_bits, mean or [0.0] * channels, std or [1.0] * channels
    )
    image_scale = Fraction(1, 2) ** source.exponent
    captured = capture(model, tuple(calibration.shape[1:]))
    made_plan = plan(captured, image_scale)
    image = TensorType(tuple(calibration.shape[1:]), IntRange(source.lo, source.hi), Kind.GRADED)
    units, lowered = _fit(captured, made_plan, image, weight_bits)
    graph = fuse_wiring(lowered.graph)
    answers = graph.types[graph.outputs[0]].shape[-1]
    names = tuple(classes or map(str, range(answers)))
    if len(names) != answers:
        raise QuantizeError(graph.outputs[0], f"{len(names)} class names for {answers} logits")
    network = Network(graph=graph, input=source, logit_scale=lowered.logit_scale, classes=names)
    module = quantized_module(captured, made_plan, units, lowered.neurons)
    reference = PyTorchReference(module, image_scale, lowered.neurons, lowered.logit_scale)
    notes = tuple(f"{n}: {i.note}" for n, (_, i) in lowered.neurons.items() if i.note)
    return Quantized(network, reference, certify(graph), notes)


def _input_quantizer(
    calibration: Tensor, bits: int, mean: Sequence[float], std: Sequence[float]
) -> InputQuantizer:
    """The finest power of two that holds the largest calibration pixel."""
    largest = float(calibration.abs().max())
    if not np.isfinite(largest) or largest == 0:
        raise QuantizeError("image", f"calibration images reach {largest}; are they images?")
    channels = calibration.shape[1]
    if not (len(mean) == len(std) == channels and min(std) > 0):
        raise QuantizeError("image", f"needs one mean and one positive std for {channels} channels")
    top = (1 << (bits - 1)) - 1
    exponent = int(np.floor(np.log2(top / largest)))
    return InputQuantizer(
        mean=tuple(Fraction(str(m)) for m in mean),
        std=tuple(Fraction(str(s)) for s in std),
        exponent=exponent,
        lo=-top,
        hi=top,
    )


def _fit(
    captured: Captured, made_plan: Plan, image: TensorType, weight_bits: int
) -> tuple[Mapping[str, IntegerUnit], Lowered]:
    """Make every state fit its register: first a coarser state, then fewer weight bits."""
    folded = {name: fold(captured, unit) for name, unit in made_plan.units.items()}
    given_up: dict[str, int] = {}
    coarse: frozenset[str] = frozenset()
    while True:
        units = round_units(made_plan, folded, weight_bits, given_up)
        lowered = lower(captured, units, image, coarse)
        try:
            check_registers(lowered.graph)
        except RangeError as error:
            call, neuron = lowered.neurons[error.node]
            groups = {made_plan.groups[u] for u in made_plan.feeds[call.name]}
            if can_be_coarse(neuron):
                coarse |= {call.name}
                continue
            if not groups or any(weight_bits - given_up.get(g, 0) <= 2 for g in groups):
                raise
            for group in groups:
                given_up[group] = given_up.get(group, 0) + 1
        else:
            return units, lowered
