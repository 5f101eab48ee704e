"""What leaves an imported network, as the file's metadata says that it is to be read."""

from __future__ import annotations

import math

from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.builder import BoundedBuilder, ImportedValue
from lapilli.export.nir.read.metadata import Facts
from lapilli.ir import ops
from lapilli.ir.tensor import IntTensor


def answer(builder: BoundedBuilder, facts: Facts, value: ImportedValue) -> ImportedValue:
    """Add what the host makes of the network's output; return the value of the answer.

    Raises:
        MalformedError: the output is wired in a way that no permutation of axes undoes.
    """
    if (layout := facts.output_layout) is not None:
        value = _wired(builder, value, *layout)
    if units := facts.output_units:
        value = _whole(builder, value, units)
    if facts.accumulates:
        name = builder.free(facts.output_name)
        value = ImportedValue(builder.put(name, ops.Readout(), value.name), value.unit)
    return value


def _whole(builder: BoundedBuilder, x: ImportedValue, units: tuple[int, ...]) -> ImportedValue:
    """One number of the words (words, ...) of each."""
    _, *shape = builder.types[x.name].shape
    axes = (*range(1, len(shape) + 1), 0)
    last = builder.put(builder.free("output.words"), ops.Permute(axes=axes), x.name)
    op = ops.Linear(weight=IntTensor.of([units]), bias=IntTensor.of([0]), graded=True)
    whole = builder.put(builder.free("output.whole"), op, last)
    plain = builder.put(builder.free("output.numbers"), ops.Reshape(shape=tuple(shape)), whole)
    return ImportedValue(plain, x.unit)


def _wired(
    builder: BoundedBuilder, x: ImportedValue, shape: tuple[int, ...], strides: tuple[int, ...]
) -> ImportedValue:
    """Undo wiring that a permutation of axes can say."""
    axes = sorted(range(len(shape)), key=lambda a: (-strides[a], shape[a] == 1))
    stored = tuple(shape[a] for a in axes)
    plain = tuple(math.prod(stored[i + 1 :]) for i in range(len(stored)))
    there = tuple(strides[a] if shape[a] > 1 else p for a, p in zip(axes, plain, strict=True))
    if there != plain or math.prod(shape) != math.prod(builder.types[x.name].shape):
        raise MalformedError("its output is wired in a way that no permutation of axes undoes")
    name = x.name
    if stored != builder.types[name].shape:
        name = builder.put(builder.free("output.shape"), ops.Reshape(shape=stored), name)
    if axes != sorted(axes):
        back = tuple(axes.index(a) for a in range(len(axes)))
        name = builder.put(builder.free("output.order"), ops.Permute(axes=back), name)
    return ImportedValue(name, x.unit)
