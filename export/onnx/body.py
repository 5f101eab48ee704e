"""One time step as ONNX nodes under construction: names, constants, functions, states.

A value of the graph keeps its name (plus a suffix where the step stands inside a `Scan`);
what helps to compute it is called `<name>/<operator>`, which viewers show as a hierarchy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import FunctionProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from lapilli.ir.graph import Graph
from lapilli.ir.types import IntRange

U8, I8, I32, I64 = TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64
_CARRIERS: dict[int, type[np.integer[Any]]] = {
    U8: np.uint8,
    I8: np.int8,
    I32: np.int32,
    I64: np.int64,
}
BATCH = "batch"

Array = npt.NDArray[np.integer[Any]]


def limits(carrier: int) -> IntRange:
    """What a tensor type of ONNX can hold."""
    info = np.iinfo(_CARRIERS[carrier])
    return IntRange(info.min, info.max)


def fits(values: IntRange, carrier: int) -> bool:
    """Whether a tensor type of ONNX can hold all of these."""
    held = limits(carrier)
    return values.lo in held and values.hi in held


def carrier_of(values: IntRange) -> int:
    """The narrowest of uint8, int8, int32 and int64 that holds a value of this range."""
    return next(c for c in _CARRIERS if fits(values, c))


def dtype_of(carrier: int) -> type[np.integer[Any]]:
    """NumPy's name of a tensor type."""
    return _CARRIERS[carrier]


@dataclass(frozen=True, slots=True)
class Byte:
    """A part of a value: value = sum over its bytes of weight * (array - zero)."""

    array: str
    weight: int
    zero: int


@dataclass(frozen=True, slots=True)
class CarriedState:
    """What a node keeps from step to step; zero before the first.

    Attributes:
        node: whose; role: u, v or total; before, after: names of the values.
        carrier, shape: without the batch.
    """

    node: str
    role: str
    before: str
    after: str
    carrier: int
    shape: tuple[int, ...]


@dataclass(slots=True)
class Body:
    """The nodes of one step.

    Attributes:
        graph: what is said; suffix: of each value's name.
        inlined: whether a call of a function is its lines.
        constants: weights, thresholds and the like; functions: by the rule they compute.
        membranes: neuron -> the value that is its membrane before reset.
        values: type and shape of what has a meaning in the graph, by name.
        bytes: of each value that was cut into bytes.
    """

    graph: Graph
    suffix: str = ""
    inlined: bool = False
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    functions: dict[tuple[object, ...], FunctionProto] = field(default_factory=dict)
    states: list[CarriedState] = field(default_factory=list)
    membranes: dict[str, str] = field(default_factory=dict)
    values: dict[str, ValueInfoProto] = field(default_factory=dict)
    bytes: dict[str, list[Byte]] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    _scalars: dict[tuple[int, int], str] = field(default_factory=dict)
    _rows: dict[tuple[int, ...], str] = field(default_factory=dict)
    _tables: dict[tuple[object, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.graph.types
        self._taken |= {*names, *(self.value(name) for name in names)}
        for name, kind in names.items():
            self.describe(self.value(name), carrier_of(kind.range), kind.shape)

    def value(self, name: str) -> str:
        """The value of a node of the graph."""
        return name + self.suffix

    def carrier(self, name: str) -> int:
        """Tensor type of the value of a node of the graph."""
        return carrier_of(self.graph.types[name].range)

    def describe(self, value: str, carrier: int, shape: tuple[int, ...]) -> None:
        """Note type and shape of a value."""
        self.values[value] = helper.make_tensor_value_info(value, carrier, [BATCH, *shape])

    def fresh(self, name: str) -> str:
        """This name, or with a number behind it if something already has it."""
        found, count = name, 1
        while found in self._taken:
            count += 1
            found = f"{name}_{count}"
        self._taken.add(found)
        return found

    def emit(
        self,
        op: str,
        inputs: Iterable[str],
        of: str,
        *,
        out: str | None = None,
        **attributes: Any,
    ) -> str:
        """Add an operator that helps to compute the node `of`; its value is called `out`."""
        name = self.fresh(f"{of}/{op}")
        out = out or name + self.suffix
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=name, **attributes))
        return out

    def call(self, function: FunctionProto, inputs: list[str], outputs: list[str], of: str) -> None:
        """Add a call of a function of ours; inlined, its lines as operators of the node `of`."""
        if not self.inlined:
            name = self.fresh(f"{of}/{function.name}")
            self.nodes.append(
                helper.make_node(function.name, inputs, outputs, name=name, domain=function.domain)
            )
            return
        actual = dict(zip(function.input, inputs, strict=True))
        actual |= dict(zip(function.output, outputs, strict=True))
        for line in function.node:
            node = NodeProto()
            node.CopyFrom(line)
            node.name = self.fresh(f"{of}/{line.op_type}")
            actual.setdefault(line.output[0], node.name + self.suffix)
            node.input[:] = [actual[value] for value in line.input]
            node.output[:] = [actual[value] for value in line.output]
            self.nodes.append(node)

    def constant(self, name: str, array: npt.NDArray[Any], carrier: int) -> str:
        """Add an array that the file carries."""
        name = self.fresh(name)
        array = np.ascontiguousarray(array, _CARRIERS[carrier])
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def scalar(self, value: int, carrier: int) -> str:
        """Add a number; the same number once."""
        key = value, carrier
        if key not in self._scalars:
            name = f"{np.dtype(_CARRIERS[carrier]).name}/{value}"
            self._scalars[key] = self.constant(name, np.array(value), carrier)
        return self._scalars[key]

    def ints(self, *values: int) -> str:
        """Add a row of int64 (a shape, axes, a position); the same row once."""
        if values not in self._rows:
            name = f"int64/{'x'.join(map(str, values))}"
            self._rows[values] = self.constant(name, np.array(values), I64)
        return self._rows[values]

    def table(self, name: str, array: Array, carrier: int) -> str:
        """Add an array that several nodes may read; the same array once."""
        array = np.ascontiguousarray(array, _CARRIERS[carrier])
        key = carrier, array.shape, array.tobytes()
        if key not in self._tables:
            name = f"{array.dtype.name}/{name}"
            self._tables[key] = self.constant(name, array, carrier)
        return self._tables[key]

    def cast(self, value: str, old: int, new: int, of: str) -> str:
        """Change the tensor type, if it is another."""
        return value if old == new else self.emit("Cast", [value], of, to=new)

    def name(self, node: str, value: str, carrier: int) -> None:
        """Make a value, of this tensor type, the value of a node of the graph."""
        if carrier == self.carrier(node):
            self.emit("Identity", [value], node, out=self.value(node))
        else:
            self.emit("Cast", [value], node, out=self.value(node), to=self.carrier(node))

    def state(self, node: str, role: str, carrier: int) -> CarriedState:
        """Add a state of a node's shape."""
        name = self.fresh(f"{node}/{role}")
        before, after = name + self.suffix, self.fresh(f"{name}/next") + self.suffix
        made = CarriedState(node, role, before, after, carrier, self.graph.types[node].shape)
        self.states.append(made)
        return made
