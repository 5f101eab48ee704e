"""Decide what belongs together before any integer is chosen.

A *unit* is a linear map with the batch norm that follows it: they become one synapse.
Units whose results are added form a *group*: they must share one output scale.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lapilli.ir.errors import QuantizeError
from lapilli.model.axes import step_axes, step_shape
from lapilli.model.program import (
    BatchNorm,
    Call,
    Captured,
    Fire,
    Image,
    MatMul,
    Plus,
    Product,
    Reduce,
    Scale,
    Synapse,
    Transpose,
    View,
)


@dataclass(frozen=True, slots=True)
class Unit:
    """One synapse of the graph.

    Attributes:
        call: name of the linear map's call; path: its module, for messages.
        norm: name of the batch norm's call, if one follows.
        input_scale: a real input is an integer times this.
    """

    call: str
    path: str
    norm: str | None
    input_scale: Fraction


@dataclass(frozen=True, slots=True)
class Plan:
    """What `plan` decided.

    Attributes:
        units: by name of the linear map's call.
        groups: unit -> the first unit of its group.
        feeds: neuron call -> units whose currents it integrates.
    """

    units: Mapping[str, Unit]
    groups: Mapping[str, str]
    feeds: Mapping[str, frozenset[str]]


def plan(captured: Captured, image_scale: Fraction) -> Plan:
    """Walk the program once.

    Raises:
        QuantizeError: a batch norm without a linear map of its own, a linear map of a real
            current, or a sum of values that no common scale can hold.
    """
    norms = {
        synapse_of(captured, call): call.name
        for call in captured.calls.values()
        if isinstance(call.op, BatchNorm)
    }
    walk = _Walk(captured, image_scale, norms)
    for call in captured.calls.values():
        walk.visit(call)
    return Plan(walk.units, {unit: walk.leader(unit) for unit in walk.units}, walk.feeds)


class _Walk:
    """Scale and origin of each value: real = integer * scale * (output scale of its units)."""

    def __init__(self, captured: Captured, image_scale: Fraction, norms: Mapping[str, str]) -> None:
        self.calls = captured.calls
        self.image_scale = image_scale
        self.norms = norms
        self.units: dict[str, Unit] = {}
        self.feeds: dict[str, frozenset[str]] = {}
        self.scale: dict[str, Fraction] = {}
        self.origin: dict[str, frozenset[str]] = {}
        self.parent: dict[str, str] = {}

    def leader(self, unit: str) -> str:
        """First unit of the group."""
        while self.parent[unit] != unit:
            unit = self.parent[unit]
        return unit

    def visit(self, call: Call) -> None:
        """Record scale and origin of one value.

        Raises:
            QuantizeError: see `plan`.
        """
        origin = frozenset[str]().union(*(self.origin[i] for i in call.inputs))
        scale = math.prod((self.scale[i] for i in call.inputs), start=Fraction(1))
        match call.op:
            case Image():
                scale = self.image_scale
            case Synapse():
                self._add_unit(call, origin, scale)
                origin, scale = frozenset({call.name}), Fraction(1)
            case Fire():
                self.feeds[call.name] = origin
                origin, scale = frozenset(), Fraction(1)
            case Scale(factor=factor):
                scale *= factor
            case Reduce(axes=axes, mean=True):
                shape = step_shape(self.calls[call.inputs[0]].dims)
                scale /= math.prod(shape[a] for a in axes)
            case Plus():
                self._join(call, origin)
                scale = self.scale[call.inputs[0]]
            case MatMul() | Product():
                if all(self.origin[i] for i in call.inputs):
                    raise QuantizeError(call.path, "multiplies two real currents")
            case _:
                pass
        self.scale[call.name], self.origin[call.name] = scale, origin

    def _add_unit(self, call: Call, origin: frozenset[str], scale: Fraction) -> None:
        if origin:
            raise QuantizeError(
                call.path,
                "is a linear map of a real current; only neurons, pooling and sums may follow "
                f"{min(origin)!r}",
            )
        self.units[call.name] = Unit(call.name, call.path, self.norms.get(call.name), scale)
        self.parent[call.name] = call.name

    def _join(self, call: Call, origin: frozenset[str]) -> None:
        a, b = call.inputs
        if bool(self.origin[a]) != bool(self.origin[b]):
            raise QuantizeError(call.path, "adds spikes to a real current")
        if self.scale[a] != self.scale[b]:
            raise QuantizeError(
                call.path, f"adds values of scales {self.scale[a]} and {self.scale[b]}"
            )
        first = min((self.leader(u) for u in origin), key=list(self.units).index, default="")
        for unit in origin:
            self.parent[self.leader(unit)] = first


def synapse_of(captured: Captured, norm: Call) -> str:
    """The linear map whose channels this batch norm scales: wiring between, nothing else.

    Raises:
        QuantizeError: there is none, or somebody else reads the value in between.
    """
    uses = Counter(i for call in captured.calls.values() for i in call.inputs)
    chain = [norm]
    while not isinstance(chain[-1].op, Synapse):
        source = captured.calls[chain[-1].inputs[0]]
        if not isinstance(source.op, View | Transpose | Synapse) or uses[source.name] > 1:
            raise QuantizeError(
                norm.path, "is a batch norm that does not follow a linear map of its own"
            )
        chain.append(source)
    synapse = chain[-1]
    channels = _channel_numbers(synapse)
    for call in reversed(chain[1:-1]):
        if isinstance(call.op, Transpose):
            channels = channels.transpose(call.op.axes)
        channels = channels.reshape(step_shape(call.dims))
    axis = step_axes(norm.dims)[1] or 0  # T and B were refused there when it was captured
    along = np.moveaxis(channels, axis, -1)
    expected = np.arange(along.shape[-1])
    if not np.array_equal(along, np.broadcast_to(expected, along.shape)):
        raise QuantizeError(norm.path, f"does not run over the channels of {synapse.path!r}")
    return synapse.name


def _channel_numbers(synapse: Call) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The output channel of each element of one time step."""
    shape = step_shape(synapse.dims)
    conv = isinstance(synapse.op, Synapse) and synapse.op.conv
    axis = 0 if conv and step_axes(synapse.dims)[0] is None else 1 if conv else len(shape) - 1
    numbers = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.broadcast_to(numbers, shape)
