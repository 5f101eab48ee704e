"""`quantize`: a trained module and calibration images in, a network and its reference out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn
from typing_extensions import Unpack

from lapilli.ir.answers import Answer
from lapilli.ir.bounds import NeuronBounds
from lapilli.ir.certificate import certify, summary
from lapilli.ir.encoding import Encoding
from lapilli.ir.errors import QuantizeError
from lapilli.ir.network import InputQuantizer, Network
from lapilli.ir.passes.wiring import fuse_wiring
from lapilli.ir.recipe import Note, NoteKind
from lapilli.ir.targets.table import NAMES, named
from lapilli.ir.types import TensorType
from lapilli.model.capture.signature import Signature
from lapilli.quantize.calibration import calibration_notes, check_calibration
from lapilli.quantize.encoded import encoded
from lapilli.quantize.fit import Fitted, Scaling, fit
from lapilli.quantize.health import Health, chosen_images, examine, examine_weights
from lapilli.quantize.image_scale import image_scale, image_type, input_quantizer
from lapilli.quantize.image_statistics import image_statistics
from lapilli.quantize.kept_memory import give_back, memory_kept
from lapilli.quantize.lower import Lowered
from lapilli.quantize.options import (
    QuantizeOptions,
    by_currents,
    by_rates,
    channels_together,
    check_layers,
    check_options,
    layout_of,
    weight_bits,
)
from lapilli.quantize.plan import Plan
from lapilli.quantize.preparation import Prepared, prepare
from lapilli.quantize.pytorch.assembly import assemble
from lapilli.quantize.pytorch.reference import PyTorchReference
from lapilli.quantize.pytorch.runnable import reasons
from lapilli.quantize.recipe import recipe
from lapilli.quantize.reconstruction.layers import layer_by_layer
from lapilli.quantize.reconstruction.rounding import rounding_of
from lapilli.quantize.several_inputs import joined
from lapilli.quantize.token_ids import spread_out
from lapilli.quantize.trials import Trials, least_mismatch
from lapilli.quantize.weight_steps import given_steps
from lapilli.quantize.weights import largest_fits, least_squares

_EXAMINED = 16  # images of the calibration on which float and integers are compared


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """The result of `quantize`.

    Attributes:
        network: what is deployed; saved by `export.native.save_network`. It holds its recipe.
        reference: the author's module with the same integers, to compare with.
        bounds: what was proved of each neuron's state.
        notes: everything that is not the author's module bit for bit, and warnings.
        health: what rounding lost, and how often each neuron fires, in float and in integers.
        signature: how the author's module is called.
    """

    network: Network
    reference: PyTorchReference
    bounds: tuple[NeuronBounds, ...]
    notes: tuple[Note, ...]
    health: Health
    signature: Signature


@memory_kept()
def quantize(
    model: nn.Module,
    calibration: Tensor | Mapping[str, Tensor],
    *,
    examined: int = _EXAMINED,
    warn: Callable[[Note], None] | None = None,
    **options: Unpack[QuantizeOptions],
) -> Quantized:
    """Turn a trained spiking transformer into integers.

    Args:
        model: in evaluation mode; it is captured untouched and never changed. Of one on a
            GPU, a copy on the CPU is.
        calibration: normalised *training* images (count, C, H, W), to choose the input scale;
            (count, T, C, H, W) for a layout with time; numbers of the shape that another layout
            says; bytes (count, C, H, W) where `encoding` makes the steps of them. Several inputs
            by the names that the module's forward gives them, with a layout for each.
        examined: on how many of them float and integers are compared, for warnings.
        warn: called with what speaks against the calibration, before anything takes time; it is
            among the notes, too.
        options: see `QuantizeOptions`.

    Returns:
        The integer network and the PyTorch reference that it must equal.

    Raises:
        CaptureError: the module cannot be captured, or a neuron is not what its rule says.
        QuantizeError: a layer has no integer form.
        RangeError: a number does not fit the target's registers, whatever is given up.
    """
    model, one, options, parts = joined(model, calibration, options)
    one, options = spread_out(one, options)
    calibration, encoding = encoded(one, options)
    begun = begin(model, calibration, options, warn, encoding)
    source, prepared = begun.source, begun.prepared
    calibration = calibration.cpu()
    images = calibration[list(chosen_images(len(calibration), examined))]
    unlike = image_statistics(prepared.captured, images)
    _tell(unlike, warn)
    scaling = scaling_of(options, prepared.plan)
    target = scaling.target
    bits = weight_bits(options, {name: unit.path for name, unit in prepared.plan.units.items()})
    if options.get("weight_scale") == "spikes":
        scaling = least_mismatch(Trials(prepared, source, begun.image, calibration), bits, scaling)
    fitted = fit(prepared.merged, prepared.plan, begun.image, bits, scaling)
    currents, rates = by_currents(options), by_rates(options)
    if currents or rates:
        prepared, fitted = layer_by_layer(
            prepared,
            source,
            calibration,
            fitted,
            lambda merged, start: fit(
                merged, begun.prepared.plan, begun.image, bits, scaling, start
            ),
            weights=currents,
            rates=rates,
        )
    graph = fuse_wiring(fitted.lowered.graph)
    why = reasons(prepared.merged, prepared.plan, fitted.units)
    weights = examine_weights(prepared.plan, fitted)
    rounding = rounding_of(fitted.folded, fitted.units) if currents else None
    if why:  # what follows needs the integers alone, and memory
        prepared, fitted = prepared.without_weights(), replace(fitted, folded={})
        begun = replace(begun, prepared=prepared)
        give_back()
    program = bool(why)
    reference = assemble(prepared, fitted.units, fitted.lowered, graph, source, program=program)
    health = examine(prepared, fitted.lowered, weights, reference, source, calibration, examined)
    notes = (
        *begun.notes,
        *unlike,
        *health.notes,
        *_notes(prepared, fitted, why),
    )
    lowered = fitted.lowered
    made = replace(
        recipe(prepared.captured, prepared.plan, fitted.units, lowered, options, notes, rounding),
        target=target.name,
        certificate=summary(graph, target),
    )
    network = Network(
        graph=graph,
        input=source,
        logit_scale=lowered.logit_scale,
        classes=(),
        recipe=made,
        answers=lowered.answers if lowered.answers != (Answer(scale=lowered.logit_scale),) else (),
        encoding=encoding,
        parts=parts,
        ids=options.get("ids") or 0,
    )
    network = replace(network, classes=_class_names(network, options))
    return Quantized(network, reference, certify(graph), notes, health, prepared.captured.signature)


def _class_names(network: Network, options: QuantizeOptions) -> tuple[str, ...]:
    """Those that are given, or numbers; none of an answer that tells no classes apart.

    Raises:
        QuantizeError: not as many as the network has logits.
    """
    count = network.class_count
    names = tuple(options.get("classes") or map(str, range(count)))
    if len(names) != count:
        node = network.graph.outputs[0]
        raise QuantizeError(node, f"{len(names)} class names for {count} logits")
    return names


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """What is known before any weight is looked at.

    Attributes:
        source: how images become integers; image: the type of one step of them.
        prepared: the model as a program.
        notes: what speaks against the calibration.
    """

    source: InputQuantizer
    image: TensorType
    prepared: Prepared
    notes: list[Note]


def begin(
    model: nn.Module,
    calibration: Tensor,
    options: QuantizeOptions,
    warn: Callable[[Note], None] | None = None,
    encoding: Encoding | None = None,
) -> Begun:
    """Check what was given, choose the scale of the images and capture the model.

    `encoding` is what the calibration went through.

    Raises:
        CaptureError, QuantizeError: see `quantize`.
    """
    check_options(options)
    check_calibration(calibration, options)
    check_layers(options, (path for path, _ in model.named_modules(remove_duplicate=False)))
    calibration = calibration.cpu()
    source = input_quantizer(calibration, options, encoding)
    notes = calibration_notes(calibration, options)
    _tell(notes, warn)
    sample = tuple(calibration.shape[1:])
    prepared = prepare(model, sample, image_scale(source), options)
    one_step = sample["T" in layout_of(options) :]
    spikes = bool(options.get("ids")) or (encoding is not None and encoding.fires)
    image = image_type(source, one_step, counts=options.get("counts", False), spikes=spikes)
    return Begun(source, image, prepared, notes)


def scaling_of(options: QuantizeOptions, plan: Plan) -> Scaling:
    """How the scales of weights are chosen, before any is tried; or the steps that are given.

    Raises:
        QuantizeError: the steps are not those of the plan's linear maps.
    """
    return Scaling(
        chosen=largest_fits if options.get("weight_scale") == "max" else least_squares,
        together=channels_together(options),
        steps=given_steps(plan, options),
        target=named(options.get("target") or NAMES[0]),
    )


def integers(prepared: Prepared, image: TensorType, options: QuantizeOptions) -> Fitted:
    """Choose the integers of a prepared model by its weights alone; see `fit`."""
    bits = weight_bits(options, {name: unit.path for name, unit in prepared.plan.units.items()})
    return fit(prepared.merged, prepared.plan, image, bits, scaling_of(options, prepared.plan))


def _tell(notes: list[Note], warn: Callable[[Note], None] | None) -> None:
    if warn is not None:
        for note in notes:
            warn(note)


def _notes(prepared: Prepared, fitted: Fitted, why: tuple[Note, ...]) -> tuple[Note, ...]:
    return (
        *prepared.merged.notes,
        *why,
        *fitted.notes,
        *_neuron_notes(fitted.lowered),
        *(Note(NoteKind.SHIFTMAX, path, s.note) for path, s in fitted.lowered.shiftmaxes.items()),
    )


def _neuron_notes(lowered: Lowered) -> list[Note]:
    notes = []
    for name, (_, neuron) in lowered.neurons.items():
        if neuron.note:
            kind = NoteKind.STATE if neuron.v_threshold is None else NoteKind.THRESHOLD
            kind = kind if neuron.exact else NoteKind.INTEGER_NEURON
            notes.append(Note(kind, name, neuron.note))
    return notes
