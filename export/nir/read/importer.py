"""A graph from a `.nir` file, where the file, or who imports it, says what it means.

Reading order: `hdf5` (bytes to arrays), `reader` (arrays to nodes), `dynamics` (what a
neuron does), this file (the graph). Real weights become integers times one power of two for
each layer; currents that meet in a sum share it. Nothing is rounded: what lies on no such grid,
or would be rounded by the framework that the file comes from, is refused with its node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np

from lapilli.export import limits
from lapilli.export.limits import Progress
from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.dynamics import FLOAT32, dynamics, neuron
from lapilli.export.nir.read.grid import (
    check_float,
    dilated,
    finest,
    over,
    pair,
    whole,
)
from lapilli.export.nir.read.metadata import NOTHING, Facts, Stated
from lapilli.export.nir.read.reader import Floats, NirFile, NirNode, read_nir
from lapilli.ir import ops
from lapilli.ir.errors import FormatError, GraphError
from lapilli.ir.graph import Graph, Node
from lapilli.ir.infer import infer
from lapilli.ir.network import Network
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import IntRange, Kind, TensorType

_EXTREME = Fraction(1 << 256)  # of a unit


def from_nir(path: Path, stated: Stated = NOTHING, progress: Progress | None = None) -> Graph:
    """Read a `.nir` file as a graph.

    A file of ours says everything in its metadata (but the range of its input, if it was
    written from a graph alone); nothing that it says may be stated otherwise.

    Args:
        path: of the file.
        stated: what it does not say.
        progress: is told of the nodes that are read.

    Raises:
        FormatError: not a readable file, or its meaning is not certain, or not exact in
            integers; names the node and what must be stated or changed.
    """
    return _imported(path, stated, progress).graph


def network_from_nir(
    path: Path,
    stated: Stated = NOTHING,
    progress: Progress | None = None,
    reading: Progress | None = None,
) -> Network:
    """The same with how images become inputs, and integers answers.

    A file of others says neither: the bytes of an image are the integers, a read-out adds up
    what leaves the network over time, and the classes are numbers. `reading` is told of the
    datasets that are read before any node is.

    Raises:
        FormatError: as `from_nir`.
    """
    return _imported(path, stated, progress, reading)


def _imported(
    path: Path, stated: Stated, progress: Progress | None, reading: Progress | None = None
) -> Network:
    file = read_nir(path, stated.memory_limit, reading)
    try:
        return _Import(file, stated, progress).network()
    except MalformedError as error:
        raise FormatError(path, str(error)) from error
    except GraphError as error:
        raise FormatError(path, f"holds no valid graph: {error}") from error


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of the graph: real = integer * unit.

    `layers` are those whose synapses can be written with a finer unit to make this one's finer;
    none, if it holds spikes or the input.
    """

    name: str
    unit: Fraction
    layers: frozenset[str] = frozenset()


class _FinerError(Exception):
    """Internal: layers must be written with this unit; start again."""

    def __init__(self, layers: frozenset[str], unit: Fraction) -> None:
        super().__init__()
        self.layers, self.unit = layers, unit


