"""The arguments of `quantize`: listed once, for Python, the command line and the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TypedDict

from lapilli.ir.errors import QuantizeError
from lapilli.ir.recipe import Json
from lapilli.model.neurons.adapters import Description
from lapilli.model.neurons.described import rule_text


class QuantizeOptions(TypedDict, total=False):
    """How a model becomes integers. Each key may be left out, or None.

    Attributes:
        weight_bits: 2 to 8, sign included; 8 by default.
        input_bits: of a quantized pixel, sign included, 2 to 16; 8 by default.
        mean: with which the images were normalised (of pixel / 255), one per channel, so that
            the network can take raw images; 0 by default.
        std: likewise; 1 by default.
        classes: names of the answers, in the order of the logits; their numbers by default.
        neurons: what your own neuron classes do, by "package.module.Class" or the end of it: a
            `NeuronRule`, or a function that reads one off an instance. Each is probed before it is
            believed.
        layout: of the images that the module's forward takes: BCHW (the default), BTCHW or TBCHW.
        counts: the images are numbers of events (of an event camera), not pixels; they stay what
            they are, up to the largest of the calibration.
        result: which of the module's results holds the logits; the first that looks so by default.
        per_sample: where neurons let state leak from sample to sample, take what they do with
            batches of one.
    """

    weight_bits: int
    input_bits: int
    mean: Sequence[float] | None
    std: Sequence[float] | None
    classes: Sequence[str] | None
    neurons: Mapping[str, Description] | None
    layout: str
    counts: bool
    result: int | str | None
    per_sample: bool


def check_options(options: Mapping[str, object]) -> None:
    """Refuse what no option is called, and numbers that make no sense.

    Raises:
        TypeError: an argument that `quantize` does not have.
        QuantizeError: bits out of range.
    """
    if odd := sorted(options.keys() - QuantizeOptions.__annotations__.keys()):
        raise TypeError(f"quantize has no argument {odd[0]!r}")
    for name, most in (("weight_bits", 8), ("input_bits", 16)):
        bits = options.get(name, 8)
        if not isinstance(bits, int) or not 2 <= bits <= most:
            raise QuantizeError("image", "weights take 2 to 8 bits, the input 2 to 16")


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
        elif name == "classes" and isinstance(value, Sequence):
            told[name] = [str(v) for v in value]
        elif isinstance(value, bool | int | str):
            told[name] = value
        else:
            raise QuantizeError("image", f"{name} cannot be {value!r}")
    return told
