"""The arguments of `quantize`: listed once, for Python, the command line and the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from numbers import Real
from typing import TypedDict

from lapilli.ir.errors import QuantizeError
from lapilli.ir.recipe import NEAREST, Json
from lapilli.ir.targets.table import NAMES, named
from lapilli.model.neurons.adapters import Description
from lapilli.model.neurons.described import rule_text

LEARNED = "learned"
SCALES = ("mse", "max", "spikes", LEARNED)
RECONSTRUCTION, RATES = "reconstruction", "rates"
ROUNDINGS = (NEAREST, RECONSTRUCTION)
THRESHOLDS = ("trained", RATES)
_LEAST = 2.0**-64  # of a step: beyond, no state holds what it makes
_GROUP = re.compile(r"group:([1-9][0-9]{0,5})")
_NO_LAYER = "is no linear map, nor a module around one, to give bits to"


class QuantizeOptions(TypedDict, total=False):
    """How a model becomes integers. Each key may be left out, or None.

    Attributes:
        weight_bits: 2 to 8, sign included, or to 24 for the targets float32 and wide; 8 by default.
        layer_bits: of single layers, by the path of a linear map or of a module around it.
        weight_scale: which power of two: "mse" (the default), by which the rounded weights lie
            nearest to themselves, "max", the finest that holds the largest, or "spikes": of the
            first and those beside it, layer by layer, the one by which spikes and logits differ
            least from float's on up to 64 images of the calibration: two more runs a layer.
            "learned": those of `weight_steps`; in `finetune`, they learn with the weights.
        weight_steps: with "learned", the real distance between neighbouring weights of each linear
            map, by its path (its second use: PATH#1): one number, or one for each scale of output
            channels. The nearest is taken that `scales` admits.
        scales: "tensor" (the default): one power of two for all weights of a layer; "channel": one
            scale m * 2**-e for each output channel, or "group:N" for N neighbours of them, wherever
            the neurons behind can hold a threshold for each.
        rounding: "nearest" (the default): each weight for itself; "reconstruction": the weights of
            a layer together, one layer after the other, so that on the calibration its currents
            stay nearest to float's.
        thresholds: "trained" (the default), or "rates": a layer's one threshold moves until it
            fires as often as in float on the calibration.
        input_bits: of a quantized pixel, sign included, 2 to 16, or to 24 for the target wide; 8 by
            default.
        target: what must hold every number, by name (`ir.targets`). "lava" (the default): neurons
            may have any state of 24 bits. "stock": only states that Loihi's stock neurons and
            portable NIR have, as long as floats follow them; where one does not fit, the weights
            in front of it give up bits. All weights of a residual stream are then bytes in one
            unit. "loihi1", "loihi2", "float32", "wide": docs/targets.md.
        mean: with which the images were normalised (of pixel / 255), one per channel, so that
            the network can take raw images; 0 by default.
        std: likewise; 1 by default.
        classes: names of the answers, in the order of the logits; their numbers by default.
        neurons: what your own neuron classes do, by "package.module.Class" or the end of it: a
            `NeuronRule` or `GeneralRule`, or a function that reads one off an instance. Each is
            probed before it is believed.
        layout: of what the module's forward takes, a letter for each axis: B for samples, T for
            time, any others: BCHW (the default), BTCHW, TBNC, BTF. What is not CHW is no image, and
            its numbers are taken as they are. Of several inputs one for each, by name.
        encoding: what the host makes of an image for each time step, such as "rate:T=4,seed=0" or
            "rows": see `lapilli.ir.encoding`. The calibration is then bytes (count, C, H, W), and
            the layout that of what the module is given. None: the same at every step.
        ids: the input are token ids, whole numbers from 0 to below this; the module looks them up
            in an embedding. `layout` is that of the ids: BN, TBN.
        counts: the images are numbers of events (of an event camera), not pixels; they stay what
            they are, up to the largest of the calibration.
        result: which of the module's results holds the logits, by index or key; the first that
            looks so by default. Several, or "*" for all: each is an answer.
        over_time: what an answer takes of time steps that the module returns: mean (the default),
            sum, last, steps (all of them, as they are) or last:K (the mean of the last K); one for
            all results, or by name.
        per_sample: where neurons let state leak from sample to sample, take what they do with
            batches of one.
    """

    weight_bits: int
    layer_bits: Mapping[str, int] | None
    weight_scale: str | None
    weight_steps: Mapping[str, Sequence[float]] | None
    scales: str | None
    rounding: str | None
    thresholds: str | None
    input_bits: int
    target: str | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    classes: Sequence[str] | None
    neurons: Mapping[str, Description] | None
    layout: str | Mapping[str, str]
    encoding: str | None
    ids: int | None
    counts: bool
    result: int | str | Sequence[int | str] | None
    over_time: str | Mapping[str, str]
    per_sample: bool


def check_options(options: Mapping[str, object]) -> None:
    """Refuse what no option is called, and numbers and names that make no sense.

    Raises:
        TypeError: an argument that `quantize` does not have.
        QuantizeError: bits out of range, or an unknown target, scale, rounding or threshold.
    """
    if odd := sorted(options.keys() - QuantizeOptions.__annotations__.keys()):
        raise TypeError(f"quantize has no argument {odd[0]!r}")
    single = options.get("layer_bits") or {}
    if not isinstance(single, Mapping) or not all(isinstance(path, str) for path in single):
        raise QuantizeError("image", "layer_bits takes paths and their bits")
    for name, known in (
        ("target", NAMES),
        ("weight_scale", SCALES),
        ("rounding", ROUNDINGS),
        ("thresholds", THRESHOLDS),
    ):
        if (value := options.get(name) or known[0]) not in known:
            raise QuantizeError("image", f"there is no {name} {value!r}: {' or '.join(known)}")
    for name in ("mean", "std"):
        if (value := options.get(name)) is not None and not _one_each(value):
            text = f"{name} takes a list of numbers, one for each channel, as ({_one(value)},)"
            raise QuantizeError("image", f"{text}, not {value!r}")
    _check_steps(options)
    target = named(str(options.get("target") or NAMES[0]))
    weights = [options.get("weight_bits", 8), *single.values()]
    pixels = [options.get("input_bits", 8)]
    for asked, most in ((weights, target.weight_bits), (pixels, target.input_bits)):
        if unfit := [b for b in asked if not isinstance(b, int) or not 2 <= b <= most]:
            raise QuantizeError(
                "image",
                f"for {target.name}, weights take 2 to {target.weight_bits} bits, the input 2 to "
                f"{target.input_bits}, not {unfit[0]!r}; more take the target wide",
            )
    if channels_together(options) and target.stock:
        text = "stock neurons have one threshold for all channels: take scales 'tensor'"
        raise QuantizeError("image", text)


def _one_each(value: object) -> bool:
    return isinstance(value, Sequence) and all(isinstance(number, Real) for number in value)


def _one(value: object) -> object:
    return value if isinstance(value, Real) else 0.5


def learns_scales(options: Mapping[str, object]) -> bool:
    """Whether scales of weights are given, or learn."""
    return options.get("weight_scale") == LEARNED


def _check_steps(options: Mapping[str, object]) -> None:
    """Refuse steps that nobody asked for, and what can be none.

    Raises:
        QuantizeError: see above.
    """
    steps = options.get("weight_steps")
    if steps is None:
        return
    if not learns_scales(options):
        raise QuantizeError("image", f"weight_steps are those of weight_scale {LEARNED!r}")
    if not isinstance(steps, Mapping) or not steps:
        raise QuantizeError("image", "weight_steps takes paths and numbers")
    for path, each in steps.items():
        some = list(each) if isinstance(each, Sequence) and not isinstance(each, str) else []
        fits = [isinstance(v, int | float) and _LEAST < v < 1 / _LEAST for v in some]
        if not (fits and all(fits)):
            raise QuantizeError(str(path), "takes positive numbers as the steps of its weights")


def channels_together(options: Mapping[str, object]) -> int:
    """How many neighbouring output channels share a scale; 0: all of them.

    Raises:
        QuantizeError: no such `scales`.
    """
    asked = options.get("scales") or "tensor"
    if asked in ("tensor", "channel"):
        return int(asked == "channel")
    found = _GROUP.fullmatch(asked) if isinstance(asked, str) else None
    if not found:
        raise QuantizeError("image", f"there are no scales {asked!r}: tensor, channel or group:N")
    return int(found[1])


def by_currents(options: Mapping[str, object]) -> bool:
    """Whether the weights of a layer are rounded together."""
    return options.get("rounding") == RECONSTRUCTION


def by_rates(options: Mapping[str, object]) -> bool:
    """Whether thresholds move."""
    return options.get("thresholds") == RATES


def check_layers(options: QuantizeOptions, paths: Iterable[str]) -> None:
    """Refuse bits for what is no module at all, before the model is looked at.

    Args:
        options: `layer_bits` is read.
        paths: of all modules of the model.

    Raises:
        QuantizeError: a path that is none of them.
    """
    known = set(paths)
    for path in sorted(set(options.get("layer_bits") or {}) - known):
        near = difflib.get_close_matches(path, sorted(known), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise QuantizeError(path, f"{_NO_LAYER}{hint}")


def weight_bits(options: QuantizeOptions, paths: Mapping[str, str]) -> dict[str, int]:
    """Bits of the weights of each linear map.

    Args:
        options: `weight_bits` and `layer_bits` are read; of several paths the longest counts.
        paths: name of a linear map -> path of its module.

    Raises:
        QuantizeError: a path of `layer_bits` that no linear map has.
    """
    single, others = options.get("layer_bits") or {}, options.get("weight_bits", 8)
    inside = {name: [p for p in single if _is_within(path, p)] for name, path in paths.items()}
    if odd := sorted(set(single) - {p for found in inside.values() for p in found}):
        raise QuantizeError(odd[0], _NO_LAYER)
    return {
        name: single[max(found, key=len)] if found else others for name, found in inside.items()
    }


def _is_within(path: str, module: str) -> bool:
    return path == module or path.startswith(f"{module}.")


def layout_of(options: Mapping[str, object]) -> str:
    """The layout of the one input: of several, `several_inputs.joined` has made one."""
    return str(options.get("layout") or "BCHW")


def steps_as_text(steps: Mapping[str, Sequence[float]]) -> dict[str, Json]:
    """Write steps of weights so that the same floats are read again."""
    return {path: [repr(float(v)) for v in each] for path, each in sorted(steps.items())}


def as_json(options: QuantizeOptions) -> dict[str, Json]:
    """Write options as a file holds them: numbers and rules as text.

    A function that reads a rule off an instance has no text, and is written as None.
    """
    told: dict[str, Json] = {}
    for name, value in sorted(options.items()):
        if value is None:
            continue
        if name in ("mean", "std") and isinstance(value, Sequence):
            told[name] = [str(Fraction(str(v))) for v in value]
        elif name == "neurons" and isinstance(value, Mapping):
            told[name] = {
                kind: None if callable(rule) else rule_text(rule)
                for kind, rule in sorted(value.items())
            }
        elif name == "layer_bits" and isinstance(value, Mapping):
            told[name] = {path: int(bits) for path, bits in sorted(value.items())}
        elif name == "weight_steps" and isinstance(value, Mapping):
            told[name] = steps_as_text(value)
        elif name == "classes" and isinstance(value, Sequence):
            told[name] = [str(v) for v in value]
        elif name == "result" and isinstance(value, list | tuple):
            told[name] = list(value)
        elif name == "over_time" and isinstance(value, Mapping):
            told[name] = {str(answer): str(said) for answer, said in sorted(value.items())}
        elif isinstance(value, bool | int | str):
            told[name] = value
        else:
            raise QuantizeError("image", f"{name} cannot be {value!r}")
    return told
