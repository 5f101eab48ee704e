"""The end of a network that computes across its time steps: a linear map, which is the host's.

No chip adds up steps by weights of their own. What stands before, one value for each step, is the
network's output; what follows is shown to be a linear map of all steps together, and its numbers
are read off by derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.node import map_arg

from lapilli.model.capture import axes
from lapilli.model.capture.axes import Dims
from lapilli.model.capture.host_map import HostMap
from lapilli.model.capture.program import Call, ancestors

_MOST = 1 << 26  # numbers of a map
_NEAR = 1e-9  # the author's weights are floats: their sums round, here and there
_SIZES = (1.0, 2.0**10, 2.0**20)  # of values: a bound that small ones do not meet is no linear map


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """The nodes behind one value, up to an answer.

    Attributes:
        value: that they begin with; node: of the exported graph.
        answer: the last node; nodes: all of them, in order.
        constant: the value of a node that depends on parameters alone, or None.
        T, batch: sizes.
    """

    value: Call
    node: Any
    answer: Any
    nodes: Sequence[Any]
    constant: Callable[[str], Any]
    T: int
    batch: int

    def batch_axis(self) -> int | None:
        """Which axis of the answer holds the samples, if one does."""
        shape = tuple(self.answer.meta["val"].shape)
        return shape.index(self.batch) if shape.count(self.batch) == 1 else None

    def run(self, steps: Tensor) -> Tensor:
        """Values (T, B, ...) through all nodes; the answer with its samples first, flat behind."""
        places = np.arange(steps.numel()).reshape(self.T, self.batch, *axes.step_shape(self.dims))
        order = torch.from_numpy(np.ascontiguousarray(axes.from_steps(places, self.dims)))
        known: dict[str, Any] = {self.node.name: steps.reshape(-1)[order]}

        def argument(node: Any) -> Any:
            return known[node.name] if node.name in known else self.constant(node.name)

        for node in self.nodes:
            args, kwargs = map_arg((node.args, dict(node.kwargs)), argument)
            known[node.name] = node.target(*args, **kwargs)
        answer: Tensor = known[self.answer.name]
        return answer.movedim(self.batch_axis() or 0, 0).flatten(1)

    @property
    def dims(self) -> Dims:
        """Axes of the value that they begin with."""
        return self.value.dims


def tail_of(
    answer: Any,
    hosted: Mapping[Any, Exception],
    values: Mapping[str, Call],
    constant: Callable[[str], Any],
    T: int,
    batch: int,
) -> Tail | None:
    """Find where the nodes behind an answer that no chip computes begin; None if not at one value.

    Args:
        answer: the node; it is among `hosted`.
        hosted: nodes that no rule could translate, or that follow one.
        values: of the other nodes, by name.
        constant: the value of a node that depends on parameters alone, or None.
        T: time steps.
        batch: samples.
    """
    mine = _within(answer, hosted)
    while True:
        begin = {
            given
            for node in mine
            for given in node.all_input_nodes
            if given not in mine and constant(given.name) is None
        }
        pooled = {n for n in begin if n.name in values and not axes.has(values[n.name].dims, "T")}
        if not pooled or any(n.op == "placeholder" for n in pooled):
            break
        mine |= pooled  # what a rule took of the steps is taken of them here
    if len(begin) != 1 or (value := values.get(next(iter(begin)).name)) is None:
        return None
    if not axes.has(value.dims, "T"):
        return None
    nodes = [n for n in answer.graph.nodes if n in mine]
    return Tail(value, next(iter(begin)), answer, nodes, constant, T, batch)


def _within(answer: Any, hosted: Iterable[Any]) -> set[Any]:
    known = set(hosted)
    return {*ancestors([answer], lambda n: [i for i in n.all_input_nodes if i in known])}


def host_map(tail: Tail) -> HostMap | None:
    """Read a tail's numbers off by derivatives; None if it is no linear map of samples alone."""
    shape = (tail.T, tail.batch, *axes.step_shape(tail.dims))
    if tail.batch_axis() is None:
        return None
    steps = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    try:
        with torch.enable_grad():
            answer = tail.run(steps)
            found = _scalars(tail, steps, answer) or _matrix(tail, steps, answer)
        drawn = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = [tail.run(drawn * size) for size in _SIZES]
    except RuntimeError:  # without a derivative, it is no linear map
        return None
    if found is None:
        return None
    got = [found.of(drawn * size).flatten(1) for size in _SIZES]
    near = all(
        mine.shape == theirs.shape and torch.allclose(mine, theirs, _NEAR, _NEAR * size)
        for mine, theirs, size in zip(got, expected, _SIZES, strict=True)
    )
    return found if near else None


def _scalars(tail: Tail, steps: Tensor, answer: Tensor) -> HostMap | None:
    """One weight for each step, where the answer has the elements of one step."""
    if answer.shape[1] != math.prod(steps.shape[2:]) or bool(answer.any()):
        return None
    if tuple(tail.answer.meta["val"].shape) != _without_time(tail):
        return None
    (given,) = torch.autograd.grad(answer.sum(), steps, retain_graph=True)
    rows = given.flatten(1)
    if not torch.equal(rows, rows[:, :1].expand_as(rows)):
        return None
    return HostMap(rows[:, 0].detach().numpy().copy(), np.zeros(0))


def _without_time(tail: Tail) -> tuple[int, ...]:
    return (tail.batch, *axes.step_shape(tail.dims))


def _matrix(tail: Tail, steps: Tensor, answer: Tensor) -> HostMap | None:
    """One weight for each element of each step, for each of K numbers."""
    count = answer.shape[1]
    size = tail.T * math.prod(steps.shape[2:])
    if len(tail.answer.meta["val"].shape) != 2 or count * size > _MOST:
        return None
    rows = []
    for k in range(count):
        (given,) = torch.autograd.grad(answer[0, k], steps, retain_graph=True)
        rows.append(given[:, 0].flatten().numpy().copy())
    return HostMap(np.stack(rows), answer[0].detach().numpy().copy())
