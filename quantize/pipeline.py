"""`quantize`: a trained module and calibration images in, a network and its reference out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from lapilli.ir.bounds import NeuronBounds
from lapilli.ir.certificate import certify
from lapilli.ir.errors import QuantizeError
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.passes.wiring import fuse_wiring
from lapilli.ir.types import IntRange, Kind, TensorType
from lapilli.model.capture.capture import capture
from lapilli.model.capture.probe import probe_all
from lapilli.model.capture.signature import Signature
from lapilli.model.neurons.adapters import Description, describe
from lapilli.quantize.fit import fit
from lapilli.quantize.merging.merge import merge
from lapilli.quantize.plan import plan
from lapilli.quantize.pytorch.agreement import check_agreement
from lapilli.quantize.pytorch.reference import PyTorchReference
from lapilli.quantize.pytorch.runnable import runnable
from lapilli.quantize.shiftmax import set_shiftmaxes


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """The result of `quantize`.

    Attributes:
        network: what is deployed; saved by `export.file.save_network`.
        reference: the author's module with the same integers, to compare with.
        bounds: what was proved of each neuron's state.
        notes: sentences about everything that is not the author's module bit for bit.
        signature: how the author's module is called.
    """

    network: Network
    reference: PyTorchReference
    bounds: tuple[NeuronBounds, ...]
    notes: tuple[str, ...]
    signature: Signature


def quantize(
    model: nn.Module,
    calibration: Tensor,
    *,
    weight_bits: int = 8,
    input_bits: int = 8,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    neurons: Mapping[str, Description] | None = None,
    layout: str = "BCHW",
    counts: bool = False,
    output: int | str | None = None,
    per_sample: bool = False,
) -> Quantized:
    """Turn a trained spiking transformer into integers.

    Args:
        model: in evaluation mode; it is captured untouched and never changed. Of one on a
            GPU, a copy on the CPU is.
        calibration: normalised *training* images (count, C, H, W), to choose the input scale;
            (count, T, C, H, W) for a layout with time.
        weight_bits: 2 to 8, sign included.
        input_bits: of a quantized pixel, sign included.
        mean: with which the images were normalised (of pixel / 255), one per channel, so
            that the network can take raw images.
        std: likewise.
        classes: names of the answers.
        neurons: what your own neuron classes do, by "package.module.Class": a `NeuronRule`,
            or a function that reads one off an instance. Each is probed before it is believed.
        layout: of the images that the module's forward takes: BCHW, BTCHW or TBCHW.
        counts: the images are numbers of events (of an event camera), not pixels; they stay
            what they are, up to the largest in `calibration`.
        output: which of the module's results holds the logits; the first by default.
        per_sample: where neurons let state leak from sample to sample, take what they do with
            batches of one.

    Returns:
        The integer network and the PyTorch reference that it must equal.

    Raises:
        CaptureError: the module cannot be captured, or a neuron is not what its rule says.
        QuantizeError: a layer has no integer form.
        RangeError: a state does not fit 24 bits even with 2-bit weights.
    """
    if calibration.ndim != len(layout) or not len(calibration):
        axes = ", ".join(["count", *("T" if "T" in layout else ""), "C", "H", "W"])
        raise QuantizeError("image", f"calibration must be ({axes}), got {calibration.shape}")
    if not 2 <= weight_bits <= 8 or not 2 <= input_bits <= 16:
        raise QuantizeError("image", "weights take 2 to 8 bits, the input 2 to 16")
    calibration = calibration.cpu()
    channels = calibration.shape[-3]
    source = (
        _event_quantizer(calibration, mean, std)
        if counts
        else _input_quantizer(
            calibration, input_bits, mean or [0.0] * channels, std or [1.0] * channels
        )
    )
    image_scale = Fraction(1, 2) ** source.exponent
    known = describe(model, neurons) if neurons else model
    shape = tuple(calibration.shape[1:])
    captured = capture(known, shape, layout=layout, output=output, per_sample=per_sample)
    probe_all(captured)
    merged = merge(captured)
    made_plan = plan(merged, image_scale)
    kind = Kind.COUNTS if counts else Kind.GRADED
    image = TensorType(shape[-3:], IntRange(source.lo, source.hi), kind)
    fitted = fit(merged, made_plan, image, weight_bits)
    lowered = fitted.lowered
    graph = fuse_wiring(lowered.graph)
    answers = graph.types[graph.outputs[0]].shape[-1]
    names = tuple(classes or map(str, range(answers)))
    if len(names) != answers:
        raise QuantizeError(graph.outputs[0], f"{len(names)} class names for {answers} logits")
    network = Network(graph=graph, input=source, logit_scale=lowered.logit_scale, classes=names)
    runs = runnable(merged, made_plan, fitted.units, lowered.neurons)
    set_shiftmaxes(runs.module, lowered.shiftmaxes)
    if runs.why:
        check_agreement(captured)
    reference = PyTorchReference(
        runs.module, image_scale, lowered.neurons, lowered.logit_scale, runs.signature
    )
    notes = [*merged.notes, *runs.why, *fitted.notes]
    notes += [f"{n}: {i.note}" for n, (_, i) in lowered.neurons.items() if i.note]
    notes += [f"{path}: {integers.note}" for path, integers in lowered.shiftmaxes.items()]
    return Quantized(network, reference, certify(graph), tuple(notes), captured.signature)


def _event_quantizer(
    calibration: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
) -> InputQuantizer:
    """Q is the number of events: 0 to the largest seen."""
    if mean is not None or std is not None:
        raise QuantizeError("image", "numbers of events are not normalised; leave mean and std out")
    most = float(calibration.max())
    whole = torch.equal(calibration, calibration.round()) and float(calibration.min()) >= 0
    if not whole or not 0 < most < 256:
        raise QuantizeError("image", "numbers of events must be whole, from 0 to 255")
    channels = calibration.shape[-3]
    return InputQuantizer(
        mean=(Fraction(0),) * channels,
        std=(Fraction(1, 255),) * channels,  # undoes the division of a byte by 255
        exponent=0,
        lo=0,
        hi=int(most),
    )


def _input_quantizer(
    calibration: Tensor, bits: int, mean: Sequence[float], std: Sequence[float]
) -> InputQuantizer:
    """The finest power of two that holds the largest calibration pixel."""
    largest = float(calibration.abs().max())
    if not np.isfinite(largest) or largest == 0:
        raise QuantizeError("image", f"calibration images reach {largest}; are they images?")
    channels = calibration.shape[-3]
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
