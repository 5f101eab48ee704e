"""What is known about a `.nir` file besides its nodes: from its metadata, or as stated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.dynamics import Reading
from lapilli.ir import ops
from lapilli.ir.graph import Graph
from lapilli.ir.network import InputQuantizer, Network

FORMATS = ("lapilli-nir/1",)
_MOST_STEPS = _MOST_CHANNELS = 1 << 16
_MOST_EXPONENT = 64
_MOST_SECONDS = 1e6
_MOST_UNIT = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What a file does not say, and whoever imports it knows.

    Attributes:
        reading: whose discretisation it is written for.
        dt: seconds; a step. T: steps of a sample.
        reset: of its neurons, where the exporter drops it.
        input_range: of the integers that it is given.
        input_exponent: a real input is an integer times 2 ** -input_exponent.
        memory_limit: see `hdf5.process.read_tree`.
    """

    reading: Reading | None = None
    dt: float | None = None
    T: int | None = None
    reset: ops.Reset | None = None
    input_range: tuple[int, int] | None = None
    input_exponent: int = 0
    memory_limit: int | None = None


NOTHING = Stated()


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the file, or who imports it, says of its numbers.

    Attributes:
        reading: which framework's discretisation a neuron has; dt: seconds of a step.
        reset: of neurons whose nodes do not say it.
        input_range: lowest and highest integer; input_exponent: each counts 2 ** -exponent.
    """

    reading: Reading
    dt: Fraction
    reset: ops.Reset | None
    input_range: tuple[int, int]
    input_exponent: int


class Facts:
    """What lapilli wrote about its own file; all of it optional in a file of others."""

    def __init__(self, facts: Mapping[str, Any] | None) -> None:
        self.ours = facts is not None
        self.facts = facts or {}
        if self.ours and self.facts.get("format") not in FORMATS:
            found = str(self.facts.get("format"))[:40]
            raise MalformedError(f"metadata: format {found!r}; this lapilli reads {FORMATS[0]!r}")
        names = self._get("names", dict, {})
        self.names = {k: v for k, v in names.items() if isinstance(v, str) and v}
        if len(self.names) < len(names):
            raise MalformedError("metadata: names must be text")
        output = self._get("output", dict, {})
        self.output_name = str(output.get("name", "output"))
        self.accumulates = output.get("accumulate", not self.ours) is True
        self.output_layout = _layout(output["layout"]) if "layout" in output else None
        self.output_units = _units(output["units"], self.output_layout) if "units" in output else ()

    def _get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        value = self.facts.get(key, default)
        if value is not default and (not isinstance(value, kind) or isinstance(value, bool)):
            raise MalformedError(f"metadata: {key}: not what lapilli writes")
        return value

    def merged(self, stated: Stated) -> tuple[Reading, Fraction, int]:
        """Reading, dt and T: from the metadata, or as stated, and never both ways."""
        reading = Reading.EULER if self.ours else None
        for name, ours, theirs in (
            ("reading", reading, stated.reading),
            ("dt", self._get("dt", (int, float)), stated.dt),
            ("T", self._get("T", int), stated.T),
        ):
            if ours is not None and theirs is not None and ours != theirs:
                raise MalformedError(f"its metadata says {name} {ours}, and {theirs} is stated")
        dt = self._get("dt", (int, float), stated.dt)
        T = self._get("T", int, stated.T)
        reading = reading or stated.reading
        if reading is None:
            names = ", ".join(r.value for r in Reading)
            raise MalformedError(f"nothing says how to discretise it; state a reading: {names}")
        if dt is None or T is None:
            raise MalformedError(f"nothing says its {'dt' if dt is None else 'T'}: state it")
        if not 0 < dt < _MOST_SECONDS:
            raise MalformedError(f"dt is {str(dt)[:20]}; it is the seconds of a step")
        if not 1 <= T <= _MOST_STEPS:
            raise MalformedError(f"T = {T} leaves 1..{_MOST_STEPS}")
        return reading, Fraction(dt), T

    def input_type(self, stated: Stated) -> tuple[int, int]:
        """The range of the input."""
        about = self._get("input", dict, {})
        bounds = stated.input_range
        if {"lo", "hi"} <= about.keys():
            ours = (about["lo"], about["hi"])
            if not all(isinstance(v, int) and abs(v) < 1 << 40 for v in ours):
                raise MalformedError("metadata: input: not what lapilli writes")
            if bounds not in (None, ours):
                raise MalformedError(f"its metadata says inputs {ours}, and {bounds} is stated")
            bounds = ours
        if bounds is None:
            raise MalformedError("nothing says the range of its input: state it")
        if abs(stated.input_exponent) > _MOST_EXPONENT:
            raise MalformedError(f"an input exponent of {stated.input_exponent}")
        if bounds[0] > bounds[1]:
            raise MalformedError(f"an input range {bounds}")
        return bounds

    def network(self, graph: Graph, unit: Fraction) -> Network:
        """With the metadata's quantizer and classes, or plain ones."""
        bounds = graph.types[graph.inputs[0]].range
        channels = (graph.types[graph.inputs[0]].shape or (1,))[0]
        shape = graph.types[graph.outputs[0]].shape
        if channels > _MOST_CHANNELS:
            raise MalformedError(f"an input of {channels} channels")
        about = self._get("input", dict, {})
        plain: dict[str, Any] = {
            "mean": ["0"] * channels,
            "std": ["1/255"] * channels,
            "exponent": 0,
        }
        known = about if about.keys() >= plain.keys() else plain
        try:
            quantizer = InputQuantizer(
                mean=tuple(_fraction(m) for m in known["mean"]),
                std=tuple(_fraction(s) for s in known["std"]),
                exponent=int(known["exponent"]),
                lo=bounds.lo,
                hi=bounds.hi,
            )
            scale = _fraction(self.facts.get("logit_scale", "1")) * unit
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise MalformedError(
                "metadata: input or logit_scale: not what lapilli writes"
            ) from error
        if abs(quantizer.exponent) > _MOST_EXPONENT:
            raise MalformedError(f"metadata: input exponent {str(quantizer.exponent)[:20]}")
        if len(quantizer.mean) != len(quantizer.std) or min(quantizer.std, default=1) <= 0:
            raise MalformedError("metadata: input needs one mean and one positive std per channel")
        numbers = [str(i) for i in range(min(math.prod(shape), 1 << 16))]
        classes = self._get("classes", list, numbers)
        if not all(isinstance(c, str) for c in classes):
            raise MalformedError("metadata: classes: not what lapilli writes")
        return Network(graph=graph, input=quantizer, logit_scale=scale, classes=tuple(classes))


