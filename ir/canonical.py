"""The text that digests are made of: the same on every machine, and in every later version."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from lapilli.ir.tensor import IntTensor


def canonical(value: Any) -> str:
    """Write a dataclass with the fields that are not at their default, nested ones likewise.

    A later version of lapilli, whose classes have more fields, writes the same text for what is
    the same: a new field has a default that means what was meant before. Fields that do not make
    two of them different are left out.

    >>> from lapilli.ir import ops
    >>> canonical(ops.Sum(axes=(1,))), canonical(ops.Relu())
    ('Sum(axes=(1,))', 'Relu()')
    """
    if not is_dataclass(value) or isinstance(value, IntTensor):
        return repr(value)
    told = []
    for f in fields(value):
        held = getattr(value, f.name)
        if not f.compare:
            continue
        if f.default is MISSING or held != f.default:
            told.append(f"{f.name}={canonical(held)}")
    return f"{type(value).__name__}({', '.join(told)})"
