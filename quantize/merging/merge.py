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
from lapilli.ir.recipe import Note, NoteKind
from lapilli.model.capture import program
from lapilli.model.capture.axes import step_axes, step_shape
from lapilli.model.capture.program import Call, Captured, FloatArray, ancestors
from lapilli.quantize.merging.factors import factors_before_products
from lapilli.quantize.merging.linear_map import (
    LinearMap,
    added,
    as_linear_map,
    composed,
    framed,
    identity,
    scaled,
)
from lapilli.quantize.merging.values import (
    LinearValue,
    by_channel,
    channels_of,
    common_path,
    is_power,
    numbers,
    refused,
    shortcut,
    space_of,
)
from lapilli.quantize.merging.windows import padded_behind, sums_windows, window_sums


def merge(captured: Captured) -> Captured:
    """Merge where something needs it; the program itself if nothing does.

    Raises:
        QuantizeError: linear maps in a row that no single one equals; names the later.
    """
    captured = factors_before_products(captured)
    fuser = _Fuser(captured)
    for call in captured.calls.values():
        fuser.visit(call)
    return fuser.finish()


class _Fuser:
    """Fuse linear maps in a row, call by call, and keep all other calls as they are."""

    def __init__(self, captured: Captured) -> None:
        self.captured = captured
        self.calls = dict(captured.calls)
        self.uses = Counter(i for call in captured.calls.values() for i in call.inputs)
        self.maps: dict[str, LinearValue] = {}
        self.hard: set[str] = set()  # calls that only a merged map can replace
        self.real: set[str] = set()  # values that are currents
        self.constants = dict(captured.constants)
        self.extra: dict[str, list[Call]] = {}  # calls to put before another

    # ---- one call ----

    def visit(self, call: Call) -> None:
        """Note whether the value is a linear map, and of what.

        Raises:
            QuantizeError: see `merge`.
        """
        inner = self.maps.get(call.inputs[0]) if call.inputs else None
        if isinstance(call.op, program.Synapse) or any(i in self.real for i in call.inputs):
            self.real.add(call.name)
        match call.op:
            case program.Neuron():
                self.real.discard(call.name)
            case program.Synapse() as op:
                self._synapse(call, op, inner)
            case program.BatchNorm() | program.Affine():
                self._normalise(call, inner)
            case program.Pad() as pad if inner is not None:
                self._hard(call, inner, lambda: framed(inner.form, *self._frame(call, pad)))
                self.maps[call.name] = replace(self.maps[call.name], dims=call.dims)
            case program.Scale(factor=factor) if inner is not None and inner.form.frame == (0, 0):
                size = len(inner.form.bias)
                form = scaled(inner.form, np.full(size, float(factor)), np.zeros(size))
                self.maps[call.name] = replace(inner, form=form, bare=False)
            case program.Reshape() | program.Permute() if inner is not None:
                self._wire(call, inner)
            case program.Add():
                self._plus(call)
            case program.Concat() if len({i in self.real for i in call.inputs}) > 1:
                self._as_currents(call)
            case _:
                pass
        if call.name in self.hard:  # large, and finished with: what it was merged from
            for name in call.inputs:
                if self.uses[name] == 1:
                    self.maps.pop(name, None)

    def _synapse(self, call: Call, op: program.Synapse, inner: LinearValue | None) -> None:
        bias = None if op.bias is None else self.captured.array(op.bias)
        form = as_linear_map(op, self.captured.array(op.weight), bias)
        before = self.calls[call.inputs[0]]
        if inner is None and isinstance(before.op, program.Pad):
            op, form = self._padded(call, op, form, before)
            call = replace(call, op=op, inputs=before.inputs)
            self.calls[call.name] = call
        is_pool = sums_windows(op, form)
        if inner is None:
            if is_pool and (call.inputs[0] in self.real or padded_behind(self.captured, call.name)):
                self._sum_windows(call, form)
                return
            made = LinearValue(form, call.inputs[0], call.dims, (), (call.path,), bare=True)
            self.maps[call.name] = made
            return
        try:
            if inner.places is not None:
                raise refused(call, inner, "the result is reshaped or transposed in between")
            self._hard(call, inner, lambda: composed(inner.form, form))
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
        *self.extra[call.name], self.calls[call.name] = window_sums(call, form, source)
        if source.name not in self.real:
            self.real.discard(call.name)

    def _padded(
        self, call: Call, op: program.Synapse, form: LinearMap, before: Call
    ) -> tuple[program.Synapse, LinearMap]:
        """Zeros around spikes, then a convolution: the convolution's own padding."""
        pad = before.op
        if not isinstance(pad, program.Pad) or pad.fill is not None or pad.before != pad.after:
            raise QuantizeError(
                call.path, "pads spikes unevenly, or with something else than zeros"
            )
        rows, columns = pad.before if op.space == 2 else (pad.before[1], pad.before[0])
        if op.space == 0 or (op.space == 1 and columns):
            raise QuantizeError(call.path, "pads the axis over which a linear map runs")
        padding = (op.padding[0] + rows, op.padding[1] + columns)
        return replace(op, padding=padding), replace(form, padding=padding)

    def _frame(self, call: Call, pad: program.Pad) -> tuple[tuple[int, int], FloatArray]:
        channels = step_shape(call.dims)[0]
        fill = np.zeros(channels) if pad.fill is None else self.captured.constants[pad.fill]
        wide = {(s, first) for s in (0, 1) for first in (True, False) if pad.before[s]}
        if pad.before != pad.after or (pad.fill is not None and pad.sides != wide):
            raise ValueError("the padding is uneven, or not filled on every side")
        return pad.before, fill

    def _normalise(self, call: Call, inner: LinearValue | None) -> None:
        if inner is None:
            if call.inputs[0] in self.real:
                return  # a batch norm of a membrane stream: `plan` says so
            inner = self._silent(call)
        elif isinstance(call.op, program.BatchNorm) and inner.bare and self._alone(call):
            self.maps[call.name] = replace(inner, form=self._applied(call, inner), bare=False)
            return
        own = inner
        self._hard(call, own, lambda: self._applied(call, own))

    def _silent(self, call: Call) -> LinearValue:
        """Constants on spikes: the identity, to be scaled."""
        shape = step_shape(call.dims)
        space = len(shape) - 1
        if not isinstance(call.op, program.BatchNorm):
            space = space_of(self.captured, call, shape)
        form = identity(shape[0] if space else shape[-1], space)
        return LinearValue(form, call.inputs[0], call.dims, (), (call.path,))

    def _alone(self, call: Call) -> bool:
        """Whether nobody else reads the linear map before this batch norm."""
        name = call.inputs[0]
        while isinstance(self.calls[name].op, program.Reshape | program.Permute):
            if self.uses[name] > 1:
                return False
            name = self.calls[name].inputs[0]
        return self.uses[name] == 1

    def _applied(self, call: Call, inner: LinearValue) -> LinearMap:
        """The map, scaled and shifted by a batch norm or by constants."""
        factor, shift = self._elements(call)
        channels = channels_of(inner)
        return scaled(
            inner.form, *(by_channel(v, channels, len(inner.form.bias)) for v in (factor, shift))
        )

    def _elements(self, call: Call) -> tuple[FloatArray, FloatArray]:
        """Factor and shift of each element of one time step."""
        shape, op = step_shape(call.dims), call.op
        if isinstance(op, program.BatchNorm):
            factor, shift = self.captured.normalisation(op)
            axis = step_axes(call.dims)[1] or 0
            along = [-1 if a == axis else 1 for a in range(len(shape))]
            factor, shift = factor.reshape(along), shift.reshape(along)
        elif isinstance(op, program.Affine):
            given = self.captured.constants
            factor = np.ones(()) if op.factor is None else given[op.factor]
            shift = np.zeros(()) if op.shift is None else given[op.shift]
        else:
            raise TypeError(f"{call.name} scales nothing")
        return np.broadcast_to(factor, shape), np.broadcast_to(shift, shape)

    def _wire(self, call: Call, inner: LinearValue) -> None:
        shape = step_shape(call.dims)
        places = inner.places
        idle = isinstance(call.op, program.Reshape) and shape == step_shape(
            self.calls[call.inputs[0]].dims
        )
        if inner.form.frame != (0, 0) and not idle:
            return
        if not idle:
            places = numbers(inner)
            if isinstance(call.op, program.Permute):
                places = places.transpose(call.op.axes)
            places = places.reshape(shape)
            if shape == step_shape(inner.dims) and (np.diff(places.ravel()) == 1).all():
                places = None
        self.maps[call.name] = replace(inner, places=places, wires=(*inner.wires, call))
        if call.inputs[0] in self.hard:
            self.hard.add(call.name)

    def _plus(self, call: Call) -> None:
        a, b = call.inputs
        for name in (a, b):
            if name in self.maps and not is_power(self._constant_before(name)):
                self.hard.add(name)  # no scale could hold it beside the other
        left, right = self.maps.get(a), self.maps.get(b)
        if left is not None and left.source == b and b not in self.real:
            right = shortcut(left)
        elif right is not None and right.source == a and a not in self.real:
            left = shortcut(right)
        if left and right and left.source == right.source and left.places is right.places is None:
            try:
                form = added(left.form, right.form)
            except ValueError:
                return  # two synapses whose currents meet: nothing to merge
            paths = tuple(dict.fromkeys((*left.paths, *right.paths)))
            self.maps[call.name] = replace(left, form=form, paths=paths, bare=False)
            if {a, b} & self.hard or not {a, b} <= self.real:
                self.hard.add(call.name)
        elif len({a in self.real, b in self.real}) > 1:
            self._as_currents(call)

    def _constant_before(self, name: str) -> Fraction:
        """The constants with which the author multiplied a linear map's result."""
        factor = Fraction(1)
        while isinstance(
            op := self.calls[name].op, program.Reshape | program.Permute | program.Scale
        ):
            factor *= op.factor if isinstance(op, program.Scale) else 1
            name = self.calls[name].inputs[0]
        return factor

    def _as_currents(self, call: Call) -> None:
        """Spikes beside a current come through synapses of weight 1, one to one."""
        inputs = []
        for name in call.inputs:
            if name in self.real:
                inputs.append(name)
                continue
            dims = (*self.calls[name].dims, ())
            one = f"{name}.current"
            weight = f"{one}.weight"
            self.constants[weight] = np.ones((1, 1))
            synapse = program.Synapse(weight=weight, bias=None, space=0)
            self.extra[call.name] = [
                Call(f"{one}.in", program.Reshape(), (name,), call.path, dims),
                Call(one, synapse, (f"{one}.in",), call.path, dims),
                Call(f"{one}.out", program.Reshape(), (one,), call.path, self.calls[name].dims),
            ]
            inputs.append(f"{one}.out")
        self.calls[call.name] = replace(call, inputs=tuple(inputs))

    def _hard(self, call: Call, inner: LinearValue, form: Callable[[], LinearMap]) -> None:
        try:
            made = form()
        except ValueError as error:
            raise refused(call, inner, str(error)) from error
        self.maps[call.name] = replace(inner, form=made, bare=False)
        self.hard.add(call.name)

    # ---- the program ----

    def finish(self) -> Captured:
        """Emit merged maps for what needs them, and drop what nobody reads any more."""
        needed = ancestors([self.captured.output], self._read_by)
        made: dict[str, Call] = {}
        notes = list(self.captured.notes)
        for call in self.calls.values():
            if call.name not in needed and call.inputs:
                continue
            new = [*self.extra.get(call.name, ()), call]
            if call.name in self.hard:
                new = self._merged(call, notes)
            made.update({c.name: c for c in new})
        return replace(
            self.captured, calls=made, constants=self.constants, notes=tuple(dict.fromkeys(notes))
        )

    def _read_by(self, name: str) -> list[str]:
        """The calls that a call will read once it is merged."""
        own = [self.maps[name].source] if name in self.hard else self.calls[name].inputs
        beside = (i for c in self.extra.get(name, ()) for i in c.inputs)
        return [i for i in (*own, *beside) if i in self.calls]

    def _merged(self, call: Call, notes: list[Note]) -> list[Call]:
        """A merged map, and the wires behind it."""
        mine = self.maps[call.name]
        form = mine.form
        if form.frame != (0, 0):
            raise QuantizeError(call.path, "pads a value that no convolution takes up")
        path = common_path(mine.paths)
        if len(mine.paths) > 1:
            text = f"{len(mine.paths)} linear maps merged: {', '.join(mine.paths)}"
            notes.append(Note(NoteKind.MERGED, path, text))
        name = call.name if not mine.wires else f"{call.name}.merged"
        weight, bias = f"{call.name}.weight", f"{call.name}.bias"
        kernel = form.weight.reshape(form.weight.shape[: 2 + form.space])
        self.constants[weight], self.constants[bias] = kernel, form.bias
        op = program.Synapse(
            weight=weight,
            bias=bias,
            space=form.space,
            stride=form.stride,
            padding=form.padding,
            groups=form.groups,
        )
        calls = [Call(name, op, (mine.source,), path, mine.dims)]
        for number, wire in enumerate(mine.wires, 1):
            last = number == len(mine.wires)
            after = call.name if last else f"{call.name}.{number}"
            calls.append(replace(wire, name=after, inputs=(calls[-1].name,)))
        return calls