def _fraction(text: object) -> Fraction:
    if not isinstance(text, str) or len(text) > 200 or "e" in text.lower():
        raise ValueError("no fraction")
    return Fraction(text)


def _units(units: object, layout: tuple[tuple[int, ...], ...] | None) -> tuple[int, ...]:
    """What a unit of each limb of the output is worth."""
    if not isinstance(units, list) or not all(
        isinstance(n, int) and 0 < n < _MOST_UNIT for n in units
    ):
        raise MalformedError("metadata: the output's units are not what lapilli writes")
    if layout is None or layout[0][:1] != (len(units),) or len(layout[0]) < 2:
        raise MalformedError("metadata: the output's layout has not an entry for each of its units")
    return tuple(units)


def _layout(layout: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides of the output."""
    known = layout if isinstance(layout, dict) else {}
    shape, strides = _sizes(known.get("shape")), _sizes(known.get("strides"))
    if len(shape) != len(strides) or known.get("offset") != 0 or 0 in shape:
        raise MalformedError("metadata: the output's layout is not one of regular strides")
    return shape, strides


def _sizes(numbers: object) -> tuple[int, ...]:
    if not isinstance(numbers, list) or not all(
        isinstance(n, int) and 0 <= n < 1 << 40 for n in numbers
    ):
        raise MalformedError("metadata: the output's layout is not one of regular strides")
    return tuple(numbers)
