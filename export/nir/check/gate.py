"""What `nir.read` asks of a file before any framework's importer sees it.

`nir.read` makes a node of each group, with constructors that compare shapes, and then follows
the shapes along the edges. A file that it raises on runs nowhere, whatever an importer would
make of its nodes. The same questions are asked here of a file that was read without trust
(`read.reader`), without the package `nir`.

Source: nir 1.0.8, `nir/ir/*.py`; tests/export/test_nir_gate.py compares with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lapilli.export.nir.read.nodes import NirNode
from lapilli.export.nir.read.reader import NirFile
from lapilli.ir.errors import Unsupported

Shape: TypeAlias = npt.NDArray[Any]

_THE_GRAPH = "(the graph)"
# Fields of neurons whose shapes must be equal; the first is the shape of the node.
_EQUAL: Mapping[str, tuple[str, ...]] = {
    "I": ("r",),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("r", "tau", "v_leak"),
    "LIF": ("r", "tau", "v_leak", "v_reset", "v_threshold"),
    "CubaLI": ("v_leak", "tau_syn", "tau_mem", "r"),
    "CubaLIF": ("v_threshold", "tau_syn", "tau_mem", "r", "v_leak", "v_reset"),
    "Scale": ("scale",),
    "Delay": ("delay",),
    "Threshold": ("threshold",),
}
# What NumPy raises where `nir` computes with numbers of a stranger.
_ARITHMETIC = (IndexError, OverflowError, TypeError, ValueError)


@dataclass(slots=True)
class _Type:
    """Shapes of what a node takes and gives; None until edges say them."""

    given: Shape | None = None
    made: Shape | None = None


class _NodeError(Exception):
    """Internal: a sentence about a node, before its name is known."""


def unsupported(file: NirFile) -> tuple[Unsupported, ...]:
    """List why `nir.read` raises on this file, by node; empty if it returns a graph."""
    found = [Unsupported(_THE_GRAPH, f"has a field {f!r}, which no NIRGraph takes")
             for f in file.old_fields]  # fmt: skip
    kinds = {node.type for node in file.nodes.values()}
    found += [Unsupported(_THE_GRAPH, f"has no node of type {kind}")
              for kind in ("Input", "Output") if kind not in kinds]  # fmt: skip
    types: dict[str, _Type] = {}
    for name, node in file.nodes.items():
        try:
            types[name] = _constructed(node)
        except _NodeError as error:
            found.append(Unsupported(name, str(error)))
    if found:
        return tuple(found)
    found = _inferred(file, types)
    known = {fault.node for fault in found}
    for source, target in file.edges:
        if not {source, target} & known and (fault := _edge(types, source, target)):
            found.append(Unsupported(target, fault))
    return tuple(found)


def _edge(types: Mapping[str, _Type], source: str, target: str) -> str | None:
    """Say what is wrong with an edge, if anything is."""
    made, given = types[source].made, types[target].given
    if made is None or given is None:
        return f"nothing says the shape of what comes from {source!r}"
    if np.array_equal(made, given):
        return None
    return f"takes {_listed(given)}, and is given {_listed(made)} by {source!r}"


def _constructed(node: NirNode) -> _Type:
    """Ask what the constructor of a node asks, and return the shapes that it finds."""
    fields = node.arrays
    if node.type in ("Input", "Output"):
        if not fields["shape"].ndim:
            raise _NodeError("shape is a single number, not a list of one")
        return _Type(fields["shape"], fields["shape"])
    if node.type in ("Affine", "Linear"):
        out, width = fields["weight"].shape
        return _Type(np.array([width]), np.array([out]))
    if node.type in ("Conv1d", "Conv2d"):
        return _convolution(node)
    if node.type in ("SumPool2d", "AvgPool2d"):
        return _Type()
    if node.type == "Flatten":
        if "input_type" not in fields:
            return _Type()
        if not fields["input_type"].ndim:
            raise _NodeError("input_type is a single number, not a list of one")
        return _Type(fields["input_type"], _flattened(node, fields["input_type"]))
    return _elementwise(node)


def _elementwise(node: NirNode) -> _Type:
    first, *others = (f for f in _EQUAL[node.type] if f in node.arrays)
    shape = node.arrays[first].shape
    for field in others:
        if node.arrays[field].shape != shape:
            found = [list(node.arrays[f].shape) for f in (first, field)]
            raise _NodeError(f"{first} has shape {found[0]}, and {field} {found[1]}")
    if "w_in" in node.arrays:
        try:
            np.broadcast_shapes(shape, node.arrays["w_in"].shape)
        except ValueError as error:
            found = [list(shape), list(node.arrays["w_in"].shape)]
            raise _NodeError(f"{first} has shape {found[0]}, and w_in {found[1]}") from error
    return _Type(np.array(shape), np.array(shape))


def _convolution(node: NirNode) -> _Type:
    if "input_shape" not in node.arrays:
        raise _NodeError("has no input_shape, which its constructor wants")
    size, weight = node.arrays["input_shape"], node.arrays["weight"]
    if bool(size.ndim) is not (node.type == "Conv2d"):
        wanted = "a list" if node.type == "Conv2d" else "a single number"
        raise _NodeError(f"input_shape {_listed(size)} must be {wanted}")
    flat = np.atleast_1d(size)
    made = _windows(node, flat, np.array(weight.shape[2]))
    return _Type(np.array([weight.shape[1], *flat]), np.array([weight.shape[0], *made]))


def _inferred(file: NirFile, types: Mapping[str, _Type]) -> list[Unsupported]:
    """Follow shapes from the inputs along the edges, into the nodes that state none."""
    after: dict[str, list[str]] = {name: [] for name in file.nodes}
    for source, target in file.edges:
        after[source].append(target)
    found = []
    ready = [name for name, node in file.nodes.items() if node.type == "Input"]
    seen = set(ready)
    while ready:
        made = types[source := ready.pop()].made
        for target in after[source]:
            if target in seen:
                continue
            seen.add(target)
            kind, node = types[target], file.nodes[target]
            if kind.given is None and made is not None:
                kind.given = made
                try:
                    kind.made = _flattened(node, made) if node.type == "Flatten" else _pooled(
                        node, made
                    )  # fmt: skip
                except _NodeError as error:
                    found.append(Unsupported(target, str(error)))
            ready.append(target)
    return found


def _pooled(node: NirNode, given: Shape) -> Shape:
    if not given.size:
        raise _NodeError("pools a value without axes")
    return np.array([given[0], *_windows(node, given[1:], node.arrays["kernel_size"])])


def _windows(node: NirNode, size: Shape, kernel: Shape) -> list[int]:
    """Count the windows along each axis as `nir` does, in the types of the file's numbers."""
    if node.texts.get("padding") == "same":
        return [int(n) for n in size]
    padding = node.arrays.get("padding", np.array(0))  # "valid"
    dilation = node.arrays.get("dilation", np.array(1))  # pools have none
    made = []
    try:
        with np.errstate(all="ignore"):
            for i, n in enumerate(size):
                p, d, k, s = (
                    value[i] if value.ndim else value[()]
                    for value in (padding, dilation, kernel, node.arrays["stride"])
                )
                made.append(int(np.floor((n + 2 * p - d * (k - 1) - 1) / s + 1)))
    except _ARITHMETIC as error:
        raise _NodeError(f"has no shape for an input of {_listed(size)} ({error})") from error
    return made


def _flattened(node: NirNode, given: Shape) -> Shape:
    first, last = node.field("start_dim")[()], node.field("end_dim")[()]
    with np.errstate(all="ignore"):
        stop = None if last == -1 else last + 1
        before: Any = given[:first] if first != 0 else []
        after: Any = given[stop:] if stop is not None and last != len(given) - 1 else []
        made = np.array([*before, np.prod(given[first:stop]), *after])
        if np.prod(made) != np.prod(given):
            raise _NodeError(f"axes {first} to {last} of {_listed(given)} hold other numbers")
    return made


def _listed(shape: Shape) -> Any:
    return shape.tolist()
