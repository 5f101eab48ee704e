"""What every emitted sequence is written with: addresses, vectors, loads that need no alignment.

The modules beside this one (`adding`, `multiplying`, `firing`) emit inner loops in LLVM's
vectors: what a compiler would not make of loops over arrays. LLVM makes them fit the machine
(AVX-512, AVX2, NEON). Arrays are C-contiguous; nothing is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

alloca_once: Callable[..., Any] = cgutils.alloca_once
I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def vector(element: ir.Type, count: int) -> ir.Type:
    """A type."""
    return ir.VectorType(element, count)


def filled(kind: ir.Type, value: int) -> ir.Constant:
    """A constant whose elements are all `value`."""
    return ir.Constant(kind, [value] * kind.count)


def pointers(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
    """Each argument; of an array, the address of its first element, as bytes."""
    found = []
    for kind, value in zip(signature.args, args, strict=True):
        if isinstance(kind, types.Array):
            data = context.make_array(kind)(context, builder, value).data
            found.append(builder.bitcast(data, I8.as_pointer()))
        else:
            found.append(value)
    return found


def room(builder: Any, kind: ir.Type) -> Any:
    """Where a variable lives; LLVM makes it a register."""
    return alloca_once(builder, kind)


def load(builder: Any, base: Any, offset: Any, kind: ir.Type) -> Any:
    """What stands `offset` bytes behind `base`."""
    where = builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())
    value = builder.load(where)
    value.align = 1
    return value


def store(builder: Any, value: Any, base: Any, offset: Any) -> None:
    """Write `value` `offset` bytes behind `base`."""
    where = builder.bitcast(builder.gep(base, [offset]), value.type.as_pointer())
    builder.store(value, where).align = 1


def times(builder: Any, value: Any, factor: int) -> Any:
    """A product of 64 bits."""
    return builder.mul(value, I64(factor))


def spread(builder: Any, value: Any, kind: ir.Type) -> Any:
    """A vector whose elements are all `value`."""
    undefined = ir.Constant(kind, ir.Undefined)
    single = builder.insert_element(undefined, value, I32(0))
    return builder.shuffle_vector(single, undefined, vector(I32, kind.count)(None))
