"""A node of a file, as nodes of the graph.

Real weights become integers times one power of two for each layer; currents that meet in a sum
share it. Nothing is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from lapilli.export import limits
from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read import nodes
from lapilli.export.nir.read.builder import BoundedBuilder, ImportedValue
from lapilli.export.nir.read.dynamics import FLOAT32
from lapilli.export.nir.read.grid import dilated, finest, over, pair, whole
from lapilli.export.nir.read.metadata import Meaning
from lapilli.export.nir.read.neurons import delay, fire, integrate
from lapilli.export.nir.read.nodes import Floats, NirNode
from lapilli.ir import ops
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

_EXTREME = Fraction(1 << 256)  # of a unit
_FIRE = ("IF", "LIF", "CubaLIF")
_TAKE_LATE = (nodes.PORT, "Flatten", "Scale", "Delay", *_FIRE)  # of what reads a current
_TAKE_CURRENTS = ("I", "LI", "CubaLI", "Delay", *_FIRE)


class FinerError(Exception):
    """Internal: layers must be written with this unit; start again."""

    def __init__(self, layers: frozenset[str], unit: Fraction) -> None:
        super().__init__()
        self.layers, self.unit = layers, unit


class Layers:
    """The nodes of a file, one after the other, put into a graph.

    Attributes:
        units: the finest unit that layers, by their names in the graph, must be written with.
    """

    def __init__(
        self, builder: BoundedBuilder, meaning: Meaning, units: Mapping[str, Fraction]
    ) -> None:
        self.builder = builder
        self.meaning = meaning
        self.units = units

    def put(self, name: str, node: NirNode, inputs: list[ImportedValue]) -> ImportedValue:
        """Add what a node of the file computes, under a free name; return its value.

        Raises:
            MalformedError: the graph has nothing that does exactly the same.
            FinerError: layers before it must be written with a finer unit.
        """
        if node.type == "Input":
            shape = tuple(node.arrays["shape"].ravel().tolist())
            low, high = self.meaning.input_range
            kind = Kind.GRADED
            if low >= -1 and high <= 1:
                kind = Kind.SPIKES
            elif low >= 0 and high <= ops.MOST_EVENTS:
                kind = Kind.COUNTS
            made = self.builder.put(
                name, ops.Input(type=TensorType(shape, IntRange(low, high), kind))
            )
            return ImportedValue(made, Fraction(1, 2) ** self.meaning.input_exponent)
        x = self._summed(name, inputs)
        if x.late is not None and node.type not in _TAKE_LATE:
            raise MalformedError(
                "reads a current that is delayed, which only a neuron can; delay the spikes in "
                "front of its synapses instead"
            )
        if x.shown and node.type in _TAKE_CURRENTS:
            raise MalformedError(
                "takes a membrane, which a chip's neurons do not send; only the answer may read it"
            )
        value = self._made(name, node, x)
        return replace(value, shown=True) if x.shown else value

    def _made(self, name: str, node: NirNode, x: ImportedValue) -> ImportedValue:
        shape = self.builder.types[x.name].shape
        match node.type:
            case "Output" | nodes.PORT:
                wanted = tuple(node.arrays["shape"].ravel().tolist())
                if math.prod(wanted) != math.prod(shape):
                    raise MalformedError(f"expects {list(wanted)}, and is given {list(shape)}")
                return x
            case "Linear" | "Affine":
                return self._linear(name, node, x)
            case "Conv2d":
                return self._convolution(name, node, x)
            case "SumPool2d":
                return self._pool(name, node, x, Fraction(1))
            case "AvgPool2d":
                count = math.prod(pair(node.arrays["kernel_size"], "kernel_size"))
                if count & (count - 1):
                    raise MalformedError(f"divides by {count}, which no power of two undoes")
                return self._pool(name, node, x, Fraction(1, count))
            case "Flatten":
                return self._flatten(name, node, x)
            case "Scale":
                if not (node.arrays["scale"] == 1).all():
                    raise MalformedError("multiplies values by constants; fold them into a layer")
                return x
            case "IF" | "LIF" | "CubaLIF":
                return fire(self.builder, self.meaning, name, node, x)
            case "I" | "LI" | "CubaLI":
                return integrate(self.builder, self.meaning, name, node, x)
            case "Delay":
                return delay(self.builder, self.meaning, name, node, x)
            case "Threshold":
                raise MalformedError("is a Threshold, which no framework reads; use a CubaLIF")
            case _:
                raise MalformedError(f"is a {node.type}; the graph has nothing that does the same")

    # ---- layers ---------------------------------------------------------------------------

    def _linear(self, name: str, node: NirNode, x: ImportedValue) -> ImportedValue:
        weight = node.arrays["weight"]
        bias = node.arrays.get("bias", np.zeros(len(weight)))
        w, b, unit = self._integers(name, weight, bias, x)
        graded = self.builder.types[x.name].kind is Kind.GRADED
        op = ops.Linear(weight=IntTensor.of(w), bias=IntTensor.of(b), graded=graded)
        return ImportedValue(self.builder.put(name, op, x.name), unit, frozenset({name}))

    def _convolution(self, name: str, node: NirNode, x: ImportedValue) -> ImportedValue:
        x = self._map(name, x)
        weight = dilated(node.arrays["weight"], pair(node.arrays["dilation"], "dilation"))
        stride = pair(node.arrays["stride"], "stride")
        if "padding" in node.arrays:
            padding = pair(node.arrays["padding"], "padding")
        else:
            sides = (weight.shape[2], weight.shape[3])
            padding = (0, 0) if node.texts["padding"] == "valid" else (sides[0] // 2, sides[1] // 2)
            if node.texts["padding"] == "same" and (
                stride != (1, 1) or not all(s % 2 for s in sides)
            ):
                raise MalformedError(
                    "padding 'same' of an even kernel or with a stride; state numbers"
                )
        w, b, unit = self._integers(name, weight, node.arrays["bias"], x)
        op = ops.Conv2d(
            weight=IntTensor.of(w),
            bias=IntTensor.of(b),
            stride=stride,
            padding=padding,
            groups=whole(node.arrays["groups"], "groups"),
            graded=self.builder.types[x.name].kind is Kind.GRADED,
        )
        return ImportedValue(self.builder.put(name, op, x.name), unit, frozenset({name}))

    def _pool(self, name: str, node: NirNode, x: ImportedValue, scale: Fraction) -> ImportedValue:
        x = self._map(name, x)
        kernel, stride, padding = (
            pair(node.arrays[f], f) for f in ("kernel_size", "stride", "padding")
        )
        C, *size = self.builder.types[x.name].shape
        if C * math.prod(kernel) > limits.MOST_WEIGHTS:
            raise MalformedError(f"sums over windows {list(kernel)}")
        op: ops.Op = ops.Sum(axes=(1, 2), keepdims=True)
        if kernel != tuple(size) or padding != (0, 0):
            op = ops.Conv2d(
                weight=IntTensor.of(np.ones((C, 1, *kernel), np.int64)),
                bias=IntTensor.of(np.zeros(C, np.int64)),
                stride=stride,
                padding=padding,
                groups=C,
                graded=self.builder.types[x.name].kind is Kind.GRADED,
            )
        return ImportedValue(self.builder.put(name, op, x.name), x.unit * scale, x.layers)

    def _flatten(self, name: str, node: NirNode, x: ImportedValue) -> ImportedValue:
        shape = self.builder.types[x.name].shape
        ends = [whole(node.field(f), f) for f in ("start_dim", "end_dim")]
        first, last = (e + len(shape) if e < 0 else e for e in ends)
        if not 0 <= first <= last < len(shape):
            raise MalformedError(f"flattens axes {ends[0]} to {ends[1]} of {list(shape)}")
        flat = (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
        made = self.builder.put(name, ops.Reshape(shape=flat), x.name)
        late = x.late if x.late is None or x.late.size == 1 else x.late.reshape(flat)
        return ImportedValue(made, x.unit, x.layers, late)

    # ---- units ----------------------------------------------------------------------------

    def _integers(
        self, name: str, weight: Floats, bias: Floats, x: ImportedValue
    ) -> tuple[IntArray, IntArray, Fraction]:
        """Integer weights and bias, and the unit of what they make."""
        found = [finest(weight), finest(bias)]
        scales = (x.unit, Fraction(1))
        units = [f * s for f, s in zip(found, scales, strict=True) if f is not None]
        unit = min([*units, self.units[name]] if name in self.units else units or [x.unit])
        if not 1 / _EXTREME < unit < _EXTREME:
            raise MalformedError("its numbers are too small or too large for any grid; quantize it")
        w, b = over(weight, unit / x.unit), over(bias, unit)
        magnitude = int(np.abs(w).astype(object).reshape(len(w), -1).sum(axis=1).max())
        total = magnitude * self.builder.types[x.name].range.magnitude + int(np.abs(b).max())
        limit = FLOAT32 if self.meaning.reading.rounds else 53
        if total >= 1 << limit:
            raise MalformedError(
                f"its weights are multiples of {float(unit / x.unit):.3g}, and sums of them need "
                f"{total.bit_length()} bits, where floats hold {limit}: they lie on no grid; "
                "quantize the model first"
            )
        return w, b, unit

    def _summed(self, name: str, inputs: list[ImportedValue]) -> ImportedValue:
        """What arrives over several edges, added up."""
        finest = min(v.unit for v in inputs)
        for value in inputs:
            if value.unit != finest:
                if not value.layers:
                    raise MalformedError(
                        f"adds multiples of {finest} to {value.name!r}, which counts {value.unit}"
                    )
                raise FinerError(value.layers, finest)
        total, *rest = inputs
        if rest and any(v.late is not None for v in inputs):
            raise MalformedError("adds a current that is delayed to others")
        magnitude = sum(self.builder.types[v.name].range.magnitude for v in inputs)
        if rest and self.meaning.reading.rounds and magnitude >= 1 << FLOAT32:
            raise MalformedError(f"adds up values that need {magnitude.bit_length()} bits")
        for value in rest:
            sum_name = self.builder.free(f"{name}.sum")
            made = self.builder.put(sum_name, ops.Add(), total.name, value.name)
            shown = total.shown or value.shown
            total = ImportedValue(made, finest, total.layers | value.layers, shown=shown)
        return total

    def _map(self, name: str, x: ImportedValue) -> ImportedValue:
        """A value as (C, H, W): nirtorch writes the batch axis of a sample into the shapes."""
        shape = self.builder.types[x.name].shape
        if len(shape) == 4 and shape[0] == 1:
            made = self.builder.put(
                self.builder.free(f"{name}.map"), ops.Reshape(shape=shape[1:]), x.name
            )
            return ImportedValue(made, x.unit, x.layers)
        return x
