"""Linear maps in a row become one, so that no synapse takes a real current.

RepConv, a depthwise convolution before a pointwise one, batch norm after batch norm, two
branches that are added before a third map: each is one linear map of the spikes before it,
computed here in float64. What is not in need of it stays as it was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from lapilli.ir.errors import QuantizeError
from lapilli.model.capture import program
from lapilli.model.capture.axes import step_shape
from lapilli.model.capture.program import Call, Captured
from lapilli.model.capture.windows import Windows, window_sums
from lapilli.quantize.merging.constants import (
    frame_of,
    normalised,
    of_spikes,
    over_its_channels,
    padded,
    shifts,
)
from lapilli.quantize.merging.emission import Fused, emit
from lapilli.quantize.merging.factors import factors_before_products
from lapilli.quantize.merging.linear_map import (
    LinearMap,
    added,
    as_linear_map,
    composed,
    framed,
    scaled,
)
from lapilli.quantize.merging.offsets import offsets
from lapilli.quantize.merging.pools import padded_behind, sums_windows
from lapilli.quantize.merging.rows import rows_apart
from lapilli.quantize.merging.thresholds import factors_into_thresholds
from lapilli.quantize.merging.values import (
    LinearValue,
    cut,
    is_power,
    positions_of,
    refused,
    shortcut,
)


def merge(captured: Captured) -> Captured:
    """Merge where something needs it; the program itself if nothing does.

    Raises:
        QuantizeError: linear maps in a row that no single one equals; names the later.
    """
    captured = factors_into_thresholds(factors_before_products(captured))
    captured = rows_apart(captured)
    fuser = _Fuser(captured)
    for call in captured.calls.values():
        fuser.visit(call)
    return emit(captured, fuser.fused())


class _Fuser:
    """Fuse linear maps in a row, call by call, and note which of them the program needs."""

    def __init__(self, captured: Captured) -> None:
        self.captured = captured
        self.calls = dict(captured.calls)
        self.uses = Counter(i for call in captured.calls.values() for i in call.inputs)
        self.unread = self.uses.copy()  # what is still to be visited of them
        self.maps: dict[str, LinearValue] = {}
        self.must_fuse: set[str] = set()  # calls that only a merged map can replace
        self.currents: set[str] = set()  # values that are currents
        self.constants = dict(captured.constants)
        self.before: dict[str, list[Call]] = {}  # calls to put before another

    def fused(self) -> Fused:
        """Return what all calls visited came to."""
        return Fused(self.calls, self.maps, self.must_fuse, self.before, self.constants)

    def visit(self, call: Call) -> None:
        """Note whether the value is a linear map, and of what.

        Raises:
            QuantizeError: see `merge`.
        """
        inner = self.maps.get(call.inputs[0]) if call.inputs else None
        if isinstance(call.op, program.Synapse) or any(i in self.currents for i in call.inputs):
            self.currents.add(call.name)
        match call.op:
            case program.Neuron():
                self.currents.discard(call.name)
            case program.Synapse() as op:
                self._synapse(call, op, inner)
            case program.BatchNorm() | program.Affine():
                self._normalise(call, inner)
            case program.Pad() as pad if inner is not None:
                self._fuse(
                    call, inner, lambda: framed(inner.form, *frame_of(self.captured, call, pad))
                )
                self.maps[call.name] = replace(self.maps[call.name], dims=call.dims)
            case program.Scale(factor=factor) if inner is not None and inner.form.frame == (0, 0):
                size = len(inner.form.bias)
                form = scaled(inner.form, np.full(size, float(factor)), np.zeros(size))
                self.maps[call.name] = replace(inner, form=form, unnormalised=False)
            case program.Reshape() | program.Permute() | program.Slice() if inner is not None:
                self._wire(call, inner)
            case program.Add():
                self._plus(call)
            case program.Concat() if len({i in self.currents for i in call.inputs}) > 1:
                self._as_currents(call)
            case _:
                pass
        if call.name in self.must_fuse:  # large, and finished with: what it was merged from
            for name in call.inputs:
                if self.uses[name] == 1:
                    self.maps.pop(name, None)
        self.unread.subtract(call.inputs)
        for name in call.inputs:
            if not self.unread[name] and name not in self.must_fuse:
                self.maps.pop(name, None)

    def _synapse(self, call: Call, op: program.Synapse, inner: LinearValue | None) -> None:
        bias = None if op.bias is None else self.captured.array(op.bias)
        form = as_linear_map(op, self.captured.array(op.weight), bias)
        before = self.calls[call.inputs[0]]
        if inner is None and isinstance(before.op, program.Pad):
            op, form = padded(call, op, form, before.op)
            call = replace(call, op=op, inputs=before.inputs)
            self.calls[call.name] = call
        is_pool = sums_windows(op, form)
        if inner is None:
            on_current = call.inputs[0] in self.currents
            if is_pool and (on_current or padded_behind(self.captured, call.name)):
                self._sum_windows(call, form)
                return
            made = LinearValue(form, call.inputs[0], call.dims, (), (call.path,), unnormalised=True)
            self.maps[call.name] = made
            return
        try:
            if inner.positions is not None:
                raise refused(call, inner, "the result is reshaped or transposed in between")
            self._fuse(call, inner, lambda: composed(inner.form, form))
        except QuantizeError:
            if not is_pool:
                raise
            self._sum_windows(call, form)
            return
        self.maps[call.name] = replace(
            self.maps[call.name], dims=call.dims, wires=(), paths=(*inner.paths, call.path)
        )

    def _sum_windows(self, call: Call, form: LinearMap) -> None:
        """An average pool as sums: counts of spikes, or currents of currents."""
        source = self.calls[call.inputs[0]]
        windows = Windows(form.weight.shape[2:][: form.space], form.stride, form.padding)
        *self.before[call.name], last = window_sums(call.name, call.path, windows, source)
        self.calls[call.name] = replace(last, dims=call.dims)
        if source.name not in self.currents:
            self.currents.discard(call.name)

    def _normalise(self, call: Call, inner: LinearValue | None) -> None:
        if inner is None:
            if call.inputs[0] in self.currents:
                if shifts(self.captured, call) is not None:
                    self._offset(call)
                return  # a batch norm, or factors, of a membrane stream: `plan` says so
            inner = of_spikes(self.captured, call)
        elif (
            isinstance(call.op, program.BatchNorm)
            and inner.unnormalised
            and self._alone(call)
            and over_its_channels(call, inner)
        ):
            self.maps[call.name] = replace(
                inner, form=normalised(self.captured, call, inner), unnormalised=False
            )
            return
        own = inner
        try:
            self._fuse(call, own, lambda: normalised(self.captured, call, own))
        except QuantizeError as error:
            if shifts(self.captured, call) is not None:
                self._offset(call)
                return
            if not isinstance(call.op, program.Affine):
                raise
            raise QuantizeError(
                call.path,
                "multiplies by constants that differ within a channel; weights take one factor "
                "for each of their output channels",
            ) from error

    def _offset(self, call: Call) -> None:
        """Constants that differ within a channel, or of a stream, are a current that is added."""
        values = shifts(self.captured, call)
        if values is None:
            raise TypeError(f"{call.name} adds no constants")
        (operand,) = call.inputs
        source = self.calls[self._heard_by(operand)]
        before, constants = offsets(call.name, call.path, source, values)
        self.constants |= constants
        self.before[call.name] = before
        self.currents |= {call.name, before[-1].name}
        self.calls[call.name] = replace(call, op=program.Add(), inputs=(operand, before[-1].name))
        self._plus(self.calls[call.name])

    def _heard_by(self, name: str) -> str:
        """What the synapses behind a current hear; the value itself if it is no current."""
        while name in self.currents:
            if name in self.maps:
                return self.maps[name].source
            inputs = self.calls[name].inputs
            name = next((i for i in inputs if i in self.currents), inputs[0])
        return name

    def _alone(self, call: Call) -> bool:
        """Whether nobody else reads the linear map before this batch norm, and it the whole."""
        name = call.inputs[0]
        while isinstance(self.calls[name].op, program.Reshape | program.Permute):
            if self.uses[name] > 1:
                return False
            name = self.calls[name].inputs[0]
        return self.uses[name] == 1 and isinstance(self.calls[name].op, program.Synapse)

    def _wire(self, call: Call, inner: LinearValue) -> None:
        shape = step_shape(call.dims)
        positions = inner.positions
        idle = isinstance(call.op, program.Reshape) and shape == step_shape(
            self.calls[call.inputs[0]].dims
        )
        if inner.form.frame != (0, 0) and not idle:
            return
        if isinstance(op := call.op, program.Slice):  # of a merged map, too: it reads the whole
            self.maps[call.name] = cut(inner, call, op.axis, op.start, op.stop)
            return
        if not idle:
            positions = positions_of(inner)
            if isinstance(call.op, program.Permute):
                positions = positions.transpose(call.op.axes)
            positions = positions.reshape(shape)
            if shape == step_shape(inner.dims) and (np.diff(positions.ravel()) == 1).all():
                positions = None
        self.maps[call.name] = replace(inner, positions=positions, wires=(*inner.wires, call))
        if call.inputs[0] in self.must_fuse:
            self.must_fuse.add(call.name)

    def _plus(self, call: Call) -> None:
        a, b = call.inputs
        for name in (a, b):
            if name in self.maps and not is_power(self._constant_before(name)):
                self.must_fuse.add(name)  # no scale could hold it beside the other
        left, right = self.maps.get(a), self.maps.get(b)
        if left is not None and left.source == b and b not in self.currents:
            right = shortcut(left)
        elif right is not None and right.source == a and a not in self.currents:
            left = shortcut(right)
        if (
            left
            and right
            and left.source == right.source
            and left.positions is right.positions is None
        ):
            try:
                form = added(left.form, right.form)
            except ValueError:
                return  # two synapses whose currents meet: nothing to merge
            paths = tuple(dict.fromkeys((*left.paths, *right.paths)))
            self.maps[call.name] = replace(left, form=form, paths=paths, unnormalised=False)
            if {a, b} & self.must_fuse or not {a, b} <= self.currents:
                self.must_fuse.add(call.name)
        elif len({a in self.currents, b in self.currents}) > 1:
            self._as_currents(call)

    def _constant_before(self, name: str) -> Fraction:
        """The constants with which the author multiplied a linear map's result."""
        factor = Fraction(1)
        while isinstance(
            op := self.calls[name].op,
            program.Reshape | program.Permute | program.Slice | program.Scale,
        ):
            factor *= op.factor if isinstance(op, program.Scale) else 1
            name = self.calls[name].inputs[0]
        return factor

    def _as_currents(self, call: Call) -> None:
        """Spikes beside a current come through synapses of weight 1, one to one."""
        inputs = []
        for name in call.inputs:
            if name in self.currents:
                inputs.append(name)
                continue
            dims = (*self.calls[name].dims, ())
            one = f"{name}.current"
            weight = f"{one}.weight"
            self.constants[weight] = np.ones((1, 1))
            synapse = program.Synapse(weight=weight, bias=None, space=0)
            self.before[call.name] = [
                *self.before.get(call.name, ()),
                Call(f"{one}.in", program.Reshape(), (name,), call.path, dims),
                Call(one, synapse, (f"{one}.in",), call.path, dims),
                Call(f"{one}.out", program.Reshape(), (one,), call.path, self.calls[name].dims),
            ]
            inputs.append(f"{one}.out")
        self.calls[call.name] = replace(call, inputs=tuple(inputs))

    def _fuse(self, call: Call, inner: LinearValue, form: Callable[[], LinearMap]) -> None:
        try:
            made = form()
        except ValueError as error:
            raise refused(call, inner, str(error)) from error
        self.maps[call.name] = replace(inner, form=made, unnormalised=False)
        self.must_fuse.add(call.name)