class _Import:
    def __init__(self, file: NirFile, stated: Stated, progress: Progress | None = None) -> None:
        self.file, self.facts = file, Facts(file.facts)
        self.reading, self.dt, self.T = self.facts.merged(stated)
        self.reset = stated.reset
        self.input_type = self.facts.input_type(stated)
        self.exponent = stated.input_exponent
        self.units: dict[str, Fraction] = {}
        self.order = _order(file)
        self.before: dict[str, list[str]] = {key: [] for key in file.nodes}
        for source, target in file.edges:
            self.before[target].append(source)
        self.progress = progress

    def network(self) -> Network:
        for _ in range(2 * len(self.order) + 1):
            try:
                return self._built()
            except _FinerError as finer:
                for layer in finer.layers:
                    self.units[layer] = min(finer.unit, self.units.get(layer, finer.unit))
        raise MalformedError("its layers find no common unit")  # each round makes one finer

    def _built(self) -> Network:
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        made: dict[str, _Value] = {}
        for done, key in enumerate(self.order, start=1):
            node = self.file.nodes[key]
            with _Named(key):
                made[key] = self._emit(key, node, [made[source] for source in self.before[key]])
            if self.progress is not None:
                self.progress(done, len(self.order))
        (output,) = (key for key in self.order if self.file.nodes[key].type == "Output")
        with _Named(output):
            answer = self._answer(made[output])
        graph = Graph(tuple(self.nodes), (answer.name,), self.T)
        return self.facts.network(graph, answer.unit)

    def _emit(self, key: str, node: NirNode, inputs: list[_Value]) -> _Value:
        name = self._name(self.facts.names.get(key, key))
        if node.type == "Input":
            shape = tuple(node.arrays["shape"].ravel().tolist())
            low, high = self.input_type
            kind = Kind.GRADED
            if low >= -1 and high <= 1:
                kind = Kind.SPIKES
            elif low >= 0 and high <= ops.MOST_EVENTS:
                kind = Kind.COUNTS
            made = self._add(name, ops.Input(type=TensorType(shape, IntRange(low, high), kind)))
            return _Value(made, Fraction(1, 2) ** self.exponent)
        x = self._summed(name, inputs)
        shape = self.types[x.name].shape
        match node.type:
            case "Output":
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
                return self._fire(name, node, x)
            case "Threshold":
                raise MalformedError("is a Threshold, which no framework reads; use a CubaLIF")
            case _:
                raise MalformedError(f"is a {node.type}; the graph has nothing that does the same")

    # ---- layers ---------------------------------------------------------------------------

    def _linear(self, name: str, node: NirNode, x: _Value) -> _Value:
        weight = node.arrays["weight"]
        bias = node.arrays.get("bias", np.zeros(len(weight)))
        w, b, unit = self._integers(name, weight, bias, x)
        graded = self.types[x.name].kind is Kind.GRADED
        op = ops.Linear(weight=IntTensor.of(w), bias=IntTensor.of(b), graded=graded)
        return _Value(self._add(name, op, x.name), unit, frozenset({name}))

    def _convolution(self, name: str, node: NirNode, x: _Value) -> _Value:
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
            graded=self.types[x.name].kind is Kind.GRADED,
        )
        return _Value(self._add(name, op, x.name), unit, frozenset({name}))

    def _pool(self, name: str, node: NirNode, x: _Value, scale: Fraction) -> _Value:
        x = self._map(name, x)
        kernel, stride, padding = (
            pair(node.arrays[f], f) for f in ("kernel_size", "stride", "padding")
        )
        C, *size = self.types[x.name].shape
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
                graded=self.types[x.name].kind is Kind.GRADED,
            )
        return _Value(self._add(name, op, x.name), x.unit * scale, x.layers)

    def _flatten(self, name: str, node: NirNode, x: _Value) -> _Value:
        shape = self.types[x.name].shape
        ends = [whole(node.field(f), f) for f in ("start_dim", "end_dim")]
        first, last = (e + len(shape) if e < 0 else e for e in ends)
        if not 0 <= first <= last < len(shape):
            raise MalformedError(f"flattens axes {ends[0]} to {ends[1]} of {list(shape)}")
        flat = (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
        return _Value(self._add(name, ops.Reshape(shape=flat), x.name), x.unit, x.layers)

    def _fire(self, name: str, node: NirNode, x: _Value) -> _Value:
        rule = dynamics(node, self.reading, self.dt, self.reset)
        given = self.types[x.name]
        op = neuron(rule, x.unit, given.shape, self.T)
        if self.reading.rounds:
            check_float(name, op, given, rule.rest / (x.unit * rule.gain), self.T)
        return _Value(self._add(name, op, x.name), Fraction(1))

    # ---- units ----------------------------------------------------------------------------

    def _integers(
        self, name: str, weight: Floats, bias: Floats, x: _Value
    ) -> tuple[IntArray, IntArray, Fraction]:
        """Integer weights and bias, and the unit of what they make."""
        found = [finest(weight), finest(bias)]
        scales = (x.unit, Fraction(1))
        units = [f * s for f, s in zip(found, scales, strict=True) if f is not None]
        unit = min([*units, self.units[name]] if name in self.units else units or [x.unit])
        if not 1 / _EXTREME < unit < _EXTREME:
            raise MalformedError("its numbers are too small or too large for any grid; quantize it")
        w, b = over(weight, unit / x.unit), over(bias, unit)
        reach = int(np.abs(w).astype(object).reshape(len(w), -1).sum(axis=1).max())
        total = reach * self.types[x.name].range.magnitude + int(np.abs(b).max())
        limit = FLOAT32 if self.reading.rounds else 53
        if total >= 1 << limit:
            raise MalformedError(
                f"its weights are multiples of {float(unit / x.unit):.3g}, and sums of them need "
                f"{total.bit_length()} bits, where floats hold {limit}: they lie on no grid; "
                "quantize the model first"
            )
        return w, b, unit

    def _summed(self, name: str, inputs: list[_Value]) -> _Value:
        """What arrives over several edges, added up."""
        finest = min(v.unit for v in inputs)
        for value in inputs:
            if value.unit != finest:
                if not value.layers:
                    raise MalformedError(
                        f"adds multiples of {finest} to {value.name!r}, which counts {value.unit}"
                    )
                raise _FinerError(value.layers, finest)
        total, *rest = inputs
        magnitude = sum(self.types[v.name].range.magnitude for v in inputs)
        if rest and self.reading.rounds and magnitude >= 1 << FLOAT32:
            raise MalformedError(f"adds up values that need {magnitude.bit_length()} bits")
        for value in rest:
            sum_name = self._name(f"{name}.sum")
            made = self._add(sum_name, ops.Add(), total.name, value.name)
            total = _Value(made, finest, total.layers | value.layers)
        return total

    # ---- output ---------------------------------------------------------------------------

    def _answer(self, value: _Value) -> _Value:
        if (layout := self.facts.output_layout) is not None:
            value = self._wired(value, *layout)
        if units := self.facts.output_units:
            value = self._whole(value, units)
        if self.facts.accumulates:
            name = self._name(self.facts.output_name)
            value = _Value(self._add(name, ops.Readout(), value.name), value.unit)
        return value

    def _whole(self, x: _Value, units: tuple[int, ...]) -> _Value:
        """One number of the limbs (limbs, ...) of each."""
        _, *shape = self.types[x.name].shape
        axes = (*range(1, len(shape) + 1), 0)
        last = self._add(self._name("output.limbs"), ops.Permute(axes=axes), x.name)
        op = ops.Linear(weight=IntTensor.of([units]), bias=IntTensor.of([0]), graded=True)
        whole = self._add(self._name("output.whole"), op, last)
        plain = self._add(self._name("output.numbers"), ops.Reshape(shape=tuple(shape)), whole)
        return _Value(plain, x.unit)

    def _wired(self, x: _Value, shape: tuple[int, ...], strides: tuple[int, ...]) -> _Value:
        """Undo wiring that a permutation of axes can say."""
        axes = sorted(range(len(shape)), key=lambda a: (-strides[a], shape[a] == 1))
        stored = tuple(shape[a] for a in axes)
        plain = tuple(math.prod(stored[i + 1 :]) for i in range(len(stored)))
        there = tuple(strides[a] if shape[a] > 1 else p for a, p in zip(axes, plain, strict=True))
        if there != plain or math.prod(shape) != math.prod(self.types[x.name].shape):
            raise MalformedError("its output is wired in a way that no permutation of axes undoes")
        name = x.name
        if stored != self.types[name].shape:
            name = self._add(self._name("output.shape"), ops.Reshape(shape=stored), name)
        if axes != sorted(axes):
            back = tuple(axes.index(a) for a in range(len(axes)))
            name = self._add(self._name("output.order"), ops.Permute(axes=back), name)
        return _Value(name, x.unit)

    # ---- nodes ----------------------------------------------------------------------------

    def _map(self, name: str, x: _Value) -> _Value:
        """A value as (C, H, W): nirtorch writes the batch axis of a sample into the shapes."""
        shape = self.types[x.name].shape
        if len(shape) == 4 and shape[0] == 1:
            made = self._add(self._name(f"{name}.map"), ops.Reshape(shape=shape[1:]), x.name)
            return _Value(made, x.unit, x.layers)
        return x

    def _name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.types:
            number += 1
            name = f"{wanted}.{number}"
        return name

    def _add(self, name: str, op: ops.Op, *inputs: str) -> str:
        try:
            made = infer(op, tuple(self.types[i] for i in inputs), self.T)
        except ValueError as error:
            raise MalformedError(str(error)) from error
        if math.prod(made.shape) > limits.MOST_ELEMENTS:
            raise MalformedError(f"a value of shape {list(made.shape)}")
        self.types[name] = made
        self.nodes.append(Node(name, op, inputs))
        return name


class _Named:
    """Puts the node's name before what is wrong inside."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MalformedError):
            raise MalformedError(f"node {self.name!r}: {error}") from error


def _order(file: NirFile) -> list[str]:
    before: dict[str, list[str]] = {key: [] for key in file.nodes}
    for source, target in file.edges:
        before[target].append(source)
    for kind in ("Input", "Output"):
        found = [key for key, node in file.nodes.items() if node.type == kind]
        if len(found) != 1:
            raise MalformedError(f"{len(found)} nodes of type {kind}; a network has one")
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise MalformedError(
            f"node {error.args[1][0]!r}: is part of a loop; a graph runs from input to output"
        ) from error
