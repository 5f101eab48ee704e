"""What leaves an imported network, as the file's metadata says that it is to be read."""

from __future__ import annotations

import math

from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.building import Building, Value
from lapilli.export.nir.read.metadata import Facts
from lapilli.ir import ops
from lapilli.ir.tensor import IntTensor


def answer(building: Building, facts: Facts, value: Value) -> Value:
    """Add what the host makes of the network's output; return the value of the answer.

    Raises:
        MalformedError: the output is wired in a way that no permutation of axes undoes.
    """
    if (layout := facts.output_layout) is not None:
        value = _wired(building, value, *layout)
    if units := facts.output_units:
        value = _whole(building, value, units)
    if facts.accumulates:
        name = building.name(facts.output_name)
        value = Value(building.add(name, ops.Readout(), value.name), value.unit)
    return value


def _whole(building: Building, x: Value, units: tuple[int, ...]) -> Value:
    """One number of the limbs (limbs, ...) of each."""
    _, *shape = building.types[x.name].shape
    axes = (*range(1, len(shape) + 1), 0)
    last = building.add(building.name("output.limbs"), ops.Permute(axes=axes), x.name)
    op = ops.Linear(weight=IntTensor.of([units]), bias=IntTensor.of([0]), graded=True)
    whole = building.add(building.name("output.whole"), op, last)
    plain = building.add(building.name("output.numbers"), ops.Reshape(shape=tuple(shape)), whole)
    return Value(plain, x.unit)


def _wired(building: Building, x: Value, shape: tuple[int, ...], strides: tuple[int, ...]) -> Value:
    """Undo wiring that a permutation of axes can say."""
    axes = sorted(range(len(shape)), key=lambda a: (-strides[a], shape[a] == 1))
    stored = tuple(shape[a] for a in axes)
    plain = tuple(math.prod(stored[i + 1 :]) for i in range(len(stored)))
    there = tuple(strides[a] if shape[a] > 1 else p for a, p in zip(axes, plain, strict=True))
    if there != plain or math.prod(shape) != math.prod(building.types[x.name].shape):
        raise MalformedError("its output is wired in a way that no permutation of axes undoes")
    name = x.name
    if stored != building.types[name].shape:
        name = building.add(building.name("output.shape"), ops.Reshape(shape=stored), name)
    if axes != sorted(axes):
        back = tuple(axes.index(a) for a in range(len(axes)))
        name = building.add(building.name("output.order"), ops.Permute(axes=back), name)
    return Value(name, x.unit)
